"""The sampling loop, and what a solver is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.denoiser import Denoise
from structgen.generative.noise import Rng
from structgen.generative.path import Endpoints, Path, Time, X, over

Plan = TypeVar("Plan", bound=tuple)
Memory = TypeVar("Memory")
Coefficient: TypeAlias = Any
"""A field of a plan: [n] when planned, a float in the loop, [b] in `advance`."""
DenoiseAt: TypeAlias = Callable[[X, Coefficient, Coefficient], Endpoints]
"""`Denoise` at times that are entries of a plan."""


class Solver(ABC, Generic[Plan, Memory]):
    """One method to go from times t to times s.

    A step is linear in the state and the endpoints, so all that a method computes from the path are plain numbers: `plan` works them out
    for all steps at once, in float64, before the loop, and `step` only combines tensors with them. A plan is a NamedTuple whose fields are
    [n] tensors, or the plan of another solver; boolean fields choose what `step` does. What a multi-step method remembers is passed in and
    returned; it is None before the first step.
    """

    order: ClassVar[int]  # of convergence in the number of steps; 0 if a bias stays

    @abstractmethod
    def plan(self, path: Path, t: Time, s: Time) -> Plan:
        """Coefficients of the n steps t[i] -> s[i], both float64 [n]."""

    @abstractmethod
    def step(self, plan: Plan, denoise: DenoiseAt, x: X, memory: Memory | None, rng: Rng) -> tuple[X, Memory | None]:
        """x at s, given x at t and this step's entry of the plan."""


Integrate: TypeAlias = Callable[[Path, Denoise, Solver[Any, Any], Tensor, X, Rng], X]
"""(path, denoise, solver, times, x, rng) -> the state at times[-1]: `sample`, or what stands for it."""


def identity(x: X, rng: Rng) -> X:
    """x itself."""
    return x


def sample(
    path: Path,
    denoise: Denoise,
    solver: Solver[Any, Any],
    times: Tensor | Sequence[float],
    x: X,
    rng: Rng,
    before_step: Callable[[X, Rng], X] = identity,
    on_step: Callable[[int, int], None] | None = None,
) -> X:
    """x [b, *event] carried from times[0] through every time to times[-1]: the only sampling loop in structgen.

    x is the state at times[0]: noise times sigma there if that is the noisy end. times [steps + 1] fall to sample and rise to invert.
    `before_step` acts on the state ahead of each step (SI Algorithm 18, line 3); `on_step(done, steps)` reports. Gradients flow: wrap in
    `torch.inference_mode()` to sample only. Raises `ConfigError` if the times are fewer than two or not strictly monotone.
    """
    grid = _checked(torch.as_tensor(times, dtype=torch.float64).cpu())
    steps = rows(solver.plan(path, grid[:-1], grid[1:]))
    denoise_at = _at_numbers(denoise, x, grid)
    memory = None
    for done, step in enumerate(steps, start=1):
        x, memory = solver.step(step, denoise_at, before_step(x, rng), memory, rng)
        if on_step is not None:
            on_step(done, len(steps))
    return x


def advance(path: Path, denoise: Denoise, solver: Solver[Any, Any], x: X, t: Time, s: Time, rng: Rng) -> X:
    """One step in which every example goes from its own t to its own s, both [b]: for training on a teacher's steps.

    Only for solvers without memory. Raises `ConfigError` if the examples need different branches of the solver (one lands on data, another
    does not).
    """
    plan = solver.plan(path, t.double(), s.double())
    return solver.step(_as_one(plan, x), denoise, x, None, rng)[0]


def rows(plan: Plan) -> list[Plan]:
    """The plan's entries, one a step, with Python numbers for [n] tensors."""
    columns = [field.tolist() if isinstance(field, Tensor) else rows(field) for field in plan]
    return [_like(plan, row) for row in zip(*columns, strict=True)]


def plus(x: Tensor, c: Coefficient, y: Tensor) -> Tensor:
    """x + c y in one operation, for a number c or one an example [b]."""
    return torch.add(x, y, alpha=c) if isinstance(c, float) else torch.addcmul(x, over(c, y), y)


def scaled(c: Coefficient, y: Tensor) -> Tensor:
    """c y, for a number c or one an example [b]."""
    return torch.add(_ZERO, y, alpha=c) if isinstance(c, float) else over(c, y) * y


_ZERO = torch.zeros(())  # 0 + c y is c y, and takes less time than to make a tensor of the number c


def _like(plan: Plan, fields: Sequence[Any]) -> Plan:
    return type(plan)(*fields)


def _as_one(plan: Plan, x: X) -> Plan:
    """The plan of b steps as the one step of a batch of b."""
    return _like(plan, [_field(field, x) for field in plan])


def _field(field: Any, x: X) -> Any:
    if not isinstance(field, Tensor):
        return _as_one(field, x)
    if field.dtype != torch.bool:
        return field.to(x.dtype)
    if field.any() != field.all():
        raise ConfigError("examples of one batch need different branches of the solver; keep those that land on data apart")
    return bool(field.all())


def _at_numbers(denoise: Denoise, x: X, grid: Tensor) -> DenoiseAt:
    """`denoise` for a whole batch at plain numbers; the tensor for each time is made once, those of the grid together."""
    levels = _Levels(x)
    levels.update(zip(grid.tolist(), grid.to(x)[:, None].repeat(1, len(x)).unbind(), strict=True))
    return lambda x, t, s: denoise(x, levels[t], levels[s])


class _Levels(dict[float, Time]):
    """A time as [b]: a dictionary, because it is asked twice for every evaluation."""

    def __init__(self, like: X) -> None:
        super().__init__()
        self._like = like

    def __missing__(self, t: float) -> Time:
        self[t] = self._like.new_full((len(self._like),), t)
        return self[t]


def _checked(grid: Tensor) -> Tensor:
    steps = grid.diff()
    if grid.ndim != 1 or len(grid) < 2 or not grid.isfinite().all() or not ((steps > 0).all() or (steps < 0).all()):
        raise ConfigError(f"times must be two or more finite numbers that only fall or only rise; found {_shortened(grid)}")
    return grid


def _shortened(grid: Tensor) -> str:
    shown = ", ".join(f"{t:g}" for t in grid.flatten()[:6].tolist())
    return f"[{shown}{', ...' if grid.numel() > 6 else ''}] of shape {list(grid.shape)}"
