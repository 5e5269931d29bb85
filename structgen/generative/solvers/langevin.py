"""Langevin dynamics, plain and annealed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled


def langevin(score: Callable[[X], X], x: X, *, step: float, count: int, rng: Rng) -> X:
    """x <- x + step score(x) + sqrt(2 step) z, `count` times.

    A chain at one noise level, whose law tends to the one of the score with a bias of order `step`: on N(0, 1) the variance becomes
    1 / (1 - step / 2).
    """
    spread = math.sqrt(2 * step)
    for _ in range(count):
        x = plus(plus(x, step, score(x)), spread, normal_like(x, rng))
    return x


class AnnealedPlan(NamedTuple):
    t: Coefficient
    sigma: Coefficient
    step: Coefficient
    scale: Coefficient  # alpha(s) / alpha(t)


@dataclass(frozen=True)
class AnnealedLangevin(Solver[AnnealedPlan, None]):
    """`count` Langevin steps at each noise level, from the largest down (Song & Ermon 2019, Algorithm 1).

    Their x + a / 2 score + sqrt(a) z with a = `size` (sigma / sigma_last)^2, so `langevin` with step a / 2; sigma_last is the last level at
    which steps are made, that of times[-2]. Then x is taken to the next level as it is, scaled by alpha. The lecture's picture numbers
    levels from the smallest; the algorithm needs the largest first.
    """

    size: float
    count: int

    order: ClassVar[int] = 0

    def plan(self, path: Path, t: Time, s: Time) -> AnnealedPlan:
        (alpha, sigma), (alpha_s, _) = path.alpha_sigma(t), path.alpha_sigma(s)
        return AnnealedPlan(t, sigma, self.size / 2 * (sigma / sigma[-1]) ** 2, alpha_s / alpha)

    def step(self, plan: AnnealedPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        return scaled(plan.scale, langevin(_score(denoise, plan.t, plan.sigma), x, step=plan.step, count=self.count, rng=rng)), None


def _score(denoise: DenoiseAt, t: Coefficient, sigma: Coefficient) -> Callable[[X], X]:
    return lambda x: scaled(-1 / sigma, denoise(x, t, t).noise)
