"""An evaluation of a model judges what it says it does, goes on where it was cut, and writes its tables and its card."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, Model, load_model, save_model
from structgen.data.archive import Archive
from structgen.data.archive_chains import ArchiveChains
from structgen.data.homologs import write_holdout
from structgen.data.sources import ChainSource
from structgen.errors import ConfigError, InputError
from structgen.features.chains import ChainSet, Holdout
from structgen.metrics.tm import tm_score
from tests.alphafold3.weights import randomise
from tests.archive import Made, random_chains, write_archive
from tests.data.test_build import build
from tests.workflows.conftest import Command
from workflows.baselines import Baselines, Trained, joined
from workflows.card import card, run_time, write_card
from workflows.evaluate import evaluate
from workflows.evaluate_model import ModelSource, Protocol, identity_bin, selection
from workflows.scoreboard import summarise

ACCURACY = ("lddt", "tm", "gdt_ts", "rmsd")
Row = dict[str, Any]


@pytest.fixture
def chains(tmp_path: Path) -> ChainSet:
    """Six training chains; three to judge, one with a profile, one a piece of a training chain."""
    rng = np.random.default_rng(0)
    training = random_chains(rng, 6, 45)
    judged = [*random_chains(rng, 1, 31, split="val"), Made("known_A", training[2].sequence[4:38], "val", profile=True)]
    other = [Made("third_A", training[0].sequence[:22][::-1], "val")]
    return ChainSet(write_archive(tmp_path / "chains", [*training, *judged, *other], rng))


@pytest.fixture
def model(tmp_path: Path, rng: torch.Generator) -> Model:
    save_model(randomise(AlphaFold3(tiny()), rng, scale=0.1), tmp_path / "model.safetensors")
    return load_model(str(tmp_path / "model.safetensors"))


def protocol(model: Model, **changes: object) -> Protocol:
    sampling = dataclasses.replace(model.config.sampling, samples=2, steps=2, cycles=1)
    own = Protocol(
        model=model.name,
        weights=model.digest,
        split="val",
        primary=True,
        limit=0,
        evidence=("sequence", "profile"),
        seed=1,
        sampling=sampling,
    )
    return dataclasses.replace(own, **changes)  # type: ignore[arg-type]


def source(model: Model, chains: ChainSet, **changes: object) -> ModelSource:
    return ModelSource(protocol(model, **changes), model, chains, Baselines(Trained(chains, seed=1)))


def without_time(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_cut_evaluation_ends_as_an_uncut_one(chains: ChainSet, model: Model, tmp_path: Path) -> None:
    """Cut inside a line, then the same again: the same rows, one a chain; fewer chains are judged by rows that are there."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = evaluate(source(model, chains), whole)
    lines = (whole / "rows.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 3 and sum("profile" in json.loads(line)["predictions"] for line in lines[1:]) == 1
    cut.mkdir()
    (cut / "rows.jsonl").write_text("".join(lines[:2]) + lines[2][:50])
    second = evaluate(source(model, chains), cut)
    again = [json.loads(line) for line in (cut / "rows.jsonl").read_text().splitlines()]
    assert without_time(again) == without_time([json.loads(line) for line in lines])
    assert first["evidence"] == second["evidence"] and first["evidence"]["profile"]["chains"] == 1
    assert "ranked first, sequence" in first["evidence"]["profile"]["accuracy"]
    fewer = evaluate(source(model, chains, limit=2), whole)
    assert fewer["evidence"]["sequence"]["chains"] == 2 and len((whole / "rows.jsonl").read_text().splitlines()) == 1 + 3
    with pytest.raises(ConfigError, match="another model or other settings"):
        evaluate(source(model, chains, seed=2), whole)


def test_selection_is_the_first_by_hash(chains: ChainSet, model: Model) -> None:
    """A smaller limit is the beginning of a larger one; no training chain is judged; an empty split is told."""
    every = selection(chains, protocol(model))
    assert sorted(every) == [6, 7, 8]
    assert [selection(chains, protocol(model, limit=n)) for n in (1, 2)] == [every[:1], every[:2]]
    with pytest.raises(ConfigError, match="no primary chain in the split 'homolog'"):
        selection(chains, protocol(model, split="homolog"))


def test_nearest_training_chain_is_the_hit_s_own_trace(chains: ChainSet) -> None:
    """A piece of training chain 2 gets that chain's atoms; a chain without a hit gets None; a random one has its residues."""
    trained = Trained(chains, seed=1)
    record, other = chains[7], chains[2]
    trace = trained.nearest(record.sequence)
    assert trace is not None and np.isfinite(trace).all(1).mean() > 0.9
    there = np.isfinite(trace).all(1)
    assert tm_score(trace[there], other.positions[4:38, 1][there]) == pytest.approx(1)
    assert trained.nearest(chains[6].sequence) is None
    assert np.isfinite(trained.random(chains[6].sequence)).all()


def test_chains_are_joined_by_their_residues() -> None:
    """Means by resolved residues; a chain without anything counts 0, but for its RMSD; nothing at all is None."""
    part = {"lddt": 0.8, "tm": 0.5, "gdt_ts": 0.5, "rmsd": 4.0}
    found = joined([part, None], [30, 10])
    assert found is not None and found["lddt"] == pytest.approx(0.6) and found["rmsd"] == 4.0
    assert joined([None, None], [3, 4]) is None
    assert [identity_bin(x) for x in (None, 0.1, 0.3, 0.699, 1.0)] == ["none found", "0-30", "30-50", "50-70", "95-101"]


def sample(lddt: float, rmsd: float, plddt: float, mirror: bool = False) -> Row:
    tally = {"count": [0.0, 10.0], "predicted": [0.0, plddt / 10], "true": [0.0, 10 * lddt], "products": [8.0, 5.0, 6.0]}
    pairs = {"count": [10.0, 0.0], "predicted": [1.0, 0.0], "true": [2.0, 0.0], "products": [8.0, 5.0, 6.0]}
    scores = {"lddt": lddt, "tm": lddt / 1.4, "gdt_ts": 0.1, "rmsd": rmsd, "mirror": mirror, "dockq": None}
    scores |= {"ca_ca": 1.0, "clashes": 3.0, "bonds_right": 1.0, "chirality_right": 0.5}
    return scores | {"plddt": plddt, "ptm": 0.3, "ranking_score": 0.3, "plddt_tally": tally, "pae_tally": pairs}


def test_summary_is_what_the_rows_say() -> None:
    """Means of the mean, first-ranked and best samples; 0 for what was not found, whose RMSD is left out; mirrors of what is folded; what
    ranking gains; medians by identity, where no template means no more than the model itself has."""
    baseline = {"lddt": 0.5, "tm": 0.5, "gdt_ts": 0.5, "rmsd": 4.0}
    drawn = (
        ([sample(0.2, 9.0, 40.0, True), sample(0.4, 8.0, 60.0)], baseline, "30-50", {"identity": 0.4, "coverage": 0.9}, baseline),
        ([sample(0.8, 2.0, 80.0), sample(0.6, 3.0, 70.0, True)], None, "30-50", None, None),
    )
    rows = [
        {
            "length": 50 + 100 * k,
            "identity": bin,
            "template": template,
            "seconds": 1.0,
            "baselines": {"helix": baseline, "random": baseline, "nearest": found, "copied": found},
            "predictions": {"sequence": {"ranked": 1, "samples": samples, "closed": closed}},
        }
        for k, (samples, found, bin, template, closed) in enumerate(drawn)
    ]
    whole = summarise(rows)
    summary = whole["evidence"]["sequence"]
    accuracy = summary["accuracy"]
    assert [accuracy[which]["lddt"][0] for which in ("mean sample", "ranked first", "best sample")] == pytest.approx([0.5, 0.5, 0.6])
    assert [accuracy[which]["rmsd"][0] for which in ("mean sample", "ranked first", "best sample")] == pytest.approx([5.5, 5.5, 5.0])
    assert accuracy["mean sample"]["lddt"][1] == pytest.approx(0.2)  # of 0.3 and 0.7: their half difference
    assert accuracy["nearest training chain"]["tm"][0] == 0.25 and accuracy["nearest training chain"]["rmsd"][0] == 4.0
    assert accuracy["best template copied, gaps closed"]["lddt"][0] == pytest.approx((0.5 + 0.6) / 2)
    assert summary["found"] == {"helix": 2, "random": 2, "nearest": 1, "copied": 1}
    geometry = summary["geometry"]
    assert (geometry["clashes"], geometry["mirror"], geometry["folded"], geometry["mirror_folded"]) == (3, 0.5, 1, 0.5)
    assert summary["ranking"]["lddt_gain"][0] == pytest.approx(0.0) and summary["ranking"]["lddt_possible"][0] == pytest.approx(0.1)
    assert {name: part["chains"] for name, part in summary["by_length"].items()} == {"0-99": 1, "100-199": 1}
    assert summary["calibration"]["ece"] == pytest.approx(abs(25.0 / 40 - 0.5), abs=1e-4)
    assert summary["calibration"]["pae_ece"] == pytest.approx(3.2) and summary["calibration"]["pae_bias"] == pytest.approx(-3.2)
    bins = whole["by_identity"]["sequence"]
    assert bins["30-50"]["found"] == 1 and bins["30-50"]["copied"]["tm"] == 0.25 and bins["30-50"]["closed"]["lddt"] == pytest.approx(0.55)
    assert bins["30-50"]["without"]["lddt"] == pytest.approx(0.5) and "with" not in bins["30-50"]
    rows[1]["predictions"]["sequence"] |= {"identity": "0-30", "template": {"identity": 0.2, "coverage": 0.8}, "copied": baseline}
    own = summarise(rows)  # an evidence that found a template of its own
    assert own["evidence"]["sequence"]["found"]["copied"] == 2 and own["evidence"]["sequence"]["found"]["nearest"] == 1
    assert own["by_identity"]["sequence"]["0-30"]["copied"]["tm"] == 0.5 and own["by_identity"]["sequence"]["0-30"]["identity"] == 0.2
    assert own["by_identity"]["sequence"]["30-50"]["chains"] == 1


def test_homologs_with_templates_without_and_copied(command: Command, model: Model, chains: ChainSet, tmp_path: Path) -> None:
    """A chain that is held out finds its relative in a library of the others; the table has the model both ways and both copies. A model
    that takes no templates has one way, and is told so. An archive holds the same chains."""
    rng = np.random.default_rng(1)
    parent, other = random_chains(rng, 2, 60)
    part = parent.sequence[6:50]
    target = Made("target_A", part[:20] + ("A" if part[20] == "G" else "G") + part[21:], profile=True)  # a literal part is no template
    folder = write_archive(tmp_path / "set", [parent, other, target], rng, clusters=[0, 1, 0])
    (tmp_path / "held.tsv").write_text(write_holdout([Holdout("target_A", "homolog", "70-95", parent.id, 0.9, 1.0)]))
    assert command("data", "library", folder, "train.library", "--holdout", "held.tsv").status == 0
    words = ("evaluate", "--chains", folder, "--holdout", "held.tsv", "--split", "homolog", "--samples", 1, "--steps", 2, "--cycles", 1)
    said = command(*words, "--model", "model.safetensors", "--templates", "train.library", "--out", "with")
    assert said.status == 0 and "| 70-95 | 1 | 1 |" in said.text
    assert "## By the nearest known relative, from the sequence alone" in said.text
    (row,) = [json.loads(line) for line in (tmp_path / "with" / "rows.jsonl").read_text().splitlines()[1:]]
    assert set(row["predictions"]) == {"sequence", "profile", "sequence + templates", "profile + templates"}
    assert row["predictions"]["sequence"]["samples"] != row["predictions"]["sequence + templates"]["samples"]
    assert row["template"]["file"] == parent.id and row["baselines"]["copied"]["coverage"] > 0.8
    closed = row["predictions"]["sequence"]["closed"]
    assert closed["coverage"] == 1 and row["identity"] == "70-95"
    assert all(row["predictions"][name]["copied"]["coverage"] > 0.8 for name in ("sequence", "profile"))
    assert all((tmp_path / "with" / name).stat().st_size > 5000 for name in ("accuracy.png", "calibration.png"))

    untrained = dataclasses.replace(tiny(), template=dataclasses.replace(tiny().template, trained=False))
    save_model(AlphaFold3(untrained), tmp_path / "blind.safetensors")
    said = command(*words, "--model", "blind.safetensors", "--templates", "train.library", "--out", "blind", "--evidence", "sequence")
    assert said.status == 0 and "was trained without templates" in said.text and "with templates" not in said.text.replace("+", "")

    shutil.copyfile(tmp_path / "held.tsv", folder / "held.tsv")
    archive = build(tmp_path / "a.zarr", ChainSource(str(folder), holdout=str(folder / "held.tsv")))
    known, own = ArchiveChains(Archive(archive)), ChainSet(folder, folder / "held.tsv")
    assert [known.name(i) for i in known.split("homolog")] == ["target_A"] and len(known.clusters(known.split("train"))) == 2
    first, second = known[known.split("homolog")[0]], own[2]
    assert first.sequence == second.sequence and np.array_equal(first.mask, second.mask)
    assert np.linalg.norm((first.positions - second.positions)[first.mask] - (first.positions - second.positions)[first.mask][0]) < 0.5
    assert first.profile is not None and second.profile is not None and np.allclose(first.profile, second.profile, atol=0.02)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "give one of them"),
        (("run",), "give --truth DIR"),
        (("--model", "m"), "give --chains DIR"),
        (("run", "--truth", "t", "--card", "c.md"), "--card is written of a model"),
        (("--model", "m", "--chains", "c", "--evidence", "msa"), "expected sequence or profile"),
        (("run", "--truth", "t", "--set", "steps=3"), "expected a setting of template_search or sampling"),
    ],
)
def test_a_request_that_cannot_be_is_told(command: Command, words: tuple[str, ...], expected: str) -> None:
    """One error, exit status 2, before anything is read."""
    done = command("evaluate", "--seed", "1", *words)
    assert done.status == 2 and expected in done.text


