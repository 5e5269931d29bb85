"""Adams: the velocity as a polynomial in t."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.generative.path import Path, Time
from structgen.generative.solvers.multistep import First, Multistep, Rule
from structgen.generative.solvers.polynomial import gauss_legendre

EVERY_STEP = 2**31


@dataclass(frozen=True)
class VelocityInTime(Rule):
    """x_s = x_t + integral of v dt: nothing is solved exactly, which on a straight path leaves little to solve."""

    def parts(self, path: Path, t: Time) -> tuple[Tensor, Tensor]:
        return path.rates(t)

    def first(self, path: Path, t: Time, s: Time) -> First:
        none = torch.zeros_like(t)
        return First(torch.ones_like(t), s - t, none, none, none)

    def variable(self, path: Path, t: Time) -> Tensor:
        return t

    def quadrature(self, path: Path, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        return gauss_legendre(t, s)

    def carried(self, path: Path, t: Time, s: Time) -> Tensor:
        return torch.ones_like(t)


def adams(order: int) -> Multistep:
    """Adams-Bashforth's predictor with Adams-Moulton's corrector and one evaluation a step (PEC), for any steps (Hairer, Norsett & Wanner,
    Solving Ordinary Differential Equations I, III.1 and III.5). Lands on data with its full order."""
    return Multistep(VelocityInTime(), order, corrected=EVERY_STEP)
