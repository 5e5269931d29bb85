"""The variants that Stable Diffusion 3 compares: one family of losses, in paths, readings and densities of times (Esser et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from structgen.generative import (
    AverageVelocity,
    Cosine,
    Ddim,
    Endpoints,
    Error,
    Linear,
    LogNormal,
    Path,
    Preconditioned,
    ReadData,
    Reading,
    ReadNoise,
    ReadVelocity,
    Regression,
    Solver,
    Time,
    TimeSampler,
    Uniform,
    VarianceExploding,
    VariancePreserving,
    Weight,
    X,
    adams,
    data_error,
    dpm_plus_plus,
    noise_error,
    over,
    velocity_error,
)
from structgen.generative.paths import Betas, decayed
from structgen.generative.times import log_snr, then_data, uniform
from structgen.generative.weights import Constant, Edm, Snr

FIRST, LAST = 1e-3, 1 - 1e-3  # times of training, clear of the ends where a reading says nothing
SIGMA_DATA = 1.0  # latents are scaled to it


class Trajectory(Enum):
    """A row of SD3's table 1 without its density of times; `x/rf`: the network says the data and the velocity is compared (Li & He 2025),
    for pixels in patches with more numbers than the network is wide; and `x/cos`: data said and compared, as by unCLIP's prior."""

    RF = "rf"
    X_RF = "x/rf"
    EPS_LINEAR = "eps/linear"
    V_LINEAR = "v/linear"
    V_COS = "v/cos"
    EDM = "edm"
    EDM_RF = "edm/rf"
    EDM_COS = "edm/cos"
    X_COS = "x/cos"


class Student(Enum):
    """What a student of few steps was taught, and so how it is sampled."""

    PROGRESSIVE = "progressive"
    CONSISTENCY = "consistency"
    MEAN_FLOW = "mean-flow"


@dataclass(frozen=True)
class RootLinearBetas(Betas):
    """The root of beta grows evenly: latent diffusion's, which leaves 7 % of the data at t = 1 (Rombach et al. 2022; SD3, section 3.1)."""

    beta_min: float = 0.85
    beta_max: float = 12.0

    def _root(self, t: Time) -> Time:
        return math.sqrt(self.beta_min) + t * self._slope

    @property
    def _slope(self) -> float:
        return math.sqrt(self.beta_max) - math.sqrt(self.beta_min)

    def alpha_variance(self, t: Time) -> tuple[Time, Time]:
        """The integral of beta is a polynomial, without a difference of cubes."""
        root, slope = math.sqrt(self.beta_min), self._slope
        return decayed(t * (root**2 + t * (root * slope + t * (slope**2 / 3))))

    def alpha_rate(self, t: Time) -> Time:
        return -self._root(t).square() * self.alpha(t) / 2


@dataclass(frozen=True)
class ReadRotation(Reading):
    """The output is v = alpha noise - sigma data (Salimans & Ho 2022); for paths with alpha^2 + sigma^2 = 1."""

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        return x, t[:, None]

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        alpha, sigma = (over(c, x) for c in path.alpha_sigma(t))
        return Endpoints(alpha * x - sigma * raw, sigma * x + alpha * raw)


@dataclass(frozen=True)
class Odds(TimeSampler):
    """t / (1 - t) for uniform t: noise levels of `VarianceExploding` with the signal-to-noise ratios of the straight path."""

    def from_normal(self, z: Tensor) -> Time:
        return _inside(z) / (1 - _inside(z))

    def log_density(self, t: Time) -> Time:
        return -2 * (1 + t).log()


@dataclass(frozen=True)
class Tangents(TimeSampler):
    """tan(pi t / 2) for uniform t: noise levels with the signal-to-noise ratios of the cosine path."""

    def from_normal(self, z: Tensor) -> Time:
        return (math.pi / 2 * _inside(z)).tan()

    def log_density(self, t: Time) -> Time:
        return math.log(2 / math.pi) - (1 + t**2).log()


def _inside(z: Tensor) -> Tensor:
    return torch.special.ndtr(z).clamp(FIRST, LAST)


