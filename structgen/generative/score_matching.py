"""Four ways to fit a score, the gradient of a log density: explicit, implicit, sliced and denoising."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from structgen.generative.denoiser import Denoiser
from structgen.generative.divergence import Field, exact, normal_probes
from structgen.generative.noise import Rng, normal_like
from structgen.generative.objective import Loss, Noised
from structgen.generative.path import Endpoints, Path, Time, X
from structgen.generative.times import TimeSampler
from structgen.generative.weights import Weight

ScoreLoss: TypeAlias = Callable[[Field, Noised, Rng], Tensor]
"""(score at the example's times, the example, rng) -> the loss of each example [b], unweighted and summed over the event."""


@dataclass(frozen=True)
class Explicit:
    """|score - truth|^2 / 2, whose mean is half the Fisher divergence; `truth` (x, t) -> [b, *event] must be known."""

    truth: Callable[[X, Time], X]

    def __call__(self, score: Field, example: Noised, rng: Rng) -> Tensor:
        return (score(example.x) - self.truth(example.x, example.t)).square().flatten(1).sum(1) / 2


def implicit(score: Field, example: Noised, rng: Rng) -> Tensor:
    """|score|^2 / 2 + div score: the explicit loss less a constant, by parts (Hyvarinen 2005). One backward pass an entry of the event."""
    value, divergence = exact(score, example.x)
    return value.square().flatten(1).sum(1) / 2 + divergence


@dataclass(frozen=True)
class Sliced:
    """|score|^2 / 2 + mean of v^T grad score v over normal probes v (Song et al. 2019, with the norm in closed form): the implicit loss in
    expectation, with one backward pass a probe whatever the size of the event."""

    probes: int = 1

    def __call__(self, score: Field, example: Noised, rng: Rng) -> Tensor:
        value, divergence = normal_probes(example.x, self.probes, rng)(score, example.x)
        return value.square().flatten(1).sum(1) / 2 + divergence


def denoising(score: Field, example: Noised, rng: Rng) -> Tensor:
    """|score - grad log q(x_t | data)|^2 / 2, with -noise / sigma for the gradient: the explicit loss plus a constant (Vincent 2011)."""
    return (score(example.x) - example.path.score(example.truth, example.t)).square().flatten(1).sum(1) / 2


@dataclass(frozen=True)
class ScoreMatching:
    """Fit the score that a denoiser implies, -noise / sigma, at drawn times: an `Objective`. With `denoising` and the weight sigma^2 it is
    L_simple (Song & Ermon 2019, eq. 5). Times must keep away from sigma = 0."""

    path: Path
    times: TimeSampler
    weight: Weight
    loss: ScoreLoss = denoising

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        truth = Endpoints(data, normal_like(data, rng))
        t = self.times.draw(data, rng)
        weight = self.weight(self.path, t)
        error = self.loss(score_of(denoiser, self.path, t, cond), Noised(self.path, truth, self.path.state(truth, t), t, weight), rng)
        return Loss(weight * error, {"score": error})


def score_of(denoiser: Denoiser[Any], path: Path, t: Time, cond: Any) -> Field:
    """The denoiser's score at times t [b] as a field."""
    return lambda x: path.score(denoiser(x, t, t, cond), t)
