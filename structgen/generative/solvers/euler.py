"""Euler's method on the probability flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from structgen.generative.noise import Rng
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus


class EulerPlan(NamedTuple):
    t: Coefficient
    data: Coefficient  # step_scale (s - t) alpha'(t)
    noise: Coefficient  # step_scale (s - t) sigma'(t)


@dataclass(frozen=True)
class Euler(Solver[EulerPlan, None]):
    """x + step_scale (s - t) velocity(t). A step scale above 1 sharpens samples and is no longer a solver of the flow (SI Algorithm 18,
    line 9: eta = 1.5); the order holds at 1."""

    step_scale: float = 1.0

    order: ClassVar[int] = 1

    def plan(self, path: Path, t: Time, s: Time) -> EulerPlan:
        alpha_rate, sigma_rate = path.rates(t)
        length = self.step_scale * (s - t)
        return EulerPlan(t, length * alpha_rate, length * sigma_rate)

    def step(self, plan: EulerPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        ends = denoise(x, plan.t, plan.t)
        return plus(plus(x, plan.data, ends.data), plan.noise, ends.noise), None
