"""DPM-Solver++: exact for the linear part of the flow, polynomial in log-SNR for the data prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from structgen.generative.noise import Rng
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled


class Dpm2MPlan(NamedTuple):
    t: Coefficient
    state: Coefficient  # sigma(s) / sigma(t)
    data: Coefficient  # of this step's data prediction
    before: Coefficient  # of the last step's
    follows: Coefficient  # whether the last step's is used


@dataclass(frozen=True)
class DpmPlusPlus2M(Solver[Dpm2MPlan, X]):
    """DPM-Solver++(2M): one evaluation a step (Lu et al. 2022b, Algorithm 2).

    The data prediction is carried on along its last slope in lambda = log(alpha / sigma), then the state is re-interpolated. First order on
    the first step and on those that leave alpha = 0 or land on sigma = 0, where lambda is infinite. It remembers the last prediction as it
    was: a `before_step` that moves the state (a random rotation) needs a solver without memory.
    """

    order: ClassVar[int] = 2

    def plan(self, path: Path, t: Time, s: Time) -> Dpm2MPlan:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = path.alpha_sigma(t), path.alpha_sigma(s)
        state = sigma_s / sigma_t
        data = alpha_s - alpha_t * state  # re-interpolation: alpha_s D + sigma_s (x - alpha_t D) / sigma_t
        slope = _extrapolation(path.half_log_snr(t), path.half_log_snr(s))
        return Dpm2MPlan(t, state, data * (1 + slope), -data * slope, slope != 0)

    def step(self, plan: Dpm2MPlan, denoise: DenoiseAt, x: X, memory: X | None, rng: Rng) -> tuple[X, X]:
        data = denoise(x, plan.t, plan.t).data
        x = plus(scaled(plan.state, x), plan.data, data)
        return (plus(x, plan.before, memory) if plan.follows and memory is not None else x), data


def _extrapolation(now: Time, then: Time) -> Time:
    """Half a step over the last step, in lambda: how far the last slope reaches to the middle of the step. 0 where either is infinite."""
    last = torch.cat([torch.full_like(now[:1], torch.inf), now.diff()])
    half = (then - now) / 2
    return torch.where(half.isfinite() & last.isfinite(), half / last, 0.0)
