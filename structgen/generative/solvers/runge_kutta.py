"""Explicit Runge-Kutta methods on the probability flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from structgen.generative.noise import Rng
from structgen.generative.path import Endpoints, Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled


@dataclass(frozen=True)
class Tableau:
    """Butcher's: stage i is taken at t + nodes[i] (s - t), from x plus inner[i] times the slopes before; outer joins all slopes."""

    nodes: tuple[float, ...]
    inner: tuple[tuple[float, ...], ...]
    outer: tuple[float, ...]
    order: int


EULER = Tableau((0,), ((),), (1,), order=1)
MIDPOINT = Tableau((0, 1 / 2), ((), (1 / 2,)), (0, 1), order=2)
RALSTON3 = Tableau((0, 1 / 2, 3 / 4), ((), (1 / 2,), (0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9), order=3)
RK4 = Tableau((0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), order=4)


class Stage(NamedTuple):
    t: Coefficient
    data: Coefficient  # (s - t) alpha' at the stage's time
    noise: Coefficient  # (s - t) sigma' there


Slope: TypeAlias = tuple[float, X]


class Stages(tuple[Any, ...]):
    """A plan of as many fields as there are stages."""

    def __new__(cls, *stages: Any) -> Stages:
        return super().__new__(cls, stages)


class RungeKuttaPlan(NamedTuple):
    lands: Coefficient  # sigma(s) = 0
    stages: Any


@dataclass(frozen=True)
class RungeKutta(Solver[RungeKuttaPlan, None]):
    """As many evaluations a step as the tableau has stages: `RungeKutta(MIDPOINT)`, `RungeKutta(RK4)`.

    A tableau with a stage at the end of its step cannot land on data, where no velocity can be asked for: that step is `landing`'s, whose
    order may be one less without loss of order in all (RALSTON3 stops at 3/4 of the step).
    """

    tableau: Tableau
    landing: Tableau = RALSTON3

    @property
    def order(self) -> int:  # type: ignore[override]  # of each object, not of the class
        return self.tableau.order

    def plan(self, path: Path, t: Time, s: Time) -> RungeKuttaPlan:
        lands = path.alpha_sigma(s)[1] == 0
        stages = []
        for i, node in enumerate(self.tableau.nodes):
            landing = self._landing.nodes[i] if i < len(self._landing.nodes) else 0.0
            at = torch.lerp(t, s, torch.where(lands, landing, node).to(t))  # s itself for node 1
            alpha_rate, sigma_rate = path.rates(at)
            stages.append(Stage(at, (s - t) * alpha_rate, (s - t) * sigma_rate))
        return RungeKuttaPlan(lands, Stages(*stages))

    @property
    def _landing(self) -> Tableau:
        return self.landing if 1 in self.tableau.nodes else self.tableau

    def step(self, plan: RungeKuttaPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        tableau = self._landing if plan.lands else self.tableau
        slopes: list[Slope] = []
        for stage, row in zip(plan.stages, tableau.inner, strict=False):
            ends = denoise(_along(x, row, slopes), stage.t, stage.t)
            slopes.append(_slope(stage, ends))
        return _along(x, tableau.outer, slopes), None


def _slope(stage: Stage, ends: Endpoints) -> Slope:
    """(s - t) (alpha' data + sigma' noise) as a number and a direction: one operation on tensors where the rates are numbers, not two."""
    data, noise = stage.data, stage.noise
    if isinstance(data, Tensor):
        return 1.0, plus(scaled(data, ends.data), noise, ends.noise)
    if abs(data) > abs(noise):
        return data, torch.add(ends.data, ends.noise, alpha=noise / data)
    return noise, torch.add(ends.noise, ends.data, alpha=data / noise if noise else 0.0)


def _along(x: X, row: Sequence[float], slopes: Sequence[Slope]) -> X:
    """x plus the row's share of each slope."""
    for c, (length, direction) in zip(row, slopes, strict=True):
        if c:
            x = torch.add(x, direction, alpha=c * length)
    return x