@dataclass(frozen=True)
class Clamped(TimeSampler):
    """Another density, its times kept clear of both ends of the path."""

    density: TimeSampler
    first: float
    last: float

    def from_normal(self, z: Tensor) -> Time:
        return self.density.from_normal(z).clamp(self.first, self.last)

    def log_density(self, t: Time) -> Time:
        return self.density.log_density(t)


@dataclass(frozen=True)
class Formulation:
    """How a network is read, what is compared, and where times are drawn when nothing else is said."""

    path: Path
    reading: Reading
    times: TimeSampler
    weight: Weight
    error: Error
    start: float  # the noisy end of the sampler's grid
    stop: float  # and the time from which its last step goes to data; 0: steps of equal length to data
    bounds: tuple[float, float] = (FIRST, LAST)  # of the times of training
    shift: float = 1.0  # above 1: steps are short near noise and long near data, where many pixels say the same (SD3, eq. 23)
    steps_of: Ddim | None = None  # the solver of a student; None: a multistep method

    def objective(self, times: TimeSampler | None = None) -> Regression:
        """The loss, with another density of times where one is given."""
        return Regression(self.path, self.times if times is None else Clamped(times, *self.bounds), self.weight, self.error)

    def grid(self, steps: int, start: float | None = None) -> Tensor:
        """Times [steps + 1] from `start` to data: even ones where the path is straight, but for the shift, else even in log-SNR."""
        first = self.start if start is None else start
        if not self.stop:
            share = uniform(steps, 1.0, 0.0)
            return first * self.shift * share / (1 + (self.shift - 1) * share)
        return then_data(log_snr(self.path, steps - 1, first, self.stop))

    def solver(self) -> Solver[Any, Any]:
        """Second order, one evaluation a step; of a student the steps that it was taught."""
        return self.steps_of or (dpm_plus_plus(2) if self.stop else adams(2))

    def taught(self, student: Student) -> Formulation:
        """How a student of this flow is read and sampled: a consistency student draws new noise for every step."""
        reading = AverageVelocity() if student is Student.MEAN_FLOW else self.reading
        return replace(self, reading=reading, steps_of=Ddim(eta=math.inf if student is Student.CONSISTENCY else 0.0))


@dataclass(frozen=True)
class SnrPlusOne:
    """(alpha / sigma)^2 + 1: makes the data error that of v, for paths with alpha^2 + sigma^2 = 1."""

    def __call__(self, path: Path, t: Time) -> Time:
        return Snr()(path, t) + 1


_EDGES = Uniform(FIRST, LAST)
_EDM = Edm(SIGMA_DATA)
_LATENT = VariancePreserving(RootLinearBetas())
_NOISIEST, _QUIETEST = 80.0, 2e-3  # EDM's noise levels, in standard deviations of the data
_NEAREST = 0.05  # the velocity of predicted data is divided by the time (Li & He 2025, section 4)


def _edm(times: TimeSampler) -> Formulation:
    bounds = (_QUIETEST, _NOISIEST)
    return Formulation(VarianceExploding(), Preconditioned(SIGMA_DATA), times, _EDM, data_error, _NOISIEST, _QUIETEST, bounds)


TRAJECTORIES: Mapping[Trajectory, Formulation] = MappingProxyType(
    {
        Trajectory.RF: Formulation(Linear(), ReadVelocity(), _EDGES, Constant(), velocity_error, 1.0, 0.0),
        Trajectory.X_RF: Formulation(
            Linear(), ReadData(), Uniform(_NEAREST, LAST), Constant(), velocity_error, 1.0, 0.0, (_NEAREST, LAST), shift=4.0
        ),
        Trajectory.EPS_LINEAR: Formulation(_LATENT, ReadNoise(), _EDGES, Constant(), noise_error, LAST, FIRST),
        Trajectory.V_LINEAR: Formulation(_LATENT, ReadRotation(), _EDGES, SnrPlusOne(), data_error, LAST, FIRST),
        Trajectory.V_COS: Formulation(Cosine(), ReadRotation(), _EDGES, SnrPlusOne(), data_error, LAST, FIRST),
        Trajectory.EDM: _edm(LogNormal()),
        Trajectory.EDM_RF: _edm(Odds()),
        Trajectory.EDM_COS: _edm(Tangents()),
        Trajectory.X_COS: Formulation(Cosine(), ReadData(), _EDGES, Constant(), data_error, LAST, FIRST),
    }
)
