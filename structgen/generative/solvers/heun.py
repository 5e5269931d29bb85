"""Heun's method on the probability flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from structgen.generative.noise import Rng
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus


class HeunPlan(NamedTuple):
    t: Coefficient
    s: Coefficient
    data: Coefficient  # (s - t) alpha'(t)
    noise: Coefficient  # (s - t) sigma'(t)
    data_half: Coefficient  # (s - t) alpha'(s) / 2
    noise_half: Coefficient  # (s - t) sigma'(s) / 2
    lands: Coefficient  # sigma(s) = 0


@dataclass(frozen=True)
class Heun(Solver[HeunPlan, None]):
    """Trapezoidal step on the velocity; Euler's on the step that lands on data, where no velocity can be asked for (EDM, Algorithm 1)."""

    order: ClassVar[int] = 2

    def plan(self, path: Path, t: Time, s: Time) -> HeunPlan:
        length = s - t
        (alpha_t, sigma_t), (alpha_s, sigma_s) = path.rates(t), path.rates(s)
        lands = path.alpha_sigma(s)[1] == 0
        return HeunPlan(t, s, length * alpha_t, length * sigma_t, length * alpha_s / 2, length * sigma_s / 2, lands)

    def step(self, plan: HeunPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        ends = denoise(x, plan.t, plan.t)
        guess = plus(plus(x, plan.data, ends.data), plan.noise, ends.noise)
        if plan.lands:
            return guess, None
        ends = denoise(guess, plan.s, plan.s)
        return plus(plus(torch.lerp(x, guess, 0.5), plan.data_half, ends.data), plan.noise_half, ends.noise), None
