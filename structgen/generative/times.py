"""Times: the grids that samplers walk and the densities that training draws from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Path, Time, X

# Grids: float64 [steps + 1], falling from `start` to `stop`, ends exact.


def uniform(steps: int, start: float, stop: float) -> Tensor:
    """Equal steps in t."""
    return _between(start, stop, torch.linspace(0, 1, steps + 1, dtype=torch.float64))


def quadratic(steps: int, start: float, stop: float) -> Tensor:
    """Steps that shrink towards `stop`, evenly (DDIM, appendix D)."""
    return _between(start, stop, 1 - torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** 2)


def eased(steps: int, start: float, stop: float, power: float = 1.3) -> Tensor:
    """Steps that shrink towards both ends: shares u^power / (u^power + (1 - u)^power) of the way, u even.

    For high order on a straight path: a multistep method needs short first steps, where it has no past, and the data is made at the end.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return _between(start, stop, u**power / (u**power + (1 - u) ** power))


def log_snr(path: Path, steps: int, start: float, stop: float) -> Tensor:
    """Equal steps in log(alpha / sigma), between times at which it is finite (DPM-Solver, section 3)."""
    ends = path.half_log_snr(torch.tensor([start, stop], dtype=torch.float64)).tolist()
    return _pinned(path.time_at(uniform(steps, *ends)), start, stop)


def karras(steps: int, start: float, stop: float, rho: float = 7.0) -> Tensor:
    """Equal steps in t^(1 / rho): noise levels, so times of `VarianceExploding` (EDM, eq. 5). EDM itself goes on to 0: `then_data`."""
    return _pinned(uniform(steps, start ** (1 / rho), stop ** (1 / rho)) ** rho, start, stop)


def af3(steps: int, sigma_data: float = 16.0) -> Tensor:
    """The noise schedule of SI Algorithm 18 (SI 3.7.1, eq. 7): 160 to 4e-4 times sigma_data, in angstrom."""
    return karras(steps, 160.0 * sigma_data, 4e-4 * sigma_data)


def at_noise_levels(path: Path, levels: Tensor) -> Tensor:
    """The times of `path` at which sigma / alpha has these values: any grid of noise levels for any path."""
    return path.time_at(-levels.double().log())


def then_data(times: Tensor) -> Tensor:
    """The grid with one more step, to t = 0."""
    return torch.cat([times, times.new_zeros(1)])


def _between(start: float, stop: float, shares: Tensor) -> Tensor:
    return _pinned(start + (stop - start) * shares, start, stop)


def _pinned(times: Tensor, start: float, stop: float) -> Tensor:
    """Rounding must not move the ends: `start` is where the state was made, `stop` where it is asked for."""
    return torch.cat([times.new_tensor([start]), times[1:-1], times.new_tensor([stop])])


class TimeSampler(ABC):
    """A density of training times, as the image of a standard normal under a rising function."""

    @abstractmethod
    def from_normal(self, z: Tensor) -> Time:
        """Times of this density from standard normal z."""

    @abstractmethod
    def log_density(self, t: Time) -> Time:
        """log p(t), for t inside the support."""

    def draw(self, data: X, rng: Rng) -> Time:
        """A time [b] for each example of data [b, *event], in its type and on its device."""
        return self.from_normal(normal_like(data.new_empty(len(data)), rng))


@dataclass(frozen=True)
class Uniform(TimeSampler):
    """Uniform on [low, high]."""

    low: float = 0.0
    high: float = 1.0

    def from_normal(self, z: Tensor) -> Time:
        return self.low + (self.high - self.low) * torch.special.ndtr(z)

    def log_density(self, t: Time) -> Time:
        return torch.full_like(t, -math.log(self.high - self.low))


@dataclass(frozen=True)
class Steps(TimeSampler):
    """Uniform on 1 / count, 2 / count, ..., 1: the steps of a `Chain` (Ho et al. 2020, Algorithm 1, line 3)."""

    count: int

    def from_normal(self, z: Tensor) -> Time:
        return ((torch.special.ndtr(z) * self.count).floor() + 1).clamp_max(self.count) / self.count

    def log_density(self, t: Time) -> Time:
        """The log of a step's probability."""
        return torch.full_like(t, -math.log(self.count))


@dataclass(frozen=True)
class LogNormal(TimeSampler):
    """scale exp(mean + std z): noise levels of EDM (-1.2, 1.2) and AlphaFold 3 (-1.2, 1.5, scale = 16 angstrom)."""

    mean: float = -1.2
    std: float = 1.2
    scale: float = 1.0

    def from_normal(self, z: Tensor) -> Time:
        return self.scale * torch.exp(self.mean + self.std * z)

    def log_density(self, t: Time) -> Time:
        return _log_normal(((t / self.scale).log() - self.mean) / self.std) - t.log() - math.log(self.std)


@dataclass(frozen=True)
class LogitNormal(TimeSampler):
    """sigmoid(mean + std z): the middle of the path more often than its ends (SD3, eq. 19)."""

    mean: float = 0.0
    std: float = 1.0

    def from_normal(self, z: Tensor) -> Time:
        return torch.sigmoid(self.mean + self.std * z)

    def log_density(self, t: Time) -> Time:
        return _log_normal((t.logit() - self.mean) / self.std) - (t * (1 - t)).log() - math.log(self.std)


@dataclass(frozen=True)
class Mode(TimeSampler):
    """1 - u - scale (cos^2(pi u / 2) - 1 + u) for uniform u (SD3, eq. 20): around the middle for scale > 0, at the ends for scale < 0,
    uniform at 0. Raises `ConfigError` outside -1 ... 2 / (pi - 2), where it would not be monotone."""

    scale: float = 1.29

    def __post_init__(self) -> None:
        if not -1 <= self.scale <= 2 / (math.pi - 2):
            raise ConfigError(f"the scale of a mode density lies between -1 and 2 / (pi - 2) = 1.752; found {self.scale}")

    def _time(self, share: Tensor) -> Time:
        """t as a rising function of share = 1 - u."""
        return share - self.scale * (torch.sin(share * math.pi / 2) ** 2 - share)

    def from_normal(self, z: Tensor) -> Time:
        return self._time(torch.special.ndtr(z))

    def log_density(self, t: Time) -> Time:
        """By bisection for u, so in float64 where it matters."""
        low, high = torch.zeros_like(t), torch.ones_like(t)
        for _ in range(60):
            middle = (low + high) / 2
            below = self._time(middle) < t
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return -(1 + self.scale - self.scale * math.pi / 2 * torch.sin(math.pi * (low + high) / 2)).log()


@dataclass(frozen=True)
class CosMap(TimeSampler):
    """1 - 1 / (1 + tan(pi u / 2)) for uniform u: on the straight path, the log-SNR of the cosine path with uniform times (SD3, eq. 21)."""

    def from_normal(self, z: Tensor) -> Time:
        angle = torch.special.ndtr(z) * math.pi / 2
        return torch.sin(angle) / (torch.cos(angle) + torch.sin(angle))

    def log_density(self, t: Time) -> Time:
        return math.log(2 / math.pi) - (1 - 2 * t + 2 * t**2).log()


def _log_normal(z: Tensor) -> Tensor:
    return -(z**2) / 2 - math.log(2 * math.pi) / 2
