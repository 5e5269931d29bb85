"""Multistep DPM-Solver of any order: noise or data as a polynomial in log-SNR, also for the reverse SDE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.path import Path, Time
from structgen.generative.solvers.multistep import First, Multistep, Rule
from structgen.generative.solvers.polynomial import gauss_legendre


@dataclass(frozen=True)
class NoiseInLogSnr(Rule):
    """x_s = alpha_s / alpha_t x_t - sigma_s integral of exp(lambda_s - lambda) N dlambda (DPM-Solver, eq. 3.4)."""

    def parts(self, path: Path, t: Time) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def first(self, path: Path, t: Time, s: Time) -> First:
        none = torch.zeros_like(t)
        return First(none, none, *path.alpha_sigma(s), none)

    def variable(self, path: Path, t: Time) -> Tensor:
        return path.half_log_snr(t)

    def quadrature(self, path: Path, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        stop = path.half_log_snr(s)
        points, weights = gauss_legendre(path.half_log_snr(t), stop)
        return points, -path.alpha_sigma(s)[1][:, None] * torch.exp(stop[:, None] - points) * weights

    def carried(self, path: Path, t: Time, s: Time) -> Tensor:
        return path.alpha_sigma(s)[0] / path.alpha_sigma(t)[0]


@dataclass(frozen=True)
class DataInLogSnr(Rule):
    """x_s = sigma_s / sigma_t exp(-tau^2 h) x_t + (1 + tau^2) alpha_s integral of exp((1 + tau^2) (lambda - lambda_s)) D dlambda + noise of
    variance sigma_s^2 (1 - exp(-2 tau^2 h)), with h = lambda_s - lambda_t.

    tau = 0 is the probability flow (DPM-Solver++, eq. 8), tau = 1 the reverse SDE (its eq. 13), any other between or beyond, with the same
    marginals (SA-Solver, Xue et al. 2023, proposition 4.2). Raises `ConfigError` if tau is negative.
    """

    tau: float = 0.0

    def __post_init__(self) -> None:
        if not self.tau >= 0:
            raise ConfigError(f"tau is 0 for the probability flow, 1 for the reverse SDE, never negative; found {self.tau}")

    def parts(self, path: Path, t: Time) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), torch.zeros_like(t)

    def first(self, path: Path, t: Time, s: Time) -> First:
        (alpha, sigma), kept, none = path.alpha_sigma(s), self._kept(path, t, s), torch.zeros_like(t)
        return First(none, none, alpha, sigma * kept, sigma * (1 - kept**2).clamp_min(0).sqrt())

    def variable(self, path: Path, t: Time) -> Tensor:
        return path.half_log_snr(t)

    def quadrature(self, path: Path, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        stop, speed = path.half_log_snr(s), 1 + self.tau**2
        points, weights = gauss_legendre(path.half_log_snr(t), stop)
        return points, speed * path.alpha_sigma(s)[0][:, None] * torch.exp(speed * (points - stop[:, None])) * weights

    def carried(self, path: Path, t: Time, s: Time) -> Tensor:
        return path.alpha_sigma(s)[1] / path.alpha_sigma(t)[1] * self._kept(path, t, s)

    def _kept(self, path: Path, t: Time, s: Time) -> Tensor:
        """exp(-tau^2 h), the share of the noise that is not drawn anew; written so that it is 1 for tau = 0 also over infinite h."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = path.alpha_sigma(t), path.alpha_sigma(s)
        return (alpha_t * sigma_s / (sigma_t * alpha_s)) ** self.tau**2


def dpm_multistep(order: int) -> Multistep:
    """DPM-Solver in its multistep form: exact if the noise is a polynomial of degree order - 1 in lambda. Order 1 is DDIM."""
    return Multistep(NoiseInLogSnr(), order, corrected=max(order - 2, 0))


def dpm_plus_plus(order: int, tau: float = 0.0) -> Multistep:
    """Multistep DPM-Solver++: exact if the data is a polynomial of degree order - 1 in lambda; with tau > 0 SDE-DPM-Solver++ (weak order 1
    at least). Order 1 is `Ddim(eta=tau)` for tau = 0 and 1. `DpmPlusPlus2M` is the published form of order 2, equal to leading order."""
    return Multistep(DataInLogSnr(tau), order, corrected=max(order - 2, 0) if tau == 0 else 0)
