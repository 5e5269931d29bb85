"""The model card that ships beside the weights: written from the summary of an evaluation and the logs of the runs, never by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from structgen.errors import InputError
from structgen.store import replace_file
from workflows.evaluation_tables import report

Row = dict[str, Any]

HEAD = """# {model}

A small all-atom structure predictor for proteins: the network of AlphaFold 3 (SI Algorithms 1-31) at a width that a processor can run.
**It is a working example, far from the accuracy of AlphaFold 3**: the tables say how far it goes. This file was written by
`structgen evaluate --model ... --card`; `docs/model.md` explains each step and figure, and has the table by the nearest known relative.

| | |
| --- | --- |
| weights | sha256 `{weights}` |
| training | {training} |
| hardware | {hardware} |
| trained on | {train} |
| held out | {held_out} |
| judged on | {judged} |
| sampler | {sampler} |
"""

BASELINES = """Tables: mean over targets ± standard error. All resolved residues count; what a trace does not cover counts as wrong. Nearest
training chain: the best phmmer hit (E <= 10) among the training sequences, its CA atoms on the residues that the hit aligns; without a hit
it scores 0.
"""

FAILS = """## Where it fails

- A fold is right where the TM-score is above 0.5; the tables say how far the mean is from that. Where pLDDT is low, do not use a
  structure for anything that needs the fold.
- Bonds, clashes and mirror images are in the tables of geometry. Clashes are pairs of heavy atoms whose van der Waals spheres overlap by
  more than 0.4 angstrom.
- Judged here are chains of which mmseqs2 finds no relative in the training set, the hardest. Where a table is with templates, these are
  remote relatives that profiles alone tell, of the targets for which there are some. A model that reads templates is far better where
  there is a near relative (`docs/model.md`), and then no better than the relative is where the two differ.
- It was trained on windows of single chains: contacts beyond a window and interfaces of complexes were never shown.
- It was shown the amino-acid frequencies of homologues, not their alignment: an alignment helps through the profile made of it.
- No ligands, no nucleic acids, no modified residues; no disorder beyond missing atoms.
- pLDDT is on the scale of lDDT. Whether it tells good residues and samples from bad ones is in r above: near 0 it says the mean and no
  more, and then ranking by it, by pTM or by the ranking score is no better than chance.

## Intended use

Trying out, testing and teaching the whole pipeline, and the starting point of longer training. Where it is given a template, as a first
model of the chain by homology, with side chains to be rebuilt by other means. Not for other conclusions about a protein, and not for
medical use.

## Licences

The weights: Apache-2.0, as the project's code. They were trained from random numbers; no weights of others went into them. Coordinates
are those of the Protein Data Bank (CC0), partly in the form in which Debian's `promod3-data` (Apache-2.0) and public repositories ship
them; a few of those repositories carry terms of their own for their compilation (CC-BY-NC-SA-4.0, or none stated). Profiles:
`promod3-data` (Apache-2.0).

## A better one

`docs/model.md` has the commands, for a GPU and for a processor. More steps are what this run had least of.
"""


PICTURES = {
    "structures": "Samples ranked first on the true CA traces (grey), from the best TM-score to the worst in equal steps",
    "accuracy": "TM-score against that of the best baseline, and against length",
    "calibration": "Confidence against what was found",
}
"""Of an evaluation, by the names of the files, with what they show."""


def write_card(
    path: Path, summary: Row, training: Sequence[Path], hardware: str, trained_on: str = "", evaluation: Path | None = None
) -> None:
    """Write the card, and copies of the pictures of the evaluation's folder and of the runs' curves beside it, those that there are.

    `training` holds folders of runs, or an earlier card of the model: what it says of its runs is taken over, curves too, where their
    folders are gone. Raises `InputError` if the log of a run, or the card, cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [(evaluation / f"{name}.png", name, text) for name, text in PICTURES.items()] if evaluation else []
    runs, pictures = [], list[str]()
    for source in training:
        if source.suffix == ".md":
            runs.append(_said(source))
            shown += _curves(source)
        else:
            runs.append(run_time(source))
            shown.append((source / "curves.png", f"{source.name}_curves", f"Losses of `{source.name}`"))
    for source, name, text in shown:
        if source.is_file():
            copy = path.with_name(f"{summary['protocol']['model']}_{name}.png")
            replace_file(copy, source.read_bytes())
            pictures.append(f"{text}:\n\n![{name}]({copy.name})\n")
    replace_file(path, card(summary, runs, hardware, trained_on, pictures).encode())


