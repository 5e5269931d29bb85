"""The head's training goes on where it was cut, and changes nothing but the head."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.alphafold3.config import Sampling, tiny
from structgen.alphafold3.model import AlphaFold3, Model, load_model, save_model
from structgen.errors import ConfigError
from structgen.features.chains import ChainSet
from structgen.train import Optimisation
from tests.alphafold3.weights import randomise
from tests.archive import random_chains, write_archive
from workflows.train_confidence import ConfidenceRun, Rollouts, candidates, drawn, read_run, train_confidence

RUN = ConfidenceRun(
    steps=6,
    seed=2,
    log_every=3,
    checkpoint_every=2,
    rollouts=Rollouts(count=4, held_out=1, shortest=12, longest=20, samples=2, steps=2),
    optimisation=Optimisation(warmup_steps=2),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The order of sums, and so the last bits, depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def chains(tmp_path: Path) -> ChainSet:
    rng = np.random.default_rng(0)
    training = [*random_chains(rng, 3, 16), *random_chains(rng, 2, 14, tier="bb", profile=True), *random_chains(rng, 2, 40)]
    return ChainSet(write_archive(tmp_path / "chains", training, rng))


@pytest.fixture
def path(tmp_path: Path, rng: torch.Generator) -> Path:
    save_model(randomise(AlphaFold3(tiny()), rng, scale=0.1), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def model(path: Path) -> Model:
    """Loaded anew: training works on the network that it is given."""
    return load_model(str(path))


def test_a_cut_run_ends_as_an_uncut_one(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """Cut among the roll-outs, then after two steps: roll-outs, state and model are the same bytes in the end."""
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    train_confidence(RUN, model(path), chains, uncut)
    train_confidence(dataclasses.replace(RUN, steps=2), model(path), chains, cut)
    (cut / "rollouts" / "00002.safetensors").unlink()
    train_confidence(RUN, model(path), chains, cut)
    names = [file.relative_to(uncut) for file in sorted(uncut.rglob("*.safetensors"))]
    assert len(names) == 4 + 2
    assert all((cut / name).read_bytes() == (uncut / name).read_bytes() for name in names)


def test_only_the_head_changes(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """The published model has another head and the sampling that the run says, and every other tensor of the model that it was given."""
    sampling = Sampling(cycles=1, steps=3, step_scale=1.25)
    train_confidence(dataclasses.replace(RUN, sampling=sampling), model(path), chains, tmp_path / "run")
    before, after = model(path), model(tmp_path / "run" / "model.safetensors")
    weights = [one.network.state_dict() for one in (before, after)]
    changed = {name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])}
    assert changed and all(name.startswith("confidence.") for name in changed)
    assert after.config == dataclasses.replace(before.config, sampling=sampling)


def test_rollouts_of_another_model_are_refused(chains: ChainSet, path: Path, tmp_path: Path) -> None:
    """A folder's roll-outs belong to one model and one way of making them."""
    train_confidence(RUN, model(path), chains, tmp_path / "run")
    other = dataclasses.replace(RUN, rollouts=dataclasses.replace(RUN.rollouts, samples=3))
    with pytest.raises(ConfigError, match="another model or with other settings"):
        train_confidence(other, model(path), chains, tmp_path / "run")


def test_chains_are_whole_and_of_both_kinds(chains: ChainSet) -> None:
    """Only lengths in the range; full atoms in one pool, profiles in the other; an empty pool is named."""
    assert candidates(RUN.rollouts, chains) == ([0, 1, 2], [3, 4])
    with pytest.raises(ConfigError, match="no training chain of 30 to 60 residues has a profile"):
        candidates(dataclasses.replace(RUN.rollouts, shortest=30, longest=60), chains)


def test_an_epoch_shows_every_rollout_once() -> None:
    """Seven roll-outs in steps of two: fourteen places hold each one twice, in orders of their own."""
    run = dataclasses.replace(RUN, examples_per_step=2)
    paths = [Path(str(k)) for k in range(7)]
    shown = [path for step in range(7) for path in drawn(paths, run, step)]
    assert sorted(shown[:7]) == sorted(shown[7:]) == paths and shown[:7] != shown[7:]


def test_the_run_that_ships_can_be_read() -> None:
    """The configuration of the default model's head is valid and trains on most of its roll-outs."""
    run = read_run(Path(__file__).parents[2] / "configs" / "train_confidence.yaml")
    assert run.rollouts.held_out < 0.2 * run.rollouts.count and run.steps > run.rollouts.count
