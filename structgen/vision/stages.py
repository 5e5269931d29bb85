"""The models of a cascade in turn: each is given what the one before it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from structgen.errors import ConfigError
from structgen.vision.cascade import Lower
from structgen.vision.condition import Condition
from structgen.vision.draw import Change, Drawing, draw, unchanged
from structgen.vision.system import System


@dataclass(frozen=True, eq=False)
class Stage:
    """A model, what it hears and how it is drawn from."""

    system: System
    cond: Condition
    drawing: Drawing
    noise: Tensor | None = None  # the state to begin from; None: noise of the seed

    def require_noise(self) -> Tensor:
        """The state to begin from. Raises `ConfigError` where it is not given."""
        if self.noise is None:
            raise ConfigError("this stage begins from noise of its seed: none is given")
        return self.noise

    @property
    def lower(self) -> Lower:
        """What it enlarges. Raises `ConfigError` for a model that makes pictures from noise alone."""
        if self.system.config.lower is None:
            raise ConfigError("a model that makes pictures from noise alone cannot be a later stage of a cascade")
        return self.system.config.lower


def draw_in_turn(
    stages: Sequence[Stage], count: int, *, given: Tensor | None = None, change: Change = unchanged, low: Tensor | None = None
) -> list[Tensor]:
    """What each stage makes, [count, *its size]; the last is whole. `given`, `change` and `low` are the first one's, as of `draw`.

    Stages have noise of their own, so picture k of a seed is the same in any batch here too.
    """
    first, *others = apart(stages)
    made = [draw(first.system, first.cond, count, first.drawing, given=given, change=change, low=low, noise=first.noise)]
    for stage in others:
        made.append(draw(stage.system, stage.cond, count, stage.drawing, low=made[-1], noise=stage.noise))
    return made


def apart(stages: Sequence[Stage]) -> list[Stage]:
    """The stages with a seed each, the first as it is."""
    return [replace(stage, drawing=replace(stage.drawing, seed=stage.drawing.seed + (n << 32))) for n, stage in enumerate(stages)]


def check_stages(systems: Sequence[System], names: Sequence[str]) -> None:
    """Raises `ConfigError` if a model is not given what the one before it makes."""
    for before, after, name in zip(systems, systems[1:], names[1:], strict=False):
        if after.config.lower is None:
            raise ConfigError(f"{name} makes pictures from noise alone: it cannot be a later stage of a cascade")
        if (wanted := after.config.lower.scale.smaller(after.config.size)) != before.config.size:
            raise ConfigError(f"{name} is given {wanted}, and the stage before it makes {before.config.size}")
