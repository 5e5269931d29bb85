"""Muon against its definition by singular values and against torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from structgen.generative import Ema
from structgen.muon import ITERATIONS, Muon, matrices, orthogonalised
from structgen.train import Optimisation, TrainState, train_step
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close
from workflows.training_state import read_state, write_state

SHAPES = [(32, 64), (32, 64), (64, 32), (16, 16), (8, 64), (64,)]
RATE, MOMENTUM, BETAS = 1e-2, 0.95, (0.9, 0.99)


def drawn(rng: torch.Generator, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape, generator=rng, dtype=dtype)) for shape in SHAPES]


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (20, 20)])
def test_singular_values_become_about_equal(rng: torch.Generator, shape: tuple[int, int]) -> None:
    """The quintic acts on singular values alone: U diag(p(p(...p(s / |s|)))) V^T, each of them between 0.65 and 1.25."""
    x = torch.randn(3, *shape, generator=rng, dtype=torch.float64)
    u, values, vh = torch.linalg.svd(x, full_matrices=False)
    values = values / values.norm(dim=1, keepdim=True)
    for _ in range(ITERATIONS):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    assert_close(orthogonalised(x), u * values[:, None] @ vh, FLOAT64_ORACLE)
    assert values[:, : min(shape) - 2].min() > 0.65 and values.max() < 1.25


def test_steps_are_those_of_torch(rng: torch.Generator) -> None:
    """Five steps beside torch.optim.Muon for matrices, which rounds to bfloat16, and torch.optim.Adam for the rest, which are equal."""
    mine = drawn(rng)
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in mine]
    wide, rest = matrices(theirs)
    assert [tuple(p.shape) for p in rest] == [(8, 64), (64,)]
    muon = torch.optim.Muon(wide, lr=RATE, momentum=MOMENTUM, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam(rest, lr=RATE, betas=BETAS)
    optimiser = Muon(mine, lr=RATE, momentum=MOMENTUM, betas=BETAS, eps=1e-8)
    before = [parameter.detach().clone() for parameter in mine]
    for _ in range(5):
        for one, other in zip(mine, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=rng, dtype=one.dtype)
            other.grad = one.grad.clone()
        for each in (optimiser, muon, adam):
            each.step()
    for one, other, start in zip(mine[:4], theirs[:4], before, strict=False):
        assert (one - other).norm() < 0.02 * (other - start).norm()
    for one, other in zip(mine[4:], theirs[4:], strict=True):
        assert_close(one.detach(), other.detach(), FLOAT64_IDENTITY)


def test_a_checkpoint_keeps_the_momentum(rng: torch.Generator, tmp_path: Path) -> None:
    """Cut after three of six steps and read back: the same weights and averages, bit for bit."""
    optimisation = Optimisation(method="muon", learning_rate=RATE, warmup_steps=2, ema=Ema(0.9))
    gradients = [[torch.randn(shape, generator=rng) for shape in ((32, 16), (32,))] for _ in range(6)]
    start = nn.Linear(16, 32).state_dict()

    def fresh() -> TrainState:
        network = nn.Linear(16, 32)
        network.load_state_dict(start)
        return TrainState.start(network, optimisation)

    def moved(state: TrainState, given: list[list[Tensor]]) -> TrainState:
        def loss(own: list[Tensor], _: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            return sum(((p * g).sum() for p, g in zip(state.network.parameters(), own, strict=True)), torch.zeros(())), {}

        for own in given:
            state, _ = train_step(state, [own], loss, optimisation, rng)
        return state

    uncut = moved(fresh(), gradients)
    write_state(moved(fresh(), gradients[:3]), tmp_path / "state.safetensors", "{}")
    again = moved(read_state(fresh(), tmp_path / "state.safetensors"), gradients[3:])
    assert again.step == 6
    for one, other in ((uncut.network.state_dict(), again.network.state_dict()), (uncut.average, again.average)):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_weight_without_a_gradient_stands_still(rng: torch.Generator) -> None:
    """As Adam's do: no state, no step, and the others move as if it were not there."""
    mine = drawn(rng)
    start = [parameter.detach().clone() for parameter in mine]
    optimiser = Muon(mine, lr=RATE, momentum=MOMENTUM, betas=BETAS, eps=1e-8)
    for parameter in mine[1:]:
        parameter.grad = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
    optimiser.step()
    assert torch.equal(mine[0], start[0]) and mine[0] not in optimiser.state
    assert all(not torch.equal(one, other) for one, other in zip(mine[1:], start[1:], strict=True))
