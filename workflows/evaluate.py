"""`structgen evaluate`: structures beside the truth, whether a run has made them or a model makes them now, by one set of measures.

One row a target goes to `rows.jsonl` as soon as it is known; the same command goes on where it was cut off. The summary is
`evaluation.json`, its tables `evaluation.md`, a line a sample `evaluation.csv`; pictures are `calibration.png`,
`accuracy.png` and `structures.png`.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from structgen.errors import ConfigError
from structgen.store import replace_file
from workflows.evaluation_pictures import draw_accuracy, draw_calibration, draw_structures
from workflows.evaluation_tables import report
from workflows.scoreboard import summarise

log = logging.getLogger(__name__)
Row = dict[str, Any]
ROWS = "rows.jsonl"
SHOWN = ("lddt", "lddt_all_atom", "tm", "gdt_ts", "rmsd", "dockq", "clashes", "ca_ca", "bonds_right", "chirality_right", "plddt", "ptm")


class Source(ABC):
    """Targets with a truth, and predictions of them."""

    @abstractmethod
    def protocol(self) -> Row:
        """What decides the rows beside the targets (plain JSON): rows made under another one never mix with these."""

    @abstractmethod
    def targets(self) -> Sequence[str]:
        """Keys of what is judged, in order: equal keys give equal rows."""

    @abstractmethod
    def row(self, key: str) -> Row:
        """The row of a target.

        `target`, `length` (residues), `identity` (bin of the nearest known relative, or empty), `seconds`; `template`: the best one found,
        or None; `baselines`: scores by name, None where nothing was found; `predictions`: by evidence, the `samples` (`metrics.sample`),
        the number that is `ranked` first, and, where structures are searched, `closed`: the scores of the best template, its gaps closed;
        of a model also `identity`, `template` and `copied` where the evidence finds templates of its own.
        """

    def facts(self) -> Row:
        """What else the summary says."""
        return {}


def evaluate(source: Source, out: Path) -> Row:
    """Judge all targets and write everything into the folder. Returns the summary, which counts the source's targets alone."""
    out.mkdir(parents=True, exist_ok=True)
    protocol = json.loads(json.dumps(source.protocol()))
    known = {row["key"]: row for row in read_rows(out / ROWS, protocol)}
    found = []
    with open(out / ROWS, "a", encoding="utf-8") as handle:
        for key in source.targets():
            if key not in known:
                known[key] = {"key": key, **source.row(key)}
                handle.write(json.dumps(known[key]) + "\n")
                handle.flush()
                log.info("%s", _said(known[key]))
            found.append(known[key])
    summary = {"protocol": protocol, **source.facts(), **summarise(found)}
    write(summary, found, out)
    return summary


def _said(row: Row) -> str:
    parts = [f"{row['target']} n={row['length']}"]
    for name, own in row["predictions"].items():
        ranked = own["samples"][own["ranked"]]
        parts.append(f"{name}: lDDT {ranked['lddt']:.3f} TM {ranked['tm']:.3f} pLDDT {ranked['plddt']:.0f}")
    return ", ".join([*parts, f"{row['seconds']:.0f} s"])


def read_rows(path: Path, protocol: Row) -> list[Row]:
    """The rows of an earlier start of the same evaluation; a last line that was cut off is dropped.

    Raises `ConfigError` if the file belongs to another evaluation.
    """
    head = {"protocol": protocol}
    if not path.exists():
        replace_file(path, (json.dumps(head) + "\n").encode())
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not lines or json.loads(lines[0]) != head:
        raise ConfigError(f"{path}: these rows belong to another model or other settings; give another --out or remove the file")
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        replace_file(path, "".join(whole).encode())
    return [json.loads(line) for line in whole[1:]]


def write(summary: Row, rows: Sequence[Row], out: Path) -> None:
    """Summary, tables and pictures; these where matplotlib is installed."""
    replace_file(out / "evaluation.json", (json.dumps(summary, indent=1) + "\n").encode())
    replace_file(out / "evaluation.md", (report(summary) + "\n").encode())
    text = io.StringIO()
    table = csv.DictWriter(text, ["target", "length", "evidence", "sample", "ranked", *SHOWN], extrasaction="ignore")
    table.writeheader()
    for row in rows:
        for evidence, own in row["predictions"].items():
            for k, sample in enumerate(own["samples"]):
                place = {"target": row["target"], "length": row["length"], "evidence": evidence, "ranked": int(k == own["ranked"])}
                table.writerow(place | sample)
    replace_file(out / "evaluation.csv", text.getvalue().encode())
    draw_calibration(rows, out / "calibration.png")
    draw_accuracy(rows, out / "accuracy.png")
    draw_structures(rows, out / "structures.png")
