"""The paths of the literature."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from structgen.generative.path import Path, Time


@dataclass(frozen=True)
class Linear(Path):
    """Straight line: rectified flow, conditional optimal transport (Liu et al. 2022; Lipman et al. 2022, eq. 20, with 1 - t for t).

    `sigma_min` and `scale` are the standard deviations of the noise at t = 0 and at t = 1, in the units of the data.
    """

    sigma_min: float = 0.0
    scale: float = 1.0

    def alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        return 1 - t, self.sigma_min + (self.scale - self.sigma_min) * t

    def rates(self, t: Time) -> tuple[Time, Time]:
        return -torch.ones_like(t), torch.full_like(t, self.scale - self.sigma_min)


@dataclass(frozen=True)
class Cosine(Path):
    """Quarter circle: alpha^2 + sigma^2 = 1, constant angular speed (Nichol & Dhariwal 2021; SD3, eq. 12)."""

    def alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        return torch.sin((1 - t) * pi / 2), torch.sin(t * pi / 2)  # not cos, which misses 0 at t = 1

    def rates(self, t: Time) -> tuple[Time, Time]:
        return -pi / 2 * torch.cos((1 - t) * pi / 2), pi / 2 * torch.cos(t * pi / 2)


@dataclass(frozen=True)
class VarianceExploding(Path):
    """Data stays, noise grows, and t is the standard deviation of the noise in the units of the data (EDM; AlphaFold 3: angstrom)."""

    end: ClassVar[float] = math.inf

    def alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        return torch.ones_like(t), t

    def rates(self, t: Time) -> tuple[Time, Time]:
        return torch.zeros_like(t), torch.ones_like(t)


class Betas(ABC):
    """A rate of decay beta(t) of the signal, given by what it leaves: alpha = exp(-(integral of beta from 0 to t) / 2)."""

    @abstractmethod
    def alpha_variance(self, t: Time) -> tuple[Time, Time]:
        """The share of data that is left, and 1 - alpha^2 without cancellation near t = 0; samplers ask for both at every step."""

    @abstractmethod
    def alpha_rate(self, t: Time) -> Time:
        """d alpha / dt = -beta alpha / 2, finite where alpha is 0."""

    def alpha(self, t: Time) -> Time:
        """The share of data that is left."""
        return self.alpha_variance(t)[0]

    def variance(self, t: Time) -> Time:
        """1 - alpha^2."""
        return self.alpha_variance(t)[1]


def decayed(integral: Tensor) -> tuple[Time, Time]:
    """alpha = exp(-integral / 2) and 1 - alpha^2, for the integral of beta."""
    return torch.exp(integral * -0.5), -torch.expm1(-integral)


@dataclass(frozen=True)
class LinearBetas(Betas):
    """beta grows from beta_min to beta_max (Ho et al. 2020; Song et al. 2021, eq. 33)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def alpha_variance(self, t: Time) -> tuple[Time, Time]:
        return decayed(t * (self.beta_min + t * ((self.beta_max - self.beta_min) / 2)))

    def alpha_rate(self, t: Time) -> Time:
        return -(self.beta_min + t * (self.beta_max - self.beta_min)) * self.alpha(t) / 2


@dataclass(frozen=True)
class CosineBetas(Betas):
    """alpha = cos(u) / cos(u_0), u = (t + offset) / (1 + offset) pi / 2 (Nichol & Dhariwal 2021, eq. 17). alpha is 0 at t = 1."""

    offset: float = 0.008

    @property
    def _speed(self) -> float:
        return pi / 2 / (1 + self.offset)

    @property
    def _first(self) -> float:
        return self.offset * self._speed  # u_0

    def alpha_variance(self, t: Time) -> tuple[Time, Time]:
        """1 - alpha^2 is cos^2 u_0 - cos^2 u over cos^2 u_0, as a product."""
        turn, kept = t * self._speed, math.cos(self._first)  # u - u_0
        return torch.sin((1 - t) * self._speed) / kept, torch.sin(turn) * torch.sin(turn + 2 * self._first) / kept**2

    def alpha_rate(self, t: Time) -> Time:
        return -self._speed * torch.cos((1 - t) * self._speed) / math.cos(self._first)


@dataclass(frozen=True)
class VariancePreserving(Path):
    """alpha^2 + sigma^2 = 1 (DDPM; Song et al. 2021, eq. 11). d sigma / dt is infinite at t = 0."""

    betas: Betas = LinearBetas()

    def alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        alpha, variance = self.betas.alpha_variance(t)
        return alpha, variance.sqrt()

    def rates(self, t: Time) -> tuple[Time, Time]:
        alpha, sigma = self.alpha_sigma(t)
        alpha_rate = self.betas.alpha_rate(t)
        return alpha_rate, -alpha * alpha_rate / sigma


@dataclass(frozen=True)
class SubVariancePreserving(Path):
    """sigma = 1 - alpha^2: below the variance-preserving path at every t (Song et al. 2021, eq. 29)."""

    betas: Betas = LinearBetas()

    def alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        return self.betas.alpha_variance(t)

    def rates(self, t: Time) -> tuple[Time, Time]:
        alpha_rate = self.betas.alpha_rate(t)
        return alpha_rate, -2 * self.betas.alpha(t) * alpha_rate
