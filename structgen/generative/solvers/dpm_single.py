"""Single-step DPM-Solver and DPM-Solver++: stages inside the step, no memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from structgen.generative.noise import Rng
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled
from structgen.generative.solvers.dpm_multistep import DataInLogSnr, NoiseInLogSnr
from structgen.generative.solvers.polynomial import basis


class Line(NamedTuple):
    """From the start of a step to a time in it: re-interpolation, and a share of how the prediction differs between two stages."""

    t: Coefficient  # the time reached
    data: Coefficient
    noise: Coefficient
    slope: Coefficient  # of the last stage's prediction, less the first's, which `data` or `noise` hold


class Lines2(NamedTuple):
    t: Coefficient
    single: Coefficient  # whether the step is of first order
    middle: Line
    end: Line


class Lines3(NamedTuple):
    t: Coefficient
    single: Coefficient
    third: Line
    two_thirds: Line
    end: Line


@dataclass(frozen=True)
class DpmSingle2(Solver[Lines2, None]):
    """DPM-Solver-2 with its stage at half the step in lambda = log(alpha / sigma): two evaluations a step.

    In the form that is exact for a prediction linear in lambda (phi functions: DPM-Solver, appendix B.3, r_1 = 1/2); the lecture's slope
    uses the unknown next state. `rule` says whether noise (DPM-Solver) or data (DPM-Solver++) is predicted. One evaluation, of first order,
    on steps that leave alpha = 0 or land on data, where lambda is infinite.
    """

    rule: NoiseInLogSnr | DataInLogSnr

    order: ClassVar[int] = 2

    def plan(self, path: Path, t: Time, s: Time) -> Lines2:
        middle, single = _between(path, t, s, 1 / 2)
        return Lines2(t, single, _line(self.rule, path, t, t, middle), _line(self.rule, path, t, middle, s))

    def step(self, plan: Lines2, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        return _walk(self.rule, plan, (plan.middle, plan.end), denoise, x), None


@dataclass(frozen=True)
class DpmSingle3(Solver[Lines3, None]):
    """DPM-Solver-3: stages at 1/3 and 2/3 of the step in lambda, three evaluations a step (DPM-Solver, Algorithm 2); otherwise as
    `DpmSingle2`."""

    rule: NoiseInLogSnr | DataInLogSnr

    order: ClassVar[int] = 3

    def plan(self, path: Path, t: Time, s: Time) -> Lines3:
        (one, single), (two, _) = _between(path, t, s, 1 / 3), _between(path, t, s, 2 / 3)
        return Lines3(t, single, *(_line(self.rule, path, t, last, to) for last, to in ((t, one), (one, two), (two, s))))

    def step(self, plan: Lines3, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        return _walk(self.rule, plan, (plan.third, plan.two_thirds, plan.end), denoise, x), None


def _between(path: Path, t: Time, s: Time, share: float) -> tuple[Time, Tensor]:
    """The time at this share of the step in lambda, and whether there is none."""
    start, stop = path.half_log_snr(t), path.half_log_snr(s)
    single = ~(start.isfinite() & stop.isfinite())
    return torch.where(single, s, path.time_at(start + share * (stop - start))), single


def _line(rule: NoiseInLogSnr | DataInLogSnr, path: Path, t: Time, last: Time, to: Time) -> Line:
    """From t to `to`, with the prediction linear in lambda through its values at t and at `last`; constant if these are the same."""
    first, (p, q) = rule.first(path, t, to), rule.parts(path, t)
    points, weights = rule.quadrature(path, t, to)
    lean = basis(torch.stack([rule.variable(path, t), rule.variable(path, last)], 1), points)[:, 1]
    slope = torch.nan_to_num((lean * weights).sum(1), nan=0.0, posinf=0.0, neginf=0.0)
    return Line(to, first.data - slope * p, first.noise - slope * q, slope)


def _walk(rule: NoiseInLogSnr | DataInLogSnr, plan: Lines2 | Lines3, lines: tuple[Line, ...], denoise: DenoiseAt, x: X) -> X:
    ends = denoise(x, plan.t, plan.t)
    if plan.single:
        return plus(scaled(lines[-1].data, ends.data), lines[-1].noise, ends.noise)
    last = ends
    for line in lines:
        moved = plus(scaled(line.data, ends.data), line.noise, ends.noise)
        if last is not ends:
            moved = plus(moved, line.slope, last.data if isinstance(rule, DataInLogSnr) else last.noise)
        if line is not lines[-1]:
            last = denoise(moved, line.t, line.t)
    return moved
