"""Raise the noise level a little before each step of another solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled


class ChurnPlan(NamedTuple):
    raised: Coefficient  # whether noise is added
    state: Coefficient  # alpha(t-hat) / alpha(t)
    fresh: Coefficient  # noise_scale times the standard deviation that is missing at t-hat
    inner: Any  # the plan of the steps t-hat -> s


@dataclass(frozen=True)
class Churn(Solver[ChurnPlan, Any]):
    """SI Algorithm 18, lines 4-7, on any path: multiply the noise level sigma / alpha by 1 + gamma, then let `inner` come down to s.

    As in the SI, it is the level that a step goes *to* that must lie above `above`, while the level it leaves is the one that is raised.
    Levels are in the units of the data; a path that ends before the raised level is followed to its end. AlphaFold 3 is
    `Churn(Euler(step_scale=1.5), gamma=0.8, above=1.0, noise_scale=1.003)`. With a gamma that does not shrink with the number of steps a
    bias stays (order 0); EDM's Algorithm 2 takes gamma = S_churn / steps.
    """

    inner: Solver[Any, Any]
    gamma: float
    above: float
    noise_scale: float

    order: ClassVar[int] = 0

    def plan(self, path: Path, t: Time, s: Time) -> ChurnPlan:
        alpha_s, sigma_s = path.alpha_sigma(s)
        level = path.time_at(path.half_log_snr(t) - torch.log1p(torch.full_like(t, self.gamma)))
        raised = (sigma_s / alpha_s > self.above) & (level > t) & (self.gamma > 0)
        t_hat = torch.where(raised, level, t)
        (alpha, sigma), (alpha_hat, sigma_hat) = path.alpha_sigma(t), path.alpha_sigma(t_hat)
        state = torch.where(raised, alpha_hat / alpha, 1.0)
        missing = (sigma_hat**2 - (state * sigma) ** 2).clamp_min(0).sqrt()
        return ChurnPlan(raised, state, self.noise_scale * missing, self.inner.plan(path, t_hat, s))

    def step(self, plan: ChurnPlan, denoise: DenoiseAt, x: X, memory: Any, rng: Rng) -> tuple[X, Any]:
        if plan.raised:
            x = plus(scaled(plan.state, x), plan.fresh, normal_like(x, rng))
        return self.inner.step(plan.inner, denoise, x, memory, rng)