def test_card_says_what_was_measured(chains: ChainSet, model: Model, tmp_path: Path) -> None:
    """Every number of the accuracy table stands in the card, with the weights' digest, the sets and the time of the runs."""
    run = tmp_path / "train_small"
    run.mkdir()
    rows = [{"step": 20, "seconds": 60.0}, {"step": 40, "seconds": 120.0}, {"step": 60, "seconds": 30.0}, {"step": 80, "seconds": 90.0}]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_time(run) == "`train_small`: 80 steps, 4 minutes"  # 120 s, and 90 s after it was cut: 3.5 minutes
    summary = evaluate(source(model, chains), tmp_path / "out")
    (run / "curves.png").write_bytes(b"curves")
    write_card(tmp_path / "weights" / "README.md", summary, [run], "one core", evaluation=tmp_path / "out")
    text = (tmp_path / "weights" / "README.md").read_text()
    shown = re.findall(r"!\[\w+\]\((\S+)\)", text)
    assert [name.removeprefix(f"{model.name}_") for name in shown] == [
        f"{name}.png" for name in ("structures", "accuracy", "calibration", "train_small_curves")
    ]
    for name, original in ((shown[0], tmp_path / "out" / "structures.png"), (shown[3], run / "curves.png")):
        assert (tmp_path / "weights" / name).read_bytes() == original.read_bytes()
    assert model.digest in text and "6 experimental chains" in text and "80 steps, 4 minutes" in text and "one core" in text
    for part in ("sequence", "profile"):
        for scores in summary["evidence"][part]["accuracy"].values():
            assert all(scores[name][0] is None or f"{scores[name][0]:.{1 if name == 'rmsd' else 3}f}" in text for name in ACCURACY)
    assert not re.search(r"\{[a-z_]+\}|None|nan", text)
    own = tmp_path / "weights" / "README.md"
    write_card(tmp_path / "again" / "README.md", summary, [own, run], "one core")  # the run's folder may be gone by now: the card has it
    again = (tmp_path / "again" / "README.md").read_text()
    assert "| training | `train_small`: 80 steps, 4 minutes; `train_small`: 80 steps, 4 minutes |" in again
    assert (tmp_path / "again" / f"{model.name}_train_small_curves.png").read_bytes() == b"curves"
    (tmp_path / "other.md").write_text("# Another text\n")
    with pytest.raises(InputError, match="not a card"):
        write_card(tmp_path / "card.md", summary, [tmp_path / "other.md"], "one core")
    alone = summary | {"evidence": {"sequence": summary["evidence"]["sequence"]}}
    assert "With a profile" not in card(alone, [], "one core")
    assert "| trained on | three chains |" in card(alone, [], "one core", "three chains")
    with pytest.raises(InputError, match="absent"):
        write_card(tmp_path / "card.md", summary, [tmp_path / "absent"], "one core")