def card(summary: Row, runs: Sequence[str], hardware: str, trained_on: str = "", pictures: Sequence[str] = ()) -> str:
    """The text of the card. `trained_on`: what the model saw; all training chains of the set that it is judged on when not given."""
    protocol, data = summary["protocol"], summary["data"]
    head = HEAD.format(
        model=protocol["model"],
        weights=protocol["weights"],
        training="; ".join(runs) or "not recorded",
        hardware=hardware,
        train=trained_on or _training_set(data),
        held_out=_held_out(data),
        judged=_judged(summary),
        sampler=_sampler(protocol),
    )
    shown = ["## Pictures\n", *pictures] if pictures else []
    return "\n".join([head, BASELINES, report(summary), *shown, FAILS])


def _training_set(data: Row) -> str:
    train = data["train"]
    return (
        f"{train['chains']:,} experimental chains of the Protein Data Bank in {train['clusters']:,} clusters, "
        f"{train['residues']:,} residues; {data['with_profile']:,} chains with a profile of homologues"
    )


def _held_out(data: Row) -> str:
    return (
        f"{data['val']['clusters']} clusters for validation and {data['test']['clusters']} for testing, clustered at 30 % identity; "
        "mmseqs2 finds none of them (e <= 0.01) in the training set"
    )


def _sampler(protocol: Row) -> str:
    own = protocol["sampling"]
    return (
        f"{own['samples']} samples of {own['steps']} steps (gamma {own['gamma_0']:g}, noise scale {own['noise_scale']:g}, "
        f"step scale {own['step_scale']:g}), seed {protocol['seed']}, {own['cycles']} cycle(s) of the trunk"
        + ("; samples that wind to the left are mirrored" if own.get("right_handed") else "")
        + (f"; held to templates within {own['held']:g} of the expected deviation" if own.get("held") else "")
        + ("; bonds, angles, hands and clashes are relaxed" if own.get("relaxed") else "")
        + ("; ranked by the mean PAE" if own.get("ranked_by") == "pae" else "")
    )


def _judged(summary: Row) -> str:
    protocol = summary["protocol"]
    chains = max(own["chains"] for own in summary["evidence"].values())
    kind = "primary chains (one a cluster, well resolved, 40-350 residues)" if protocol["primary"] else "chains"
    choice = ", the first by the sha256 of their names" if summary["limit"] else ""
    return f"{chains} {kind} of `{protocol['split']}`{choice}; {summary['seconds'] / 60:.0f} minutes"


def _said(card: Path) -> str:
    """What a card says of the training runs."""
    try:
        text = card.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("cannot read an earlier card", where=str(card), found=str(error)) from error
    found = re.search(r"^\| training \| (.*) \|$", text, re.MULTILINE)
    if not found:
        raise InputError("not a card that an evaluation wrote", where=str(card), found="no row `training`", remedy="name folders of runs")
    return found[1]


def _curves(card: Path) -> list[tuple[Path, str, str]]:
    """Pictures of a card's training runs: file, name and title."""
    shown = re.findall(r"^(Losses of `[^`]+`):\n\n!\[(\w+)\]\(([\w.-]+)\)$", card.read_text(encoding="utf-8"), re.MULTILINE)
    return [(card.parent / file, name, title) for title, name, file in shown]


def run_time(folder: Path) -> str:
    """Steps and minutes of a run, by its log; every start of the run counts from 0, so its parts are added."""
    path = folder / "log.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError("cannot read the log of a training run", where=str(path), found=str(error)) from error
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    parts = [last for last, following in zip(seconds, [*seconds[1:], 0.0], strict=True) if following < last]
    steps = max((row["step"] for row in rows if "step" in row), default=0)
    return f"`{folder.name}`: {steps:,} steps, {sum(parts) / 60:.0f} minutes"
