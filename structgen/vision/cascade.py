"""Cascades: a small picture or a clip of few frames, made larger and smoother stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.generative import Cosine, Endpoints, Rng, normal_like
from structgen.vision.condition import Condition

AUGMENTATION = Cosine()  # alpha^2 + sigma^2 = 1: what is noised keeps its size


@dataclass(frozen=True)
class Scale:
    """A picture's sides are `space` times smaller; of a clip, every `time`-th frame is there, the first among them."""

    space: int = 1
    time: int = 1

    def lowered(self, x: Tensor) -> Tensor:
        """[b, c, (t,) h, w] to the smaller one: means over squares of pixels. Raises `ConfigError` for sides that are no multiples."""
        if any(side % self.space for side in x.shape[-2:]) or (self.time > 1 and x.ndim != 5):
            raise ConfigError(
                f"{tuple(x.shape[1:])} cannot be made {self.space} times smaller with every {self.time}. frame: give sides that are "
                "multiples, and clips where frames are left out"
            )
        chosen = x[:, :, :: self.time] if x.ndim == 5 else x
        return F.avg_pool2d(chosen.flatten(0, -4), self.space).unflatten(0, chosen.shape[:-3])

    def raised(self, low: Tensor, size: tuple[int, ...]) -> Tensor:
        """The smaller one enlarged to `size` (as of the larger one, without the batch): linear between pixels and between frames; after
        the last given frame, that frame. Frames that are given stay bit for bit where `space` is 1. Raises `ConfigError` if it is not the
        smaller one of such a size."""
        if tuple(low.shape[1:]) != self.smaller(size):
            raise ConfigError(f"a stage that makes {tuple(size)} is given {self.smaller(size)}; found {tuple(low.shape[1:])}")
        if low.ndim == 5 and self.time > 1:
            at = torch.arange(size[1], device=low.device)
            before = at // self.time
            share = (at % self.time).to(low.dtype) / self.time
            low = torch.lerp(low[:, :, before], low[:, :, (before + 1).clamp(max=low.shape[2] - 1)], share[:, None, None])
        if self.space == 1:
            return low
        large = F.interpolate(low.flatten(0, -4), size=size[-2:], mode="bilinear")
        return large.unflatten(0, low.shape[:-3])

    def fitted(self, x: Tensor, low: Tensor) -> Tensor:
        """The nearest to x of all pictures that `lowered` takes to `low`: every square is shifted to its mean. The truth is one of these,
        and they are a plane, so this is never farther from it than x was. Frames are as many in both."""
        shift = (low - self.lowered(x)).repeat_interleave(self.space, -1).repeat_interleave(self.space, -2)
        return x + shift

    def smaller(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size, without the batch, of what is enlarged to `size`."""
        frames = tuple(-(-n // self.time) for n in size[1:-2])
        return (size[0], *frames, *(side // self.space for side in size[-2:]))


@dataclass(frozen=True)
class Lower:
    """What a stage is given: a smaller picture or clip, noised so that the stage forgives what the one before it does wrong (Ho et al.
    2022, Cascaded Diffusion Models, section 4.2; Imagen Video, section 2.4). Levels are times of the quarter circle, 0 clean and 1 noise.

    Training draws levels evenly from 0 to `noise`; samples are drawn at `level`. At level 0 a smaller picture is taken for true, and what
    is made of it has its means.
    """

    scale: Scale = field(default_factory=Scale)
    noise: float = 0.3
    level: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.level <= max(self.noise, self.level) <= 1:
            raise ConfigError(f"noise and level of what a stage is given lie between 0 and 1; found {self.noise} and {self.level}")

    def beside(self, cond: Condition, low: Tensor, size: tuple[int, ...], level: Tensor, rng: Rng) -> Condition:
        """The condition with the smaller one, noised to `level` [b] and then enlarged."""
        noised = AUGMENTATION.state(Endpoints(low, normal_like(low, rng)), level)
        return replace(cond, image=self.scale.raised(noised, size), level=level)

    def of_truth(self, cond: Condition, x: Tensor, rng: Rng) -> Condition:
        """The condition of a training example: the truth x made smaller, at a level of chance."""
        level = self.noise * torch.special.ndtr(normal_like(x.new_empty(len(x)), rng))
        return self.beside(cond, self.scale.lowered(x), tuple(x.shape[1:]), level, rng)

    def of_sample(self, cond: Condition, low: Tensor, size: tuple[int, ...], rng: Rng) -> Condition:
        """The condition of a stage that samples: what the one before it made, at the level of sampling."""
        return self.beside(cond, low, size, low.new_full((len(low),), self.level), rng)

    def known(self, low: Tensor, size: tuple[int, ...]) -> Callable[[Tensor], Tensor] | None:
        """What moves [b, *size] to the nearest that holds what is given: where only time grows the given frames at their places, bit for
        bit; where pictures grow their means over squares, if samples are drawn at level 0, that is if what is given is taken for true.
        None: nothing is known for certain."""
        if self.scale.space > 1:
            return partial(self.scale.fitted, low=low) if self.scale.time == 1 and self.level == 0 else None
        if self.scale.time == 1:
            return None
        places = torch.arange(size[1], device=low.device) % self.scale.time == 0
        return partial(_lerp, end=self.scale.raised(low, size), weight=places.to(low)[None, None, :, None, None])


def _lerp(x: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return torch.lerp(x, end, weight)
