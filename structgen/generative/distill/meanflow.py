"""MeanFlow: learn the mean velocity between any two times, and make the step between them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from structgen.generative.coupling import Coupling, Independent
from structgen.generative.denoiser import Denoiser
from structgen.generative.distill.pairs import Sorted, TimePairs, share_like
from structgen.generative.distill.tangent import Square, mean_square, raw_along, raw_output
from structgen.generative.distill.teacher import Teacher, slope
from structgen.generative.noise import Rng
from structgen.generative.objective import Loss
from structgen.generative.path import Path, Time, X, over
from structgen.generative.times import LogitNormal


@dataclass(frozen=True)
class Mixed:
    """Classifier-free guidance inside of the target, so that sampling calls the network once (MeanFlow, appendix A.1, eq. 21): the velocity
    is weight v + mixing u(cond) + (1 - weight - mixing) u(empty), u the network's own at s = t.

    The guidance that results has the lecture's w = weight / (1 - mixing). Conditions are dropped at `rate`, and there v stays as it is;
    `emptied` (cond, lost [b] bool) -> cond, as in `Drop`, which must not be wrapped around this.
    """

    emptied: Callable[[Any, Tensor], Any]
    weight: float
    mixing: float = 0.0
    rate: float = 0.1

    def velocity(self, denoiser: Denoiser[Any], v: X, x: X, t: Time, cond: Any, lost: Tensor) -> X:
        with torch.no_grad():
            empty = raw_output(denoiser, x, t, t, self.emptied(cond, torch.ones_like(lost)))
            given = raw_output(denoiser, x, t, t, cond)
        mixed = self.weight * v + self.mixing * given + (1 - self.weight - self.mixing) * empty
        return torch.where(over(lost, x), v, mixed)


@dataclass(frozen=True)
class MeanFlow:
    """u(x_t, t, s) = v - (t - s) (v . grad_x u + du/dt): the network predicts the left side, the right side is its target (Geng et al.
    2025, eqs. 6-11). Where s = t it is flow matching, bit for bit.

    The denoiser reads `AverageVelocity`; sample with `Ddim()` in any number of steps. The derivative is along (v, 1, 0) in (x, t, s), of
    the raw network. v is the velocity of the example's line, whose mean is that of the flow, or the `teacher`'s (less variance:
    distillation), or the guided one. Each example is weighted by 1 / (square + floor)^power, which takes no gradient (eq. 22): power 0 is
    the plain square, power 1 makes all examples count alike. Without a teacher a power above 0 no longer fits the mean of v: nothing is
    lost where squares are alike, in many dimensions, and much in two. `square` may leave out what the condition masks.
    """

    path: Path
    pairs: TimePairs = field(default_factory=lambda: Sorted(LogitNormal(-0.4, 1.0)))
    power: float = 1.0
    floor: float = 1e-3
    guidance: Mixed | None = None
    teacher: Teacher | None = None
    square: Square = mean_square
    coupling: Coupling = field(default_factory=Independent)

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        ends = self.coupling.pair(data, rng)
        t, s = self.pairs.draw(ends.data, rng)
        x = self.path.state(ends, t)
        v = slope(self.path, self.teacher, ends, x, t, cond)
        if self.guidance is not None:
            lost = share_like(x, rng) < self.guidance.rate
            cond = self.guidance.emptied(cond, lost)
            v = self.guidance.velocity(denoiser, v, x, t, cond, lost)
        _, rate = raw_along(denoiser, (x, t, s), (v, torch.ones_like(t), torch.zeros_like(s)), cond)
        target = v - over(t - s, x) * rate
        square = self.square(raw_output(denoiser, x, t, s, cond) - target, cond)
        return Loss(square / (square.detach() + self.floor) ** self.power, {"mean_velocity": square.detach()})
