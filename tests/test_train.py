"""One optimisation step, and the loop around it: accumulation, refusal of what is not finite, exact resume."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, load_model
from structgen.errors import CheckpointError, ConfigError, NumericalError
from structgen.features.chains import ChainSet
from structgen.generative import Ema
from structgen.io.checkpoint import read_checkpoint
from structgen.train import Metrics, Optimisation, TrainState, train_step
from tests.archive import random_chains, write_archive
from tests.tolerance import FLOAT64_IDENTITY, assert_close
from workflows.train import TrainingRun, read_run, train

OPTIMISATION = Optimisation(learning_rate=0.1, warmup_steps=4, decay=0.5, decay_steps=10, ema=Ema(0.5))
Pair = tuple[Tensor, Tensor]

CONFIG = """
preset: tiny
seed: 3
steps: 9
log_every: 3
checkpoint_every: 3
crops: {tokens: 14, profile_keep: 0.5}
loss: {noise_levels: 2, cycles: 2}
optimisation: {warmup_steps: 2}
"""


def line(rng: torch.Generator) -> nn.Linear:
    layer = nn.Linear(3, 1).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return layer


def square(network: nn.Module, example: Pair) -> tuple[Tensor, Metrics]:
    value = (network(example[0]) - example[1]).square().mean()
    return value, {"square": value.item()}


def examples(rng: torch.Generator, count: int) -> list[Pair]:
    return [tuple(torch.randn(2, width, generator=rng, dtype=torch.float64) for width in (3, 1)) for _ in range(count)]  # type: ignore[misc]


def snapshot(state: TrainState) -> list[Tensor]:
    moments = [m for moment in state.optimiser.state_dict()["state"].values() for m in moment.values()]
    return [t.detach().clone() for t in (*state.network.state_dict().values(), *state.average.values(), *moments)]


def test_accumulation_is_one_big_batch(rng: torch.Generator) -> None:
    """Four examples one after the other move weights, averages and moments as their concatenation does."""
    four = examples(rng, 4)
    together = [(torch.cat([x for x, _ in four]), torch.cat([y for _, y in four]))]
    start, ends = line(rng).state_dict(), []
    for batch in (four, together):
        network = nn.Linear(3, 1).double()
        network.load_state_dict(start)
        state = TrainState.start(network, OPTIMISATION)
        for _ in range(3):
            state, metrics = train_step(state, batch, lambda example, _, network=network: square(network, example), OPTIMISATION, rng)
        ends.append([*snapshot(state), torch.tensor([metrics["loss"], metrics["square"], metrics["gradient_norm"]])])
        assert state.step == 3
    for one, other in zip(*ends, strict=True):
        assert_close(one, other, FLOAT64_IDENTITY)


def test_a_step_is_adam_on_the_clipped_mean_gradient(rng: torch.Generator) -> None:
    """Two steps equal the formulas of Adam written out, with the warm-up's rates and the gradient scaled to the largest norm allowed."""
    optimisation = dataclasses.replace(OPTIMISATION, clip_norm=0.01, eps=1.0)  # a large eps: Adam alone would undo a constant scale
    network, batch = line(rng), examples(rng, 3)
    weight = network.weight.detach().clone()
    state = TrainState.start(network, optimisation)
    mean, square_mean = torch.zeros_like(weight), torch.zeros_like(weight)
    b1, b2 = optimisation.betas
    for step in range(2):
        network.zero_grad()
        sum(square(network, example)[0] for example in batch).backward()  # type: ignore[union-attr]
        gradients = [p.grad / 3 for p in network.parameters()]
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        gradient = gradients[0] * min(1.0, 0.01 / (norm.item() + 1e-6))
        mean, square_mean = b1 * mean + (1 - b1) * gradient, b2 * square_mean + (1 - b2) * gradient**2
        corrected = (square_mean / (1 - b2 ** (step + 1))).sqrt() + 1.0
        weight = weight - 0.1 * (step + 1) / 4 * mean / (1 - b1 ** (step + 1)) / corrected
        state, metrics = train_step(state, batch, lambda example, _: square(network, example), optimisation, rng)
        assert metrics["gradient_norm"] == pytest.approx(norm.item()) and metrics["gradient_norm"] > 0.01
    assert_close(network.weight.detach(), weight, FLOAT64_IDENTITY)


