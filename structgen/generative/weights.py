"""Weights of a loss as functions of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from structgen.generative.path import Path, Time
from structgen.generative.times import TimeSampler

Weight: TypeAlias = Callable[[Path, Time], Time]
"""(path, t [b]) -> [b]."""


@dataclass(frozen=True)
class Constant:
    """The same weight at all times: L_simple with the noise error (Ho et al. 2020, eq. 14), flow matching with the velocity error."""

    value: float = 1.0

    def __call__(self, path: Path, t: Time) -> Time:
        return torch.full_like(t, self.value)


@dataclass(frozen=True)
class Snr:
    """(alpha / sigma)^2: makes the data error the noise error."""

    def __call__(self, path: Path, t: Time) -> Time:
        return torch.exp(2 * path.half_log_snr(t))


@dataclass(frozen=True)
class MinSnr:
    """min((alpha / sigma)^2, gamma), for the data error (Hang et al. 2023, eq. 8)."""

    gamma: float = 5.0

    def __call__(self, path: Path, t: Time) -> Time:
        return torch.exp(2 * path.half_log_snr(t)).clamp_max(self.gamma)


@dataclass(frozen=True)
class TruncatedSnr:
    """max((alpha / sigma)^2, 1): the data error or the noise error, whichever is larger (Salimans & Ho 2022, section 4)."""

    def __call__(self, path: Path, t: Time) -> Time:
        return torch.exp(2 * path.half_log_snr(t)).clamp_min(1.0)


@dataclass(frozen=True)
class Flow:
    """(alpha' - alpha sigma' / sigma)^2: makes the data error the velocity error, with velocities in units of `sigma_data`."""

    sigma_data: float = 1.0

    def __call__(self, path: Path, t: Time) -> Time:
        (alpha, sigma), (alpha_rate, sigma_rate) = path.alpha_sigma(t), path.rates(t)
        return ((alpha_rate - alpha * sigma_rate / sigma) / self.sigma_data) ** 2


@dataclass(frozen=True)
class Edm:
    """1 / c_out^2 for the data error: the raw output of a `Preconditioned` network has weight 1 at all times.

    (t^2 + sd^2) / (t sd)^2 on `VarianceExploding` (EDM, table 1). SI eq. 6 prints (t + sd)^2 below the line, with which this does not hold.
    """

    sigma_data: float

    def __call__(self, path: Path, t: Time) -> Time:
        alpha, sigma = path.alpha_sigma(t)
        return (sigma**2 + (alpha * self.sigma_data) ** 2) / (sigma * self.sigma_data) ** 2


@dataclass(frozen=True)
class FlowOfNoise:
    """(sigma' - sigma alpha' / alpha)^2 = (sigma lambda' / 2)^2, lambda = log(alpha^2 / sigma^2): makes the noise error the velocity error
    (SD3, eq. 8)."""

    def __call__(self, path: Path, t: Time) -> Time:
        (alpha, sigma), (alpha_rate, sigma_rate) = path.alpha_sigma(t), path.rates(t)
        return (sigma_rate - sigma * alpha_rate / alpha) ** 2


@dataclass(frozen=True)
class Density:
    """p(t) / q(t): a loss at times drawn from `drawn` has the mean that it would have at times drawn from `wanted` (SD3, section 3.1)."""

    wanted: TimeSampler
    drawn: TimeSampler

    def __call__(self, path: Path, t: Time) -> Time:
        return torch.exp(self.wanted.log_density(t) - self.drawn.log_density(t))
