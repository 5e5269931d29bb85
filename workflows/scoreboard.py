"""Rows of an evaluation to figures: accuracy beside baselines, geometry, calibration, ranking, by evidence, length and known relative."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from structgen.metrics.calibration import Tally
from structgen.metrics.sample import PAE_SCALE

Row = dict[str, Any]
WITH_TEMPLATES = " + templates"  # behind the name of an evidence
ACCURACY = ("lddt", "tm", "gdt_ts", "rmsd")
LENGTHS = ((0, 100), (100, 200), (200, 100_000))
BASELINES = {
    "helix": "ideal helix",
    "random": "random training chain",
    "nearest": "nearest training chain",
    "copied": "best template copied",
}
CLOSED = "best template copied, gaps closed"
NOTHING = {"lddt": 0.0, "tm": 0.0, "gdt_ts": 0.0, "rmsd": float("nan")}
FOLDED = 0.5  # TM-score of the best sample above which a target counts as one that the model can fold


def summarise(rows: Sequence[Row]) -> Row:
    """Figures of every evidence, each over the rows that have it, and medians by the identity of the best template."""
    names = list(dict.fromkeys(name for row in rows for name in row["predictions"]))
    names.sort(key=lambda name: WITH_TEMPLATES in name)
    evidence = {name: _group([row for row in rows if name in row["predictions"]], name) for name in names}
    found = {name: by_identity(rows, name) for name in names if WITH_TEMPLATES not in name}
    return {
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "evidence": evidence,
        "by_identity": {name: own for name, own in found.items() if own},
    }


def _group(rows: Sequence[Row], name: str) -> Row:
    lengths = {f"{low}-{high - 1}" if high < 10_000 else f"{low} and more": (low, high) for low, high in LENGTHS}
    others = [other for other in rows[0]["predictions"] if other != name and all(other in row["predictions"] for row in rows)]
    return {
        "chains": len(rows),
        "accuracy": _of_model(rows, name)
        | {f"ranked first, {other}": _of_model(rows, other)["ranked first"] for other in others}
        | _of_baselines(rows, name),
        "found": {key: sum(_baseline(row, name, key) is not None for row in rows) for key in BASELINES if key in rows[0]["baselines"]},
        "geometry": _geometry(rows, name),
        "calibration": _calibration(rows, name),
        "ranking": _ranking(rows, name),
        "by_length": {
            title: {"chains": len(part), "accuracy": _of_model(part, name), "calibration": _calibration(part, name)}
            for title, (low, high) in lengths.items()
            if (part := [row for row in rows if low <= row["length"] < high])
        },
    }


def ranked(row: Row, name: str) -> Row:
    """The sample of an evidence that is ranked first."""
    own = row["predictions"][name]
    return own["samples"][own["ranked"]]


def _samples(rows: Sequence[Row], name: str) -> list[Row]:
    return [sample for row in rows for sample in row["predictions"][name]["samples"]]


def _of_model(rows: Sequence[Row], name: str) -> Row:
    """Means over targets of the mean sample, of the one ranked first, and of the best by each score."""
    pick: dict[str, Callable[[Row, str], float]] = {
        "mean sample": lambda row, score: float(np.mean([s[score] for s in row["predictions"][name]["samples"]])),
        "ranked first": lambda row, score: ranked(row, name)[score],
        "best sample": lambda row, score: (min if score == "rmsd" else max)(s[score] for s in row["predictions"][name]["samples"]),
    }
    accuracy = {which: {score: _mean([of(row, score) for row in rows]) for score in ACCURACY} for which, of in pick.items()}
    for which, of in pick.items():
        if docked := [of(row, "dockq") for row in rows if ranked(row, name)["dockq"] is not None]:
            accuracy[which]["dockq"] = _mean(docked)
    return accuracy


def _of_baselines(rows: Sequence[Row], name: str) -> Row:
    """What finds nothing scores 0 (its RMSD is that of the residues it covers)."""
    columns = {title: [_baseline(row, name, key) for row in rows] for key, title in BASELINES.items() if key in rows[0]["baselines"]}
    if all("closed" in row["predictions"][name] for row in rows):
        columns[CLOSED] = [_closed(row, name) for row in rows]
    return {title: {score: _mean([(one or NOTHING)[score] for one in column]) for score in ACCURACY} for title, column in columns.items()}


def _baseline(row: Row, name: str, key: str) -> Row | None:
    """Scores of a baseline: of the template that this evidence finds, where each finds its own."""
    return _own(row, name, "copied") if key == "copied" else row["baselines"][key]


def _own(row: Row, name: str, key: str) -> Any:
    """What an evidence (the same with its templates) says for itself: of its template, its bin of identity and its copy; else the row's."""
    of_row = row["baselines"]["copied"] if key == "copied" else row[key]
    return row["predictions"].get(name.removesuffix(WITH_TEMPLATES), {}).get(key, of_row)


