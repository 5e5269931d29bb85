"""One optimisation step: accumulation, averaging over processes, refusal of what is not finite."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from structgen.errors import NumericalError
from structgen.generative import Ema, generators
from structgen.train import Metrics, Optimisation, TrainState, train_step
from tests.tolerance import FLOAT64_IDENTITY, assert_close

OPTIMISATION = Optimisation(learning_rate=0.1, warmup_steps=4, decay=0.5, decay_steps=10, ema=Ema(0.5))
Pair = tuple[Tensor, Tensor]


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


def test_rate_falls_on_a_line() -> None:
    """The whole rate until step 10, half of it at 15, nothing from 20 on."""
    optimisation = dataclasses.replace(OPTIMISATION, falls_from=10, falls_to=20)
    assert [optimisation.rate(step) for step in (0, 3, 10, 15, 20, 30)] == pytest.approx([0.025, 0.1, 0.1, 0.05, 0, 0])


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


def test_two_processes_make_the_step_of_one(rng: torch.Generator) -> None:
    """Two halves of a batch, each with the other's gradients and figures averaged in, move as the whole batch does.

    The second half lacks a gradient for the offset, which counts as zero there.
    """
    four, start = examples(rng, 4), line(rng).state_dict()

    def without_offset(network: nn.Linear, example: Pair, shown: bool) -> tuple[Tensor, Metrics]:
        value = (example[0] @ network.weight.T + (network.bias if shown else 0) - example[1]).square().mean()
        return value, {"square": value.item()}

    def fresh() -> tuple[nn.Linear, TrainState]:
        network = nn.Linear(3, 1).double()
        network.load_state_dict(start)
        return network, TrainState.start(network, OPTIMISATION)

    def step(batch: list[int], **how: object) -> tuple[TrainState, Metrics]:
        network, state = fresh()
        return train_step(state, batch, lambda k, _: without_offset(network, four[k], k < 2), OPTIMISATION, rng, **how)  # type: ignore[arg-type]

    sent: list[list[Tensor]] = []
    for half in ([0, 1], [2, 3]):
        step(half, average=lambda tensors: sent.append([t.clone() for t in tensors]))
    mean = [(a + b) / 2 for a, b in zip(*sent, strict=True)]

    def receive(tensors: list[Tensor]) -> None:
        for tensor, value in zip(tensors, mean, strict=True):
            tensor.copy_(value)

    (whole, figures), (shared, theirs) = step([0, 1, 2, 3]), step([0, 1], average=receive)
    for one, other in zip(snapshot(whole), snapshot(shared), strict=True):
        assert_close(one, other, FLOAT64_IDENTITY)
    assert theirs == pytest.approx(figures)


def test_every_example_has_its_own_generator(rng: torch.Generator) -> None:
    """With a list, example k draws from generator k, however the examples are shared out."""
    network, seen = line(rng), []
    state = TrainState.start(network, OPTIMISATION)

    def loss(example: Pair, own: torch.Generator) -> tuple[Tensor, Metrics]:
        seen.append(torch.rand((), generator=own).item())
        return square(network, example)

    train_step(state, examples(rng, 3), loss, OPTIMISATION, generators(5, 3, first=7))
    assert seen == [torch.rand((), generator=one).item() for one in generators(5, 3, first=7)]
