"""The smallest network that shows a method, and its training."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from structgen.generative import Denoise, Denoiser, Ema, Objective
from structgen.train import Optimisation, TrainState, train_step

Draw = Callable[[int], Tensor]
"""count -> data [count, ...]."""


class Perceptron(nn.Module):
    """(x [b, d], times [b, k]) -> [b, d]: three hidden layers over a few waves of both, smooth, so that derivatives of any order exist."""

    def __init__(self, dimensions: int, times: int, rng: Generator, width: int = 96) -> None:
        super().__init__()
        sizes = (5 * dimensions + 7 * times, width, width, width, dimensions)
        layers = [layer for a, b in pairwise(sizes) for layer in (_linear(a, b, rng), nn.SiLU())]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, times: Tensor, cond: Any = None) -> Tensor:
        return self.body(torch.cat([_waves(x, 1.0, 2), _waves(times, math.pi / 2, 3)], 1))


def _waves(v: Tensor, lowest: float, octaves: int) -> Tensor:
    """v [b, k], and its sines and cosines at doubling frequencies."""
    phases = [lowest * 2**k * v for k in range(octaves)]
    return torch.cat([v, *(phase.sin() for phase in phases), *(phase.cos() for phase in phases)], 1)


def _linear(inputs: int, outputs: int, rng: Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=rng) / inputs**0.5)
        layer.bias.zero_()
    return layer


def trained(denoiser: Denoiser[Any], objective: Objective, draw: Draw, updates: int, rng: Generator, **options: Any) -> Denoise:
    """The denoiser after `fit`, as a function without gradients."""
    fit(denoiser, objective, draw, updates, rng, **options)
    return frozen(denoiser)


def fit(
    model: nn.Module,
    objective: Any,
    draw: Draw,
    updates: int,
    rng: Generator,
    *,
    batch: int = 256,
    rate: float = 6e-3,
    on_update: Callable[[int, float], None] = lambda update, loss: None,
) -> None:
    """Train on `updates` batches of draw(count), with a rate that falls; at the end the weights are their moving average."""
    optimisation = Optimisation(
        learning_rate=rate, warmup_steps=max(updates // 20, 1), decay=0.05, decay_steps=max(updates, 1), ema=Ema(0.995)
    )

    def loss(data: Tensor, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        return objective(model, data, None, rng).total.mean(), {}

    state = TrainState.start(model, optimisation)
    for update in range(updates):
        state, metrics = train_step(state, [draw(batch).float()], loss, optimisation, rng)
        on_update(update, metrics["loss"])
    model.load_state_dict(state.average)


def frozen(denoiser: Denoiser[Any]) -> Denoise:
    """The denoiser as a function of states of any type, without gradients."""

    def denoise(x: Tensor, t: Tensor, s: Tensor) -> Any:
        with torch.no_grad():
            return denoiser(x.float(), t.float(), s.float(), None)

    return denoise