def _closed(row: Row, name: str) -> Row:
    """The copy with its gaps closed; where no template was found, the prediction without templates is what there is."""
    return row["predictions"][name]["closed"] or ranked(row, name)


def _mean(values: Sequence[float]) -> list[float | None]:
    """[mean, standard error] over the targets that have a value."""
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return [None, None]
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else 0.0
    return [round(float(known.mean()), 4), round(float(error), 4)]


def _geometry(rows: Sequence[Row], name: str) -> Row:
    """Of all samples: shares of CA-CA steps of 3.6 to 4.0 angstrom, right bonds and stereocentres, mirror images; clashes for 1,000 atoms.

    `mirror_folded`: of the samples of targets whose best sample has a TM-score above 0.5 (`folded` of them), the mirror images.
    """
    samples = _samples(rows, name)
    able = [row for row in rows if max(s["tm"] for s in row["predictions"][name]["samples"]) > FOLDED]
    shares = {key: round(float(np.mean([s[key] for s in samples])), 4) for key in ("ca_ca", "bonds_right", "chirality_right", "mirror")}
    clashes = [s["clashes"] for s in samples]
    return shares | {
        "clashes": round(float(np.mean(clashes)), 2),
        "clashes_median": round(float(np.median(clashes)), 2),
        "folded": len(able),
        "mirror_folded": round(float(np.mean([s["mirror"] for s in _samples(able, name)])), 4) if able else None,
    }


def _calibration(rows: Sequence[Row], name: str) -> Row:
    """pLDDT of CA atoms, 0 to 1, against their own lDDT; per sample, the mean pLDDT against the lDDT of the sample; PAE in angstrom."""
    samples = _samples(rows, name)
    residues = Tally.total([Tally.from_lists(s["plddt_tally"]) for s in samples])
    pairs = Tally.total([Tally.from_lists(s["pae_tally"]) for s in samples])
    whole = Tally.of(np.array([s["plddt"] / 100 for s in samples]), np.array([s["lddt"] for s in samples]))
    ptm = Tally.of(np.array([s["ptm"] for s in samples]), np.array([s["tm"] for s in samples]))
    values = {
        "samples": len(samples),
        "residues": residues.count.sum(),
        "ece": residues.calibration_error(),
        "bias": residues.bias(),
        "r_residue": residues.correlation(),
        "r_sample": whole.correlation(),
        "ece_sample": whole.calibration_error(),
        "bias_sample": whole.bias(),
        "pae_ece": PAE_SCALE * pairs.calibration_error(),
        "pae_bias": PAE_SCALE * pairs.bias(),
        "pae_r": pairs.correlation(),
        "r_ptm_tm": ptm.correlation(),
        "ptm_bias": ptm.bias(),
    }
    return {name: round(float(v), 4) if np.isfinite(v) else None for name, v in values.items()}


def _ranking(rows: Sequence[Row], name: str) -> Row:
    """How much the sample ranked first is better than the mean one, and the best than the mean: [mean, standard error] over targets."""
    found: Row = {}
    for score in ("lddt", "tm"):
        values = [[s[score] for s in row["predictions"][name]["samples"]] for row in rows]
        found[f"{score}_gain"] = _mean([ranked(row, name)[score] - float(np.mean(own)) for row, own in zip(rows, values, strict=True)])
        found[f"{score}_possible"] = _mean([max(own) - float(np.mean(own)) for own in values])
    return found


def by_identity(rows: Sequence[Row], name: str) -> Row:
    """Medians of TM-score and lDDT by bin of identity, for targets whose templates were searched: of the sample ranked first without and
    with templates (where the model takes them), of the best template copied, and of the copy with its gaps closed."""
    judged = [row for row in rows if name in row["predictions"] and _own(row, name, "identity")]
    bins = sorted({_own(row, name, "identity") for row in judged}, key=_lowest)
    return {bin: _medians([row for row in judged if _own(row, name, "identity") == bin], name) for bin in bins}


def _lowest(bin: str) -> float:
    """Where a bin begins, in per cent; none at all comes last."""
    first = bin.split("-")[0]
    return float(first) if first.isdigit() else float("inf")


def _medians(rows: Sequence[Row], name: str) -> Row:
    ways: dict[str, Callable[[Row], Mapping[str, float]]] = {"without": lambda row: ranked(row, name)}
    if all(name + WITH_TEMPLATES in row["predictions"] for row in rows):
        ways["with"] = lambda row: ranked(row, name + WITH_TEMPLATES)
    ways["copied"] = lambda row: _own(row, name, "copied") or NOTHING
    if all("closed" in row["predictions"][name] for row in rows):
        ways["closed"] = lambda row: _closed(row, name)
    used = [_own(row, name, "template") for row in rows if _own(row, name, "template")]
    about = {key: round(float(np.median([one[key] for one in used])), 4) if used else None for key in ("identity", "coverage")}
    values = {way: {score: _median([of(row)[score] for row in rows]) for score in ("tm", "lddt")} for way, of in ways.items()}
    return {"chains": len(rows), "found": len(used), **about, **values}


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 4)
