"""A path joins data and noise: x_t = alpha(t) data + sigma(t) noise. Everything else here is the algebra of that line.

t = 0 is data and noise grows with t, everywhere in structgen (DDPM, score SDE, EDM, AlphaFold 3, SD3, MeanFlow); texts on flow matching
that put data at t = 1 mean 1 - t. `X` is a state [b, *event] in the units of the data, `Time` holds one time an example [b].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

X: TypeAlias = Tensor  # [b, *event]
Time: TypeAlias = Tensor  # [b]


@dataclass(frozen=True)
class Endpoints:
    """The two ends of the line a state lies on: x_t = alpha(t) data + sigma(t) noise. Both [b, *event]."""

    data: X
    noise: X


class Path(ABC):
    """How much data and how much noise a state holds at each time.

    A new path writes `alpha_sigma` and its derivative `rates`, in elementwise torch functions. The derivative is written out, not taken by
    autodiff, because networks that predict a velocity need it at every call.
    """

    end: ClassVar[float] = 1.0  # the last time at which the path is defined

    @abstractmethod
    def alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        """The shares of data and of noise at times t; alpha / sigma falls strictly."""

    @abstractmethod
    def rates(self, t: Time) -> tuple[Time, Time]:
        """d alpha / dt and d sigma / dt."""

    def half_log_snr(self, t: Time) -> Time:
        """lambda = log(alpha / sigma): +inf on data, -inf where alpha is 0 (DPM-Solver, section 2)."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha.log() - sigma.log()

    def time_at(self, half_log_snr: Tensor) -> Time:
        """The inverse of `half_log_snr`; `end` for a lambda below the path's lowest. Bisection in log t: give float64, outside of loops."""
        low = torch.full_like(half_log_snr, -690.0)
        high = torch.full_like(half_log_snr, min(math.log(self.end), 690.0))
        for _ in range(64):
            middle = (low + high) / 2
            later = self.half_log_snr(middle.exp()) > half_log_snr
            low, high = torch.where(later, middle, low), torch.where(later, high, middle)
        return torch.where(half_log_snr == math.inf, 0.0, high.exp())

    def state(self, ends: Endpoints, t: Time) -> X:
        """x_t."""
        alpha, sigma = self.alpha_sigma(t)
        return over(alpha, ends.data) * ends.data + over(sigma, ends.noise) * ends.noise

    def velocity(self, ends: Endpoints, t: Time) -> X:
        """dx_t / dt along the line: alpha'(t) data + sigma'(t) noise."""
        alpha_rate, sigma_rate = self.rates(t)
        return over(alpha_rate, ends.data) * ends.data + over(sigma_rate, ends.noise) * ends.noise

    def score(self, ends: Endpoints, t: Time) -> X:
        """The gradient of log p_t(x_t | data), -noise / sigma (Song et al. 2021, eq. 8); infinite where sigma is 0."""
        _, sigma = self.alpha_sigma(t)
        return -ends.noise / over(sigma, ends.noise)

    def from_data(self, data: X, x: X, t: Time) -> Endpoints:
        """The ends of the line from `data` through x_t = x; defined where sigma > 0."""
        alpha, sigma = self.alpha_sigma(t)
        return Endpoints(data, (x - over(alpha, x) * data) / over(sigma, x))

    def from_noise(self, noise: X, x: X, t: Time) -> Endpoints:
        """The ends of the line from `noise` through x_t = x; defined where alpha > 0."""
        alpha, sigma = self.alpha_sigma(t)
        return Endpoints((x - over(sigma, x) * noise) / over(alpha, x), noise)

    def from_velocity(self, velocity: X, x: X, t: Time) -> Endpoints:
        """The ends of the line that passes x at t with this velocity."""
        return _solve((self.alpha_sigma(t), x), (self.rates(t), velocity))

    def from_mean_velocity(self, mean: X, x: X, t: Time, s: Time) -> Endpoints:
        """The ends of the line that passes x at t and x - (t - s) mean at s; `from_velocity` where s = t."""
        return _solve((self.alpha_sigma(t), x), (self._mean_rates(t, s), mean))

    def _mean_rates(self, t: Time, s: Time) -> tuple[Time, Time]:
        """The mean of `rates` from s to t; over steps too short for a difference, the rates in their middle."""
        near = (t - s).abs() <= torch.finfo(t.dtype).eps ** (1 / 3) * t
        length = torch.where(near, 1.0, t - s)
        ends = zip(self.alpha_sigma(t), self.alpha_sigma(s), strict=True)
        alpha, sigma = (torch.where(near, rate, (a - b) / length) for rate, (a, b) in zip(self.rates((t + s) / 2), ends, strict=True))
        return alpha, sigma

    def through(self, x_t: X, t: Time, x_s: X, s: Time) -> Endpoints:
        """The ends of the line through two states at different times."""
        return _solve((self.alpha_sigma(t), x_t), (self.alpha_sigma(s), x_s))


def over(c: Time, x: X) -> Tensor:
    """One number an example [b], shaped to broadcast over x [b, *event]."""
    return c.reshape(c.shape + (1,) * (x.ndim - c.ndim))


Row: TypeAlias = tuple[tuple[Time, Time], X]


def _solve(first: Row, second: Row) -> Endpoints:
    """The endpoints on which two rows ((a, s), y = a data + s noise) agree."""
    (a1, s1), y1 = first
    (a2, s2), y2 = second
    a1, s1, a2, s2 = (over(c, y1) for c in (a1, s1, a2, s2))
    det = a1 * s2 - a2 * s1
    return Endpoints(data=(s2 * y1 - s1 * y2) / det, noise=(a1 * y2 - a2 * y1) / det)
