"""DEIS: the noise as a polynomial in t, the rest of the flow exact."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.generative.path import Path, Time
from structgen.generative.solvers.multistep import First, Multistep, Rule, through_time


@dataclass(frozen=True)
class NoiseInTime(Rule):
    """x_s / alpha_s = x_t / alpha_t + integral of N d(sigma / alpha) (Zhang & Chen 2022, eq. 11)."""

    def parts(self, path: Path, t: Time) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def first(self, path: Path, t: Time, s: Time) -> First:
        none = torch.zeros_like(t)
        return First(none, none, *path.alpha_sigma(s), none)

    def variable(self, path: Path, t: Time) -> Tensor:
        return torch.where(path.half_log_snr(t).isfinite(), t, torch.inf)

    def quadrature(self, path: Path, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        points, weights = through_time(path, t, s)
        finite = points.isfinite()
        times = path.time_at(-torch.where(finite, points, 1.0).sinh().log())
        return torch.where(finite, times, torch.nan), weights * path.alpha_sigma(s)[0][:, None]

    def carried(self, path: Path, t: Time, s: Time) -> Tensor:
        return path.alpha_sigma(s)[0] / path.alpha_sigma(t)[0]


def deis(order: int) -> Multistep:
    """tAB-DEIS, which the paper numbers by the degree order - 1 (Zhang & Chen 2022, eqs. 14-15); its integrals are taken once, before the
    loop. Order 1 is DDIM."""
    return Multistep(NoiseInTime(), order, corrected=max(order - 2, 0))
