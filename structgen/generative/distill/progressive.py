"""Progressive distillation: one step of the student does what two of its teacher do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.coupling import Coupling, Independent
from structgen.generative.denoiser import Denoiser
from structgen.generative.distill.pairs import falling, one_of
from structgen.generative.distill.teacher import Teacher, carried
from structgen.generative.noise import Rng
from structgen.generative.objective import Error, Loss, Noised, data_error
from structgen.generative.path import Endpoints, Path, X
from structgen.generative.sample import Solver
from structgen.generative.solvers.ddim import Ddim
from structgen.generative.weights import TruncatedSnr, Weight


@dataclass(frozen=True, eq=False)
class Progressive:
    """Predict the endpoints of the line from x_t to where `stride` steps of the teacher lead: a DDIM step along it lands there too
    (Salimans & Ho 2022, Algorithm 2).

    `times` is the teacher's grid [n + 1], which falls; the student's is `times[::stride]`, and its sampler `Ddim()` on that. It may end at
    t = 0, where sigma is 0. The teacher's solver has no memory; one that treats the step to data in its own way (`Heun`) needs a grid that
    stops short of it. Raises `ConfigError` unless the grid falls and n is a multiple of `stride`.
    """

    path: Path
    teacher: Teacher
    times: Tensor
    stride: int = 2
    solver: Solver[Any, Any] = field(default_factory=Ddim)
    weight: Weight = field(default_factory=TruncatedSnr)
    error: Error = data_error
    coupling: Coupling = field(default_factory=Independent)

    def __post_init__(self) -> None:
        falling(self.times)
        if self.stride < 1 or (len(self.times) - 1) % self.stride:
            raise ConfigError(f"{len(self.times) - 1} steps of the teacher are no multiple of {self.stride}; choose another grid or stride")

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        ends = self.coupling.pair(data, rng)
        grid = self.times.to(ends.data.device)
        first = self.stride * one_of((len(grid) - 1) // self.stride, ends.data, rng)
        knots = [grid[first + j].double() for j in range(self.stride + 1)]
        t, s = knots[0].to(ends.data), knots[-1].to(ends.data)
        x = self.path.state(ends, t)
        target = self._through(x, carried(self.path, self.teacher, self.solver, x, knots, cond, rng), knots)
        return self.error(denoiser(x, t, s, cond), Noised(self.path, target, x, t, self.weight(self.path, t)), cond)

    def _through(self, x_t: X, x_s: X, knots: list[Tensor]) -> Endpoints:
        """In float64: the two states are close to each other on a fine grid, and their difference is divided by the step."""
        ends = self.path.through(x_t.double(), knots[0], x_s.double(), knots[-1])
        return Endpoints(ends.data.to(x_t), ends.noise.to(x_t))


def halvings(times: Tensor) -> Iterator[Tensor]:
    """The teacher's grid in each round, from `times` [n + 1] down to 2 steps: log2 n rounds, after which the student makes one step.

    Raises `ConfigError`, before the first, unless n is a power of two.
    """
    steps = len(times) - 1
    if steps < 2 or steps & (steps - 1):
        raise ConfigError(f"the number of steps is halved until one is left, so it is a power of two; found {steps}")
    return (times[:: 2**k] for k in range(steps.bit_length() - 1))
