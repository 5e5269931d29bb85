"""What training makes small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from structgen.generative.coupling import Coupling, Independent
from structgen.generative.denoiser import Denoiser
from structgen.generative.noise import Rng
from structgen.generative.path import Endpoints, Path, Time, X
from structgen.generative.times import TimeSampler
from structgen.generative.weights import Weight


@dataclass(frozen=True)
class Loss:
    """A loss of each example [b]; `parts` are named shares of it or figures beside it, each [b], to be reported."""

    total: Tensor
    parts: Mapping[str, Tensor]


class Objective(Protocol):
    """A denoiser, clean data [b, *event] and its condition -> the loss of each example."""

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss: ...


@dataclass(frozen=True)
class Noised:
    """A training example: the true endpoints, the state x between them at t [b], and the weight [b] of an error there."""

    path: Path
    truth: Endpoints
    x: X
    t: Time
    weight: Time


Error: TypeAlias = Callable[[Endpoints, Noised, Any], Loss]
"""(predicted endpoints, the example, the condition) -> Loss. It applies `example.weight` itself, because a loss may have terms that are not
weighted by the time (SI eq. 6: smooth lDDT) and a mask that only the condition knows."""


def data_error(guess: Endpoints, example: Noised, cond: Any) -> Loss:
    """Mean square over the event of the difference in data (EDM, eq. 2)."""
    return _weighted(guess.data - example.truth.data, example, "data")


def noise_error(guess: Endpoints, example: Noised, cond: Any) -> Loss:
    """Mean square of the difference in noise (Ho et al. 2020, eq. 14)."""
    return _weighted(guess.noise - example.truth.noise, example, "noise")


def velocity_error(guess: Endpoints, example: Noised, cond: Any) -> Loss:
    """Mean square of the difference in velocity (Lipman et al. 2022, eq. 14)."""
    path, t = example.path, example.t
    return _weighted(path.velocity(guess, t) - path.velocity(example.truth, t), example, "velocity")


def _weighted(difference: X, example: Noised, name: str) -> Loss:
    error = difference.square().flatten(1).mean(1)
    return Loss(example.weight * error, {name: error})


@dataclass(frozen=True)
class Regression:
    """Predict the endpoints of the line that a noisy state lies on: the losses of DDPM, EDM, flow matching, SD3 and AlphaFold 3.

    They differ in where times are drawn, how errors there are weighted, what is compared (`error`) and which noise goes with which data.
    """

    path: Path
    times: TimeSampler
    weight: Weight
    error: Error = data_error
    coupling: Coupling = field(default_factory=Independent)

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        truth = self.coupling.pair(data, rng)
        t = self.times.draw(data, rng)
        x = self.path.state(truth, t)
        return self.error(denoiser(x, t, t, cond), Noised(self.path, truth, x, t, self.weight(self.path, t)), cond)
