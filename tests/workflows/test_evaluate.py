"""An evaluation judges what it says it does, goes on where it was cut, and writes its card."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, Model, load_model, save_model
from structgen.errors import ConfigError, InputError
from structgen.features.chains import ChainSet
from structgen.metrics.tm import tm_score
from tests.alphafold3.weights import randomise
from tests.archive import Made, random_chains, write_archive
from workflows.card import card, run_time, write_card
from workflows.evaluate import Baselines, Protocol, Row, evaluate, selection
from workflows.scoreboard import summarise

ACCURACY = ("lddt", "tm", "gdt_ts", "rmsd")


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


def without_time(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_cut_evaluation_ends_as_an_uncut_one(chains: ChainSet, model: Model, tmp_path: Path) -> None:
    """Cut inside a line, then the same command: the same rows, a row for each chain and one more for the one with a profile."""
    whole, cut = tmp_path / "whole.json", tmp_path / "cut.json"
    first = evaluate(protocol(model), model, chains, whole)
    lines = whole.with_suffix(".jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["evidence"] for line in lines[1:]].count("profile") == 1 and len(lines) == 1 + 4
    cut.with_suffix(".jsonl").write_text("".join(lines[:2]) + lines[2][:50])
    second = evaluate(protocol(model), model, chains, cut)
    again = [json.loads(line) for line in cut.with_suffix(".jsonl").read_text().splitlines()]
    assert without_time(again) == without_time([json.loads(line) for line in lines])
    assert first["sequence"] == second["sequence"] and first["profile"] == second["profile"]
    fewer = evaluate(protocol(model, limit=2), model, chains, whole)
    assert fewer["sequence"]["chains"] == 2 and len(whole.with_suffix(".jsonl").read_text().splitlines()) == 1 + 4
    with pytest.raises(ConfigError, match="another model or other settings"):
        evaluate(protocol(model, seed=2), model, chains, whole)


def test_selection_is_the_first_by_hash(chains: ChainSet, model: Model) -> None:
    """A smaller limit is the beginning of a larger one; no training chain is judged."""
    every = selection(chains, protocol(model))
    assert sorted(every) == [6, 7, 8]
    assert [selection(chains, protocol(model, limit=n)) for n in (1, 2)] == [every[:1], every[:2]]


def test_nearest_training_chain_is_the_hit_s_own_trace(chains: ChainSet) -> None:
    """A piece of training chain 2 gets that chain's atoms; a chain without a hit gets None; a random one has its residues."""
    baselines = Baselines(chains, seed=1)
    record, source = chains[7], chains[2]
    scores = baselines.scores(7, record)["nearest"]
    assert scores["coverage"] > 0.9
    assert scores["tm"] == pytest.approx(tm_score(source.positions[4:38, 1], record.positions[:, 1]), abs=0.1)
    assert baselines.scores(6, chains[6])["nearest"] is None
    assert baselines.scores(6, chains[6])["random"]["coverage"] == 1


def sample(lddt: float, rmsd: float, plddt: float) -> Row:
    tally = {"count": [0.0, 10.0], "predicted": [0.0, plddt / 10], "true": [0.0, 10 * lddt], "products": [8.0, 5.0, 6.0]}
    scores = {"lddt": lddt, "tm": lddt / 2, "gdt_ts": 0.1, "rmsd": rmsd, "mirror": False, "ca_ca": 1.0, "clashes": 3.0}
    return scores | {"plddt": plddt, "ptm": 0.3, "ranking_score": 0.3, "calibration": tally}


def test_summary_is_what_the_rows_say() -> None:
    """Means of the mean, first-ranked and best samples; 0 for a nearest chain that was not found, whose RMSD is left out."""
    baseline = {"lddt": 0.5, "tm": 0.5, "gdt_ts": 0.5, "rmsd": 4.0}
    rows = [
        {"index": k, "length": 50 + 100 * k, "evidence": "sequence", "ranked": 1, "seconds": 1.0, "samples": samples, "baselines": found}
        for k, (samples, found) in enumerate(
            (
                ([sample(0.2, 9.0, 40.0), sample(0.4, 8.0, 60.0)], {"helix": baseline, "random": baseline, "nearest": baseline}),
                ([sample(0.8, 2.0, 80.0), sample(0.6, 3.0, 70.0)], {"helix": baseline, "random": baseline, "nearest": None}),
            )
        )
    ]
    summary = summarise(rows)["sequence"]
    accuracy = summary["accuracy"]
    assert [accuracy[which]["lddt"][0] for which in ("mean sample", "ranked first", "best sample")] == pytest.approx([0.5, 0.5, 0.6])
    assert [accuracy[which]["rmsd"][0] for which in ("mean sample", "ranked first", "best sample")] == pytest.approx([5.5, 5.5, 5.0])
    assert accuracy["mean sample"]["lddt"][1] == pytest.approx(0.2)  # of 0.3 and 0.7: their half difference
    assert accuracy["nearest training chain"]["tm"][0] == 0.25 and accuracy["nearest training chain"]["rmsd"][0] == 4.0
    assert summary["nearest_found"] == 1 and summary["geometry"]["clashes"] == 3
    assert {name: part["chains"] for name, part in summary["by_length"].items()} == {"0-99": 1, "100-199": 1}
    assert summary["calibration"]["ece"] == pytest.approx(abs(25.0 / 40 - 0.5), abs=1e-4)


def test_card_says_what_was_measured(chains: ChainSet, model: Model, tmp_path: Path) -> None:
    """Every number of the accuracy table stands in the card, with the weights' digest, the sets and the time of the runs."""
    run = tmp_path / "train_small"
    run.mkdir()
    rows = [{"step": 20, "seconds": 60.0}, {"step": 40, "seconds": 120.0}, {"step": 60, "seconds": 30.0}, {"step": 80, "seconds": 90.0}]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_time(run) == "`train_small`: 80 steps, 4 minutes"  # 120 s, and 90 s after it was cut: 3.5 minutes
    summary = evaluate(protocol(model), model, chains, tmp_path / "out.json")
    write_card(tmp_path / "weights" / "README.md", summary, [run], "one core")
    text = (tmp_path / "weights" / "README.md").read_text()
    assert model.digest in text and "6 experimental chains" in text and "80 steps, 4 minutes" in text and "one core" in text
    for part in ("sequence", "profile"):
        for scores in summary[part]["accuracy"].values():
            assert all(scores[name][0] is None or f"{scores[name][0]:.{1 if name == 'rmsd' else 3}f}" in text for name in ACCURACY)
    assert not re.search(r"\{[a-z_]+\}|None|nan", text)
    assert "With a profile" not in card({k: v for k, v in summary.items() if k != "profile"}, [], "one core")
    with pytest.raises(InputError, match="absent"):
        write_card(tmp_path / "card.md", summary, [tmp_path / "absent"], "one core")
