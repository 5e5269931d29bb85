"""DDPM's sampler with any of its variances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from structgen.errors import ConfigError
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled


class AncestralPlan(NamedTuple):
    t: Coefficient
    data: Coefficient
    noise: Coefficient
    fresh: Coefficient


@dataclass(frozen=True)
class Ancestral(Solver[AncestralPlan, None]):
    """The mean of q(x_s | x_t, data) plus noise of variance b^share b~^(1 - share) (Ho et al. 2020, eqs. 6-7 and Algorithm 2; Nichol &
    Dhariwal 2021, eq. 15).

    With r = (alpha_t sigma_s / sigma_t alpha_s)^2, b~ = sigma_s^2 (1 - r) is the posterior's (share 0, the same as `Ddim(eta=1)`: right if
    the data is one point), and b = sigma_t^2 (1 - r) that of the forward step s -> t (share 1: right if the data is standard normal and
    the path preserves variance). The lecture's Algorithm 2 prints alpha-bar where alpha is meant. Raises `ConfigError` unless 0 <= share
    <= 1."""

    share: float = 0.0

    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"the share of the forward variance lies between 0 and 1; found {self.share}")

    def plan(self, path: Path, t: Time, s: Time) -> AncestralPlan:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = path.alpha_sigma(t), path.alpha_sigma(s)
        ratio = (alpha_t * sigma_s / (sigma_t * alpha_s)) ** 2
        posterior, forward = sigma_s**2 * (1 - ratio), sigma_t**2 * (1 - ratio)
        variance = forward**self.share * posterior ** (1 - self.share)
        fresh = torch.where(sigma_s == 0, 0.0, variance.clamp_min(0).sqrt())  # Algorithm 2, line 3: no noise on data
        return AncestralPlan(t, alpha_s, sigma_s * ratio.sqrt(), fresh)

    def step(self, plan: AncestralPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        ends = denoise(x, plan.t, plan.t)
        x = plus(scaled(plan.data, ends.data), plan.noise, ends.noise)
        return plus(x, plan.fresh, normal_like(x, rng)), None
