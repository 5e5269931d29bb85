"""Langevin steps after each step of another solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus


class CorrectedPlan(NamedTuple):
    s: Coefficient
    lands: Coefficient  # sigma(s) = 0
    towards: Coefficient  # of the predicted noise: -step / sigma(s)
    fresh: Coefficient  # sqrt(2 step)
    inner: Any


@dataclass(frozen=True)
class Corrected(Solver[CorrectedPlan, Any]):
    """Predictor-corrector: `inner` goes to s, then `count` Langevin steps pull its law towards that of s (Song et al. 2021, Algorithm 1).

    Their step, 2 (r |z| / |score|)^2, with |score| = |z| / sigma, as it is for a true score on average: 2 (r sigma_s)^2, known before the
    loop. None on the step that lands on data.
    """

    inner: Solver[Any, Any]
    count: int = 1
    snr: float = 0.16  # their r

    order: ClassVar[int] = 0

    def plan(self, path: Path, t: Time, s: Time) -> CorrectedPlan:
        sigma = path.alpha_sigma(s)[1]
        return CorrectedPlan(s, sigma == 0, -2 * self.snr**2 * sigma, 2 * self.snr * sigma, self.inner.plan(path, t, s))

    def step(self, plan: CorrectedPlan, denoise: DenoiseAt, x: X, memory: Any, rng: Rng) -> tuple[X, Any]:
        x, memory = self.inner.step(plan.inner, denoise, x, memory, rng)
        for _ in range(0 if plan.lands else self.count):
            x = plus(plus(x, plan.towards, denoise(x, plan.s, plan.s).noise), plan.fresh, normal_like(x, rng))
        return x, memory
