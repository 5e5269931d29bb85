"""The ways to read a network: it predicts data, noise, velocity, EDM's preconditioned residual, or a whole step of the flow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.generative.denoiser import Reading
from structgen.generative.path import Endpoints, Path, Time, X, over


@dataclass(frozen=True)
class ReadData(Reading):
    """The output is the data: x0-prediction. Usable at every t > 0."""

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        return x, t[:, None]

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        return path.from_data(raw, x, t)


@dataclass(frozen=True)
class ReadNoise(Reading):
    """The output is the noise: epsilon-prediction (Ho et al. 2020). Says nothing about data where alpha is 0: start below t = 1."""

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        return x, t[:, None]

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        return path.from_noise(raw, x, t)


@dataclass(frozen=True)
class ReadVelocity(Reading):
    """The output is dx_t / dt: flow matching. On `Cosine` it is pi / 2 times the v of Salimans & Ho 2022."""

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        return x, t[:, None]

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        return path.from_velocity(raw, x, t)


@dataclass(frozen=True)
class Preconditioned(Reading):
    """Input and target have unit variance at every noise level (EDM, eq. 7 and table 1; SI Algorithm 20, lines 2 and 8, and 21, line 3).

    Written for x / alpha at the noise level sigma / alpha, so that it holds on every path; with alpha = 1, sigma = t it is EDM's to the
    letter but for the time, log(t / sigma_data) / 4, which is AlphaFold 3's. `sigma_data` is the standard deviation of the data, in its
    units. Usable where alpha and sigma are not 0.
    """

    sigma_data: float

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        alpha, sigma = path.alpha_sigma(t)
        c_in = (sigma**2 + (alpha * self.sigma_data) ** 2).rsqrt()
        c_noise = -(path.half_log_snr(t) + math.log(self.sigma_data)) / 4
        return over(c_in, x) * x, c_noise[:, None]

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        alpha, sigma = path.alpha_sigma(t)
        variance = sigma**2 + (alpha * self.sigma_data) ** 2
        c_skip = alpha * self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data * variance.rsqrt()
        return path.from_data(over(c_skip, x) * x + over(c_out, raw) * raw, x, t)


@dataclass(frozen=True)
class UnitVelocity(Reading):
    """The output is dx_t / dt in units of `sigma_data`, the standard deviation of the data, and the input has unit variance: flow matching
    on data that are not scaled (structures in angstrom), with `Linear(scale=sigma_data)` for the path.

    The network's time is EDM's, log(sigma / (alpha sigma_data)) / 4, which tells apart times near both ends; it is cut at +-`longest`, for
    at the ends it is infinite.
    """

    sigma_data: float
    longest: float = 3.0

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        alpha, sigma = path.alpha_sigma(t)
        c_in = (sigma**2 + (alpha * self.sigma_data) ** 2).rsqrt()
        level = -(path.half_log_snr(t) + math.log(self.sigma_data)) / 4
        return over(c_in, x) * x, level.clamp(-self.longest, self.longest)[:, None]

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        return path.from_velocity(self.sigma_data * raw, x, t)


@dataclass(frozen=True)
class Consistent(Reading):
    """A consistency function: data that the flow leads to, and at t = eps the state itself whatever the network says (Song et al. 2023,
    appendix C).

    Written for x / alpha at the noise level l = sigma / alpha, with l_0 that of eps, so that it holds on every path: c_skip =
    sd^2 / ((l - l_0)^2 + sd^2), c_out = sd (l - l_0) / sqrt(l^2 + sd^2). Where alpha = 1 the value at eps is x, elsewhere x / alpha. The
    network's input and time are those of `Preconditioned`, so alpha must not be 0. `sigma_data` is the standard deviation of the data.
    """

    sigma_data: float
    eps: float = 0.002

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        return Preconditioned(self.sigma_data).inputs(path, x, t, s)

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        alpha, sigma = path.alpha_sigma(t)
        alpha_0, sigma_0 = path.alpha_sigma(torch.full_like(t, self.eps))
        above = (sigma * alpha_0 - alpha * sigma_0) / alpha_0  # alpha (l - l_0): exactly 0 at eps
        c_skip = alpha * self.sigma_data**2 / (above**2 + (alpha * self.sigma_data) ** 2)
        c_out = self.sigma_data * above * (sigma**2 + (alpha * self.sigma_data) ** 2).rsqrt()
        return path.from_data(over(c_skip, x) * x + over(c_out, raw) * raw, x, t)


@dataclass(frozen=True)
class AverageVelocity(Reading):
    """The output is u = (x_t - x_s) / (t - s), the mean of the velocity along the flow between the time and the time aimed at, and at s = t
    the velocity itself (MeanFlow, eqs. 3 and 12). `Ddim()` makes the step x_s = x_t - (t - s) u. The network sees the times t and t - s."""

    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        return x, torch.stack([t, t - s], 1)

    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        return path.from_mean_velocity(raw, x, t, s)
