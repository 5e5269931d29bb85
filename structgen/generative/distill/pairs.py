"""Pairs of times: where a student stands and what it is compared with or carried to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Time, X
from structgen.generative.times import TimeSampler


class TimePairs(ABC):
    """A joint law of two times."""

    @abstractmethod
    def draw(self, data: X, rng: Rng) -> tuple[Time, Time]:
        """t and s <= t, both [b], for the examples of data [b, *event], in its type and on its device."""


@dataclass(frozen=True, eq=False)
class Adjacent(TimePairs):
    """Neighbours on a grid [n + 1] that falls, as `structgen.generative.times` makes them: every interval as often as any other, or as
    often as `density` draws a time in it (beyond the ends: the outermost), which with `LogNormal` is improved consistency training's
    (Song & Dhariwal 2023, section 3.5). Raises `ConfigError` unless the grid falls."""

    times: Tensor
    density: TimeSampler | None = None

    def __post_init__(self) -> None:
        falling(self.times)

    def draw(self, data: X, rng: Rng) -> tuple[Time, Time]:
        grid = self.times.to(data)
        if self.density is None:
            first = one_of(len(grid) - 1, data, rng)
        else:
            first = (grid[:, None] > self.density.draw(data, rng)).sum(0).clamp(1, len(grid) - 1) - 1
        return grid[first], grid[first + 1]


@dataclass(frozen=True)
class Proportional(TimePairs):
    """s = t - share (t - stop): the gap shrinks with the time, on no grid (Geng et al. 2024, "Consistency models made easy", section 3).
    Halve `share` as training goes on."""

    times: TimeSampler
    share: float
    stop: float = 0.0

    def draw(self, data: X, rng: Rng) -> tuple[Time, Time]:
        t = self.times.draw(data, rng).clamp_min(self.stop)
        return t, t - self.share * (t - self.stop)


@dataclass(frozen=True)
class Sorted(TimePairs):
    """The larger and the smaller of two draws; with probability `equal` the smaller is the larger (MeanFlow, section 4.3). Raises
    `ConfigError` unless 0 <= equal <= 1."""

    times: TimeSampler
    equal: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.equal <= 1:
            raise ConfigError(f"the share of equal times lies between 0 and 1; found {self.equal}")

    def draw(self, data: X, rng: Rng) -> tuple[Time, Time]:
        a, b = self.times.draw(data, rng), self.times.draw(data, rng)
        t = torch.maximum(a, b)
        return t, torch.where(share_like(data, rng) < self.equal, t, torch.minimum(a, b))


def share_like(data: X, rng: Rng) -> Tensor:
    """Uniform numbers between 0 and 1, float64 [b]."""
    return torch.special.ndtr(normal_like(data.new_empty(len(data), dtype=torch.float64), rng))


def one_of(count: int, data: X, rng: Rng) -> Tensor:
    """Uniform integers 0, ..., count - 1, [b]."""
    return (share_like(data, rng) * count).long().clamp_max(count - 1)


def falling(times: Tensor) -> None:
    """Raises `ConfigError` unless the times are two or more and fall."""
    if times.ndim != 1 or len(times) < 2 or not (times.diff() < 0).all():
        raise ConfigError(f"a student's grid has two or more times that fall, from noise to data; found shape {list(times.shape)}")
