"""The figures of an evaluation as Markdown: what is printed, written beside the rows, and put into a model's card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workflows.scoreboard import ACCURACY

Row = dict[str, Any]
HEADINGS = {"lddt": "lDDT-CA", "tm": "TM-score", "gdt_ts": "GDT_TS", "rmsd": "RMSD (A)", "dockq": "DockQ"}
WAYS = {"with": "with templates", "without": "without", "copied": "copied", "closed": "copied, gaps closed"}
AS_PREDICTED = "as predicted"  # the only evidence of a run: what it was given, its own manifests say
TITLES = {
    "sequence": "From the sequence alone",
    "profile": "With a profile of homologues",
    "sequence + templates": "From the sequence and templates",
    "profile + templates": "With a profile of homologues and templates",
    AS_PREDICTED: "As predicted",
}


def report(summary: Row) -> str:
    """All tables, a section an evidence."""
    parts = [section(own, name) for name, own in summary["evidence"].items()]
    return "\n".join(parts + [identity_section(own, name) for name, own in summary["by_identity"].items()])


def section(part: Row, name: str) -> str:
    """Accuracy, lengths, confidence and geometry of one evidence."""
    parts = [f"## {TITLES[name]}: {part['chains']} targets", accuracy_table(part["accuracy"]), length_table(part["by_length"])]
    parts += [ranking_line(part["ranking"]), confidence_table(part["calibration"]), geometry_table(part["geometry"])]
    return "\n\n".join(parts) + "\n"


def accuracy_table(accuracy: Row) -> str:
    """A line for the model's choices and each baseline, mean and standard error over targets."""
    columns = [name for name in HEADINGS if name in ACCURACY or any(name in scores for scores in accuracy.values())]
    lines = _head(["", *(HEADINGS[name] for name in columns)])
    for title, scores in accuracy.items():
        cells = [_cell(scores[name], 1 if name == "rmsd" else 3) if name in scores else "" for name in columns]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def length_table(by_length: Row) -> str:
    """A line for each range of lengths."""
    lines = _head(["residues", "targets", "lDDT-CA, ranked first", "TM-score, ranked first", "pLDDT error (ECE)", "r per residue"])
    for name, part in by_length.items():
        first, calibration = part["accuracy"]["ranked first"], part["calibration"]
        cells = [name, str(part["chains"]), _cell(first["lddt"], 3), _cell(first["tm"], 3)]
        cells += [number(calibration["ece"], 3), number(calibration["r_residue"], 2)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ranking_line(ranking: Row) -> str:
    """What ranking gains, in words."""
    parts = [
        f"{HEADINGS[score]} {signed(ranking[f'{score}_gain'])} of {signed(ranking[f'{score}_possible'])} that are possible"
        for score in ("lddt", "tm")
    ]
    return f"The sample ranked first beside the mean one: {', '.join(parts)}."


def confidence_table(calibration: Row) -> str:
    """pLDDT by residue and by sample, PAE and pTM against what they predict."""
    rows = [
        ("pLDDT of residues, 0 to 1", f"{calibration['residues']:,.0f}", "ece", "bias", "r_residue", 3),
        ("mean pLDDT of samples", f"{calibration['samples']:,.0f}", "ece_sample", "bias_sample", "r_sample", 3),
        ("PAE of pairs, angstrom", "", "pae_ece", "pae_bias", "pae_r", 2),
        ("pTM against TM-score", f"{calibration['samples']:,.0f}", "", "ptm_bias", "r_ptm_tm", 3),
    ]
    lines = _head(["confidence", "values", "expected calibration error", "bias", "r"])
    for title, count, error, bias, r, digits in rows:
        cells = [title, count, number(calibration[error], digits) if error else "", number(calibration[bias], digits, sign=True)]
        lines.append("| " + " | ".join([*cells, number(calibration[r], 2)]) + " |")
    return "\n".join(lines)


def geometry_table(geometry: Row) -> str:
    """Local geometry of all samples."""
    mirrored = f"{geometry['mirror_folded']:.1%} ({geometry['folded']} targets)" if geometry["folded"] else "no such target"
    rows = {
        "CA-CA distances in 3.6-4.0 angstrom": f"{geometry['ca_ca']:.1%}",
        "bonds within a quarter of their length": f"{geometry['bonds_right']:.1%}",
        "stereocentres of the right hand": f"{geometry['chirality_right']:.1%}",
        "clashes for 1,000 atoms, mean and median": f"{geometry['clashes']:.1f}, {geometry['clashes_median']:.1f}",
        "samples nearer to the mirror image": f"{geometry['mirror']:.1%}",
        "the same where the best sample has a TM-score above 0.5": mirrored,
    }
    return "\n".join(_head(["geometry of all samples", ""]) + [f"| {title} | {value} |" for title, value in rows.items()])


def identity_section(by_identity: Row, name: str) -> str:
    """Medians by the identity of the nearest known relative: with templates, without, and copying the best one."""
    known = WAYS if name != AS_PREDICTED else WAYS | {"without": "as predicted"}
    ways = {way: title for way, title in known.items() if all(way in part for part in by_identity.values())}
    titles = ["relative (% identity)", "targets", "template found", "identity", "coverage"]
    lines = _head([*titles, *(f"{score}, {title}" for score in ("TM", "lDDT") for title in ways.values())])
    for bin, part in by_identity.items():
        cells = [bin, str(part["chains"]), str(part["found"]), number(part["identity"], 2), number(part["coverage"], 2)]
        cells += [number(part[way][score], 2) for score in ("tm", "lddt") for way in ways]
        lines.append("| " + " | ".join(cells) + " |")
    text = "Medians. Copied: the best template's CA atoms on the alignment, nothing elsewhere."
    text += "" if "closed" not in ways else (
        " Gaps closed: the rest is taken from the first-ranked sample of the same model without templates, each piece laid on six copied "
        "residues on either side."
    )
    return "\n".join([f"## By the nearest known relative, {TITLES[name][0].lower()}{TITLES[name][1:]}", "", *lines, "", text]) + "\n"


def _head(titles: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", "| --- |" + " --- |" * (len(titles) - 1)]


def _cell(value: Sequence[float | None], digits: int) -> str:
    mean, error = value
    return "-" if mean is None else f"{mean:.{digits}f} ± {error:.{digits}f}"


def signed(value: Sequence[float | None]) -> str:
    """A difference with its standard error."""
    mean, error = value
    return "-" if mean is None else f"{mean:+.3f} ± {error:.3f}"


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"
