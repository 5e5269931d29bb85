"""Multistep methods: one evaluation a step, and a polynomial through the last predictions.

Adams, DEIS, multistep DPM-Solver (of noise, of data, stochastic) and UniPC are one method. They differ in what is predicted, in which
variable its polynomial is taken, and in which part of the flow is solved exactly: that is a `Rule`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Endpoints, Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled
from structgen.generative.solvers.polynomial import basis, gauss_legendre, vanishing


class First(NamedTuple):
    """The step of first order, x + now P or data D + noise N, plus fresh z: what is left if the prediction stays as it is. All [n]."""

    keep: Tensor  # 1 for the former, 0 for the latter
    now: Tensor
    data: Tensor
    noise: Tensor
    fresh: Tensor


class Rule(ABC):
    """x_s = the step of first order + integral over the step of (P - P_t) dw: what P is, its variable u, and the measure dw.

    With P = p D + q N in the endpoints D, N of the prediction.
    """

    @abstractmethod
    def parts(self, path: Path, t: Time) -> tuple[Tensor, Tensor]:
        """p and q at t [n]."""

    @abstractmethod
    def first(self, path: Path, t: Time, s: Time) -> First:
        """The step t -> s of first order."""

    @abstractmethod
    def variable(self, path: Path, t: Time) -> Tensor:
        """u at t [n]; not finite where no polynomial can be drawn."""

    @abstractmethod
    def quadrature(self, path: Path, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        """u and the weight dw at points in the steps t -> s, both [n, q]; not finite where the step must be of first order."""

    @abstractmethod
    def carried(self, path: Path, t: Time, s: Time) -> Tensor:
        """How much of a change of x_t reaches x_s if P stays as it is, [n]."""


class MultistepPlan(NamedTuple):
    t: Coefficient
    p: Coefficient
    q: Coefficient
    keep: Coefficient
    now: Coefficient
    data: Coefficient
    noise: Coefficient
    fresh: Coefficient
    earlier: Coefficient  # of the predictions before this step's, latest first: [n, order]


@dataclass(frozen=True)
class Multistep(Solver[MultistepPlan, tuple[X, ...]]):
    """The integral of the polynomial through the last `order` predictions; converges one order faster if every step is corrected.

    The first steps have fewer predictions, and so a lower order. Their error is repaired when the next prediction is known, without another
    evaluation, by the integral through that one too (the corrector of UniPC: Zhao et al. 2023, section 3.1); `corrected` says on how many
    steps. `order - 2` are enough for third order, and for fourth on a grid whose first steps shrink. Steps from alpha = 0 or to data,
    where the rule's variable is infinite, are of first order. It remembers predictions as they were: a `before_step` that moves the state
    (a random rotation) needs a solver without memory. Raises `ConfigError` if the order is below 1.
    """

    rule: Rule
    order: int  # type: ignore[misc]  # of each object, not of the class
    corrected: int

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ConfigError(f"the order of a multistep method is 1 or more; found {self.order}")

    def plan(self, path: Path, t: Time, s: Time) -> MultistepPlan:
        c = _beyond_first_order(self, path, t, s)
        p, q = self.rule.parts(path, t)
        keep, now, data, noise, fresh = self.rule.first(path, t, s)
        folded = torch.where(keep == 1, 0.0, c[:, 0])  # into the coefficients of the endpoints, which saves an operation
        return MultistepPlan(t, p, q, keep, now + c[:, 0], data + folded * p, noise + folded * q, fresh, c[:, 1:])

    def step(self, plan: MultistepPlan, denoise: DenoiseAt, x: X, memory: tuple[X, ...] | None, rng: Rng) -> tuple[X, tuple[X, ...]]:
        ends, past = denoise(x, plan.t, plan.t), memory or ()
        latest = _prediction(plan, ends)
        x = plus(x, plan.now, latest) if plan.keep else plus(scaled(plan.data, ends.data), plan.noise, ends.noise)
        for c, prediction in zip(plan.earlier, past, strict=False):
            if c:
                x = plus(x, c, prediction)
        if plan.fresh:
            x = plus(x, plan.fresh, normal_like(x, rng))
        return x, (latest, *past)[: self.order]


def _prediction(plan: MultistepPlan, ends: Endpoints) -> X:
    if (plan.p, plan.q) == (1, 0):
        return ends.data
    return ends.noise if (plan.p, plan.q) == (0, 1) else plus(scaled(plan.p, ends.data), plan.q, ends.noise)


def _beyond_first_order(solver: Multistep, path: Path, t: Time, s: Time) -> Tensor:
    """Coefficients [n, order + 1] of this step's prediction and the ones before, to be added to the step of first order."""
    u = solver.rule.variable(path, t)
    points, weights = solver.rule.quadrature(path, t, s)
    past = torch.stack([_delayed(u, j) for j in range(solver.order)], 1)
    known = past.isfinite().cumprod(1).sum(1)
    degree = torch.where(points.isfinite().all(1) & weights.isfinite().all(1), known, 1).clamp_min(1)
    c = torch.zeros(len(t), solver.order + 1, dtype=t.dtype)
    for k in range(2, solver.order + 1):
        of_k = degree == k
        c[of_k, 1:k] = (basis(past[of_k, :k], points[of_k]) * weights[of_k, None]).sum(2)[:, 1:]
    c[:, 0] = -c[:, 1:].sum(1)
    start = torch.stack([u, _delayed(u, 1)], 1).isfinite().all(1) & (_age(u) <= solver.corrected)
    carried = torch.where(start, solver.rule.carried(path, t, s), 0.0)
    return c + _correction(u, carried, *(_delayed(value, 1) for value in (points, weights, past, degree.to(u.dtype))))


def _correction(u: Tensor, carried: Tensor, points: Tensor, weights: Tensor, nodes: Tensor, degree: Tensor) -> Tensor:
    """What the step before (its points, weights, nodes and degree) lacks, now that the prediction at its end u is known: the integral of
    the polynomial that is 1 there and 0 at its nodes, times (P - its extrapolation), carried through this step."""
    usable = (carried != 0) & points.isfinite().all(1) & weights.isfinite().all(1)
    c = torch.zeros(len(u), nodes.shape[1] + 1, dtype=u.dtype)
    for k in range(1, nodes.shape[1] + 1):
        here = usable & (degree == k)
        integral = (vanishing(nodes[here, :k], u[here], points[here]) * weights[here]).sum(1) * carried[here]
        c[here, 0] = integral
        c[here, 1 : k + 1] = -integral[:, None] * basis(nodes[here, :k], u[here, None])[:, :, 0]
    return c


def _delayed(values: Tensor, steps: int) -> Tensor:
    """values[i - steps]; NaN before there were any."""
    return torch.cat([torch.full_like(values[:steps], torch.nan), values[: max(len(values) - steps, 0)]])


def _age(u: Tensor) -> Tensor:
    """How many steps lie behind this one since u became finite."""
    return u.isfinite().cumsum(0) - 1


def through_time(path: Path, t: Time, s: Time) -> tuple[Tensor, Tensor]:
    """Points in the noise level sigma / alpha as asinh, [n, q], and d(sigma / alpha) at them: finite down to data, smooth at both ends."""
    low, high = (torch.asinh(torch.exp(-path.half_log_snr(time))) for time in (t, s))
    points, weights = gauss_legendre(low, high)
    return points, weights * points.cosh()