def test_rate_rises_then_decays() -> None:
    """A quarter, a half, ... of the rate during four steps of warm-up; half of it ten steps later."""
    assert [OPTIMISATION.rate(step) for step in (0, 1, 3, 4, 14, 24)] == pytest.approx([0.025, 0.05, 0.1, 0.1, 0.05, 0.025])


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_what_is_not_finite_touches_nothing(rng: torch.Generator, broken: str) -> None:
    """A NaN in the last of three examples, in the loss or only in its gradient, leaves weights, averages and moments as they were."""
    network, batch = line(rng), examples(rng, 3)
    state = TrainState.start(network, OPTIMISATION)
    state, _ = train_step(state, batch, lambda example, _: square(network, example), OPTIMISATION, rng)

    def loss(example: Pair, _: torch.Generator) -> tuple[Tensor, Metrics]:
        value, parts = square(network, example)
        if example is not batch[-1]:
            return value, parts
        return (value * torch.nan if broken == "loss" else value + (0 * value).sqrt()), parts

    before = snapshot(state)
    with pytest.raises(NumericalError, match=f"step 1: the {broken}"):
        train_step(state, batch, loss, OPTIMISATION, rng)
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(state), strict=True))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of sums, and so the last bits, depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    chains = [*random_chains(rng, 2, 18, profile=True), *random_chains(rng, 2, 12, tier="bb"), *random_chains(rng, 1, 15, split="val")]
    return write_archive(tmp_path / "chains", chains, rng)


def test_a_killed_run_ends_as_an_uncut_one(archive: Path, tmp_path: Path, one_thread: None) -> None:
    """`kill -9` after the first checkpoint, then the same command: state and model are the same bytes as without the cut."""
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG)
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    state = train(read_run(config), ChainSet(archive), uncut)
    command = [sys.executable, "-m", "workflows.train", config, "--chains", archive, "--out", cut, "--threads", "1"]
    process = subprocess.Popen([str(part) for part in command], env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    while not (cut / "state.safetensors").exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, errors
    assert 0 < int(read_checkpoint(cut / "state.safetensors")[1]["step"]) < state.step
    train(read_run(config), ChainSet(archive), cut)
    for name in ("state.safetensors", "model.safetensors"):
        assert (cut / name).read_bytes() == (uncut / name).read_bytes()


def test_a_run_moves_everything_but_the_confidence_head(archive: Path, tmp_path: Path, one_thread: None) -> None:
    """Trunk, diffusion and distogram learn; the head is as it was drawn; the model file holds the averages."""
    run = TrainingRun(preset="tiny", steps=2, seed=1, optimisation=dataclasses.replace(OPTIMISATION, ema=Ema(0.5)))
    state = train(run, ChainSet(archive), tmp_path / "run")
    torch.manual_seed(1)
    fresh = dict(AlphaFold3(tiny()).named_parameters())
    moved = {name.split(".")[0]: False for name in fresh}
    for name, parameter in state.network.named_parameters():
        moved[name.split(".")[0]] |= not torch.equal(parameter, fresh[name])
    assert moved == {"trunk": True, "denoiser": True, "distogram": True, "confidence": False}
    published = load_model(str(tmp_path / "run" / "model.safetensors")).network.state_dict()
    assert all(torch.equal(published[name], average) for name, average in state.average.items())


def test_a_checkpoint_of_another_network_is_refused(archive: Path, tmp_path: Path) -> None:
    """A run does not go on from weights that are not its own."""
    train(TrainingRun(preset="tiny", steps=1, checkpoint_every=1), ChainSet(archive), tmp_path / "run")
    with pytest.raises(CheckpointError, match="does not fit"):
        train(TrainingRun(preset="small", steps=2), ChainSet(archive), tmp_path / "run")


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    """A YAML file with an unknown key, or none at all, is refused with its name."""
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.replace("tokens", "token"))
    with pytest.raises(ConfigError, match=r"run\.yaml\.crops: unknown key 'token'; did you mean 'tokens'"):
        read_run(path)
    with pytest.raises(ConfigError, match="absent"):
        read_run(tmp_path / "absent.yaml")
