"""Copying the best template, scored: `python -m benchmarks.copy_template --chains DIR [--holdout TSV] [--split homolog|val|test]`.

With `--library FILE` a structure library is searched as `structgen predict` does (phmmer with the sequence); without, the relative that
the table of held-out chains names is aligned by phmmer. Its CA atoms on the alignment are the prediction; residues that it does not cover
count as wrong. Prints a Markdown table of medians by bin of identity.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from structgen.data.backbones import backbone_rows
from structgen.data.entry import entry_of_chain
from structgen.data.relatives import find
from structgen.features.chains import ChainRecord, ChainSet, read_holdout
from structgen.features.templates import Backbone, Templates, Used, lay, no_templates
from structgen.metrics.lddt import lddt
from structgen.metrics.tm import tm_score
from structgen.search.copied import copied_trace
from structgen.search.nearest import block_of
from structgen.search.template_index import build_index
from structgen.search.templates import TemplateSettings, find_templates
from structgen.store import Store

CA = 1
ANY = TemplateSettings(max_subsequence=1.0, min_aligned=0.0, used=1)


def scores(record: ChainRecord, found: Templates) -> dict[str, float]:
    """TM-score with fixed correspondence, lDDT-CA, identity and coverage of the copy."""
    true, resolved = record.positions[:, CA], record.mask[:, CA]
    trace = copied_trace(found)
    if trace is None:
        return {"tm": 0.0, "lddt": 0.0, "identity": 0.0, "coverage": 0.0}
    covered = resolved & np.isfinite(trace).all(1)
    tm = tm_score(trace[covered], true[covered], int(resolved.sum())) if covered.sum() >= 4 else 0.0
    local = lddt(trace, true, np.arange(len(true)), mask=resolved)
    return {"tm": tm, "lddt": local, "identity": found.used[0].identity, "coverage": found.used[0].coverage}


def of_relative(record: ChainRecord, relative: ChainRecord) -> Templates:
    """The relative laid on the chain by phmmer."""
    named = {relative.id: relative.sequence}
    hits = find(record.sequence, named, block_of(named), 10.0)
    if not hits:
        return no_templates(len(record.sequence))
    rows = backbone_rows(entry_of_chain(relative), np.arange(len(relative.sequence)))
    backbone = Backbone(relative.sequence, rows.frame, rows.frame_mask, rows.pseudo_beta, rows.pseudo_beta_mask)
    origin = Used(relative.id, "", "", "", aligned=0, identity=0.0, coverage=0.0)
    return lay(backbone, record.sequence, hits[0].own.tolist(), hits[0].other.tolist(), origin)


HEAD = "| relative in training | chains | found | identity | coverage | TM-score | lDDT-CA |\n| --- | --- | --- | --- | --- | --- | --- |"


def table(rows: list[dict[str, Any]]) -> str:
    """Medians by bin."""
    lines = [HEAD]
    for bin in sorted({row["bin"] for row in rows}):
        part = [row for row in rows if row["bin"] == bin]
        median = {name: float(np.median([row[name] for row in part])) for name in ("identity", "coverage", "tm", "lddt")}
        found = sum(row["coverage"] > 0 for row in part)
        numbers = " | ".join(f"{median[name]:.2f}" for name in ("identity", "coverage", "tm", "lddt"))
        lines.append(f"| {bin} | {len(part)} | {found} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--chains", type=Path, required=True)
    parser.add_argument("--holdout", type=Path)
    parser.add_argument("--split", default="homolog")
    parser.add_argument("--e-value", type=float, default=1.0)
    parser.add_argument("--rows", type=Path, help="JSON lines of every chain; known ones are not made again")
    options = parser.parse_args()
    chains = ChainSet(options.chains, options.holdout)
    held = {row.id: row for row in read_holdout(options.holdout)} if options.holdout else {}
    number = {row["id"]: i for i, row in enumerate(chains.rows)}
    chosen = chains.split(options.split, primary=options.split in ("val", "test"))
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows and options.rows.exists() else []
    index = None
    if options.library:
        with tempfile.TemporaryDirectory() as folder:
            index = build_index(options.library, Store(Path(folder)))
    settings = TemplateSettings(**(vars(ANY) | {"e_value": options.e_value}))
    for i in chosen[len(rows) :]:
        record = chains[i]
        if index is not None:
            found = find_templates(record.sequence, None, index, options.library, settings)
        else:
            found = of_relative(record, chains[number[held[record.id].relative]])
        bin = f"{held[record.id].bin} %" if record.id in held else options.split
        rows.append({"id": record.id, "bin": bin, **scores(record, found)})
        if options.rows:
            with open(options.rows, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
