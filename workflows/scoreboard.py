"""Rows of an evaluation to its tables: means over chains with their standard errors, by evidence and by length, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from structgen.metrics.calibration import Tally

Row = dict[str, Any]
Scores = dict[str, float]
ACCURACY = ("lddt", "tm", "gdt_ts", "rmsd")
HEADINGS = {"lddt": "lDDT-CA", "tm": "TM-score", "gdt_ts": "GDT_TS", "rmsd": "RMSD (A)"}
LENGTHS = ((0, 100), (100, 200), (200, 100_000))
NOTHING = {"lddt": 0.0, "tm": 0.0, "gdt_ts": 0.0, "rmsd": float("nan")}


def summarise(rows: Sequence[Row]) -> Row:
    """Accuracy, geometry and calibration of every evidence, and of the baselines on the same chains."""
    groups = {evidence: [row for row in rows if row["evidence"] == evidence] for evidence in ("sequence", "profile")}
    return {"seconds": round(sum(row["seconds"] for row in rows), 1)} | {name: _group(own, rows) for name, own in groups.items() if own}


def _group(own: Sequence[Row], rows: Sequence[Row]) -> Row:
    chains = {row["index"] for row in own}
    alone = {row["index"]: row for row in rows if row["evidence"] == "sequence" and row["index"] in chains}
    judged = [row for row in alone.values() if row["baselines"]]
    lengths = {f"{low}-{high - 1}" if high < 10_000 else f"{low} and more": (low, high) for low, high in LENGTHS}
    return {
        "chains": len(own),
        "accuracy": {**_of_model(own), **(_of_baselines(judged) if judged else {})},
        "sequence_alone": _of_model(list(alone.values())) if alone else {},
        "nearest_found": sum(row["baselines"]["nearest"] is not None for row in judged),
        "geometry": _geometry(own),
        "calibration": _calibration(own),
        "by_length": {
            name: {"chains": len(part), "accuracy": _of_model(part), "calibration": _calibration(part)}
            for name, (low, high) in lengths.items()
            if (part := [row for row in own if low <= row["length"] < high])
        },
    }


def _of_model(rows: Sequence[Row]) -> Row:
    """Means over chains of the mean sample, of the one ranked first, and of the best by each score."""
    pick: dict[str, Callable[[Row, str], float]] = {
        "mean sample": lambda row, name: float(np.mean([s[name] for s in row["samples"]])),
        "ranked first": lambda row, name: row["samples"][row["ranked"]][name],
        "best sample": lambda row, name: (min if name == "rmsd" else max)(s[name] for s in row["samples"]),
    }
    return {which: {name: _mean([of(row, name) for row in rows]) for name in ACCURACY} for which, of in pick.items()}


def _of_baselines(rows: Sequence[Row]) -> Row:
    """The nearest chain scores 0 where nothing was found (its RMSD is that of the residues it covers)."""
    names = {"ideal helix": "helix", "random training chain": "random", "nearest training chain": "nearest"}
    return {
        title: {score: _mean([(row["baselines"][name] or NOTHING)[score] for row in rows]) for score in ACCURACY}
        for title, name in names.items()
    }


def _mean(values: Sequence[float]) -> list[float | None]:
    """[mean, standard error] over the chains that have a value."""
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return [None, None]
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else 0.0
    return [round(float(known.mean()), 4), round(float(error), 4)]


def _geometry(rows: Sequence[Row]) -> Row:
    """Over all samples: share of CA-CA steps of 3.6 to 4.0 angstrom, of mirror images, clashes for 1,000 atoms (mean and median)."""
    samples = [s for row in rows for s in row["samples"]]
    clashes = [s["clashes"] for s in samples]
    return {
        "ca_ca": round(float(np.mean([s["ca_ca"] for s in samples])), 4),
        "mirror": round(float(np.mean([s["mirror"] for s in samples])), 4),
        "clashes": round(float(np.mean(clashes)), 2),
        "clashes_median": round(float(np.median(clashes)), 2),
    }


def _calibration(rows: Sequence[Row]) -> Row:
    """pLDDT of CA atoms, 0 to 1, against their own lDDT; per sample, the mean pLDDT against the lDDT of the sample."""
    samples = [s for row in rows for s in row["samples"]]
    residues = Tally.total([Tally.from_lists(s["calibration"]) for s in samples])
    whole = Tally.of(np.array([s["plddt"] / 100 for s in samples]), np.array([s["lddt"] for s in samples]))
    ptm = Tally.of(np.array([s["ptm"] for s in samples]), np.array([s["tm"] for s in samples]))
    values = {
        "residues": residues.count.sum(),
        "ece": residues.calibration_error(),
        "bias": residues.bias(),
        "r_residue": residues.correlation(),
        "r_sample": whole.correlation(),
        "r_ptm_tm": ptm.correlation(),
        "ptm_bias": ptm.bias(),
    }
    return {name: round(float(v), 4) if np.isfinite(v) else None for name, v in values.items()}


def accuracy_table(accuracy: Row) -> str:
    """Markdown: a line for the model's choices and each baseline, mean and standard error over chains."""
    lines = ["| | " + " | ".join(HEADINGS[name] for name in ACCURACY) + " |", "| --- |" + " --- |" * len(ACCURACY)]
    for title, scores in accuracy.items():
        cells = [_cell(scores[name], 1 if name == "rmsd" else 3) for name in ACCURACY]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def length_table(by_length: Row) -> str:
    """Markdown: a line for each range of lengths."""
    titles = ("residues", "chains", "lDDT-CA, ranked first", "TM-score, ranked first", "pLDDT error (ECE)", "r per residue")
    lines = [f"| {' | '.join(titles)} |", "| --- |" + " --- |" * (len(titles) - 1)]
    for name, part in by_length.items():
        first, calibration = part["accuracy"]["ranked first"], part["calibration"]
        cells = [name, str(part["chains"]), _cell(first["lddt"], 3), _cell(first["tm"], 3)]
        cells += [_number(calibration["ece"], 3), _number(calibration["r_residue"], 2)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: Sequence[float | None], digits: int) -> str:
    mean, error = value
    return "-" if mean is None else f"{mean:.{digits}f} ± {error:.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
