"""Steps as long as a tolerance allows, never beyond the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from structgen.errors import ConfigError, NumericalError
from structgen.generative.denoiser import Denoise
from structgen.generative.path import Path, X
from structgen.generative.sample import plus
from structgen.generative.solvers.runge_kutta import Tableau


@dataclass(frozen=True)
class Pair:
    """A tableau whose last stage is the slope at the end of its step (first same as last), and what its error estimate weighs the slopes
    by."""

    tableau: Tableau
    error: tuple[float, ...]


DORMAND_PRINCE = Pair(
    Tableau(
        nodes=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        inner=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        outer=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
        order=5,
    ),
    error=(71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)


@dataclass(frozen=True)
class Tolerance:
    """An error estimate e is accepted if its root mean square over each event, in units of absolute + relative |x|, is at most 1."""

    relative: float = 1e-5
    absolute: float = 1e-5

    def norm(self, e: X, x: X) -> float:
        """The largest over the batch: one example never pays for another with its accuracy."""
        return (e / (self.absolute + self.relative * x.abs())).flatten(1).square().mean(1).max().sqrt().item()


def sample_adaptive(
    path: Path,
    denoise: Denoise,
    start: float,
    stop: float,
    x: X,
    *,
    tolerance: Tolerance,
    pair: Pair = DORMAND_PRINCE,
    on_step: Callable[[float, float], None] | None = None,
) -> X:
    """x [b, *event] carried by the probability flow from start to stop, both ways, in steps that the tolerance allows (Hairer, Norsett &
    Wanner, II.4, with a PI controller).

    The last step is shortened to end at `stop`; nothing is evaluated outside of [start, stop]. Steps are shared by the batch. One
    evaluation at each end of the first step, then 6 a step with `DORMAND_PRINCE`; `on_step(t, s)` is told of each accepted step. Raises
    `ConfigError` if the velocity of the path is not finite at an end (go to a small time, then one step of `Ddim`), and `NumericalError`
    if the step becomes too short to move.
    """
    _check(path, start, stop)
    exponent = 1 / pair.tableau.order

    def slope(x: X, t: float) -> X:
        return path.velocity(denoise(x, (at := x.new_full((len(x),), t)), at), at)

    t, first, before = start, slope(x, start), 1.0
    h = _first_step(slope, x, first, start, stop, tolerance, exponent)
    while t != stop:
        s = stop if abs(h) >= 0.999 * abs(stop - t) else t + h
        if s == t:
            raise NumericalError(f"steps shrank below rounding at t = {t:.6g}; the tolerance {tolerance} is out of reach")
        slopes = [first]
        for node, row in zip(pair.tableau.nodes[1:], pair.tableau.inner[1:], strict=True):
            moved = _along(x, [c * (s - t) for c in row], slopes)
            slopes.append(slope(moved, s if node == 1 else t + node * (s - t)))
        error = tolerance.norm(_along(torch.zeros_like(x), [c * (s - t) for c in pair.error], slopes), torch.maximum(x.abs(), moved.abs()))
        if error <= 1:
            if on_step is not None:
                on_step(t, s)
            t, x, first = s, moved, slopes[-1]
        h = (s - t if error > 1 else h) * _change(error, before, exponent)
        before = max(error, 1e-4) if error <= 1 else before
    return x


def _change(error: float, before: float, exponent: float) -> float:
    """The factor from this step to the next: of a PI controller if this one was accepted, at most 5 and at least 1 / 5."""
    if not math.isfinite(error):
        return 0.2
    error = max(error, 1e-10)
    factor = 0.9 * error ** (-0.7 * exponent) * before ** (0.4 * exponent) if error <= 1 else 0.9 * error**-exponent
    return min(5.0, max(0.2, factor))


def _first_step(slope: Callable[[X, float], X], x: X, first: X, start: float, stop: float, tolerance: Tolerance, exponent: float) -> float:
    """A step whose error is about a hundredth of the tolerance, from the sizes of x, x' and x'' (Hairer, Norsett & Wanner, II.4.14)."""
    size, speed = tolerance.norm(x, x), tolerance.norm(first, x)
    trial = min(0.01 * size / speed if min(size, speed) > 1e-5 else 1e-6, abs(stop - start))
    trial = math.copysign(trial, stop - start)
    bend = tolerance.norm((slope(x + trial * first, start + trial) - first) / trial, x)
    reach = max(speed, bend)
    guess = (0.01 / reach) ** exponent if reach > 1e-15 else max(1e-6, abs(trial) * 1e-3)
    return math.copysign(min(100 * abs(trial), guess, abs(stop - start)), stop - start)


def _check(path: Path, start: float, stop: float) -> None:
    ends = torch.tensor([start, stop], dtype=torch.float64)
    inside = 0 <= min(start, stop) and max(start, stop) <= path.end and max(start, stop) < math.inf
    if not inside or start == stop or not all(rate.isfinite().all() for rate in path.rates(ends)):
        raise ConfigError(
            f"the flow of {path} cannot be followed from {start} to {stop}: give two times of the path, at which its rates are finite; "
            "to reach data, stop at a small time and take one step of Ddim to 0"
        )


def _along(x: X, row: Sequence[float], slopes: Sequence[X]) -> X:
    """x plus the row's share of each slope."""
    for c, slope in zip(row, slopes, strict=True):
        if c:
            x = plus(x, c, slope)
    return x
