"""Consistency models: a state and one with a little less noise on the same trajectory lead to the same data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from structgen.generative.coupling import Coupling, Independent
from structgen.generative.denoiser import Denoiser
from structgen.generative.distill.pairs import TimePairs
from structgen.generative.distill.teacher import Teacher, carried
from structgen.generative.noise import Rng
from structgen.generative.objective import Error, Loss, Noised, data_error
from structgen.generative.path import Endpoints, Path, Time, X, over
from structgen.generative.sample import Solver
from structgen.generative.solvers.heun import Heun

GapWeight: TypeAlias = Callable[[Path, Time, Time], Time]
"""(path, t [b], s [b]) -> the weight [b] of a pair of times."""


def even(path: Path, t: Time, s: Time) -> Time:
    """1 for all pairs (Song et al. 2023)."""
    return torch.ones_like(t)


def inverse_gap(path: Path, t: Time, s: Time) -> Time:
    """1 / (difference of the noise levels sigma / alpha): 1 / (t - s) where alpha = 1 (Song & Dhariwal 2023, section 3.1)."""
    return 1 / (torch.exp(-path.half_log_snr(t)) - torch.exp(-path.half_log_snr(s)))


@dataclass(frozen=True)
class PseudoHuber:
    """sqrt(mean square + scale^2) - scale of the difference in data, in its units: outliers pull less than under `data_error` (Song &
    Dhariwal 2023, eq. 8, with c = scale sqrt(d) and divided by sqrt(d), so that the size of the event does not matter)."""

    scale: float = 0.00054

    def __call__(self, guess: Endpoints, example: Noised, cond: Any) -> Loss:
        square = (guess.data - example.truth.data).square().flatten(1).mean(1)
        error = (square + self.scale**2).sqrt() - self.scale
        return Loss(example.weight * error, {"data": square.detach()})


@dataclass(frozen=True)
class Consistency:
    """The data predicted at t shall be those that `target` predicts at s, on the same trajectory: with a `teacher`, where one step of its
    probability flow leads from x_t (consistency distillation: Song et al. 2023, Algorithm 2), and without, the state at s of the same data
    and noise (consistency training: Algorithm 3).

    `target` is `with_weights(denoiser, state.average)` for the moving average, or None for the student itself as it is; neither takes a
    gradient. The denoiser's reading must give x itself where the pairs end: `Consistent` at its eps, `Preconditioned` or `ReadVelocity` on
    data; the denoiser is asked for the data, s = 0. Sample with `Ddim(eta=inf)`, which for several steps is Algorithm 1 but for eps^2 in
    the variance. Every `Error` of data serves; `PseudoHuber` and `inverse_gap` are improved consistency training's. A teacher's solver that
    treats a step to data in its own way (`Heun`, the default) needs pairs that stop short of it.
    """

    path: Path
    pairs: TimePairs
    teacher: Teacher | None = None
    target: Teacher | None = None
    solver: Solver[Any, Any] = field(default_factory=Heun)
    weight: GapWeight = even
    error: Error = data_error
    coupling: Coupling = field(default_factory=Independent)

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        ends = self.coupling.pair(data, rng)
        t, s = self.pairs.draw(ends.data, rng)
        x, aim = self.path.state(ends, t), torch.zeros_like(t)
        nearer = self.path.state(ends, s)
        if self.teacher is not None:
            nearer = carried(self.path, self.teacher, self.solver, x, (t, s), cond, rng)
        wanted = self._wanted(denoiser, nearer, s, aim, cond)
        example = Noised(self.path, self.path.from_data(wanted, x, t), x, t, self.weight(self.path, t, s))
        return self.error(denoiser(x, t, aim, cond), example, cond)

    @torch.no_grad()
    def _wanted(self, denoiser: Denoiser[Any], x: X, s: Time, aim: Time, cond: Any) -> X:
        """The target's data; on data x itself, where many readings say 0 / 0."""
        on_data = self.path.alpha_sigma(s)[1] == 0
        return torch.where(over(on_data, x), x, (self.target or denoiser)(x, s, aim, cond).data)


def growing_steps(step: int, total: int, *, first: int = 2, last: int = 150) -> int:
    """Intervals of the grid at a step of training: the square grows evenly from first^2 to about last^2 (Song et al. 2023, appendix C)."""
    return math.ceil(math.sqrt(step / total * ((last + 1) ** 2 - first**2) + first**2) - 1)


def doubling_steps(step: int, total: int, *, first: int = 10, last: int = 1280) -> int:
    """Intervals of the grid: `first`, and twice as many after equal shares of the training, up to `last` (Song & Dhariwal 2023, section
    3.4)."""
    share = math.floor(total / (math.floor(math.log2(last / first)) + 1))
    return min(first * 2 ** (step // max(share, 1)), last)


def target_decay(steps: int, *, first: int = 2, decay: float = 0.9) -> float:
    """The decay of the target's average when the grid has this many intervals: exp(first log decay / steps) (Song et al. 2023, appendix
    C)."""
    return math.exp(first * math.log(decay) / steps)
