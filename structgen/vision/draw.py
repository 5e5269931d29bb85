"""Pictures and clips from a system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative import Denoise, Rng, classifier_free_at_once, generators, normal_like, projected, sample
from structgen.vision.condition import Condition, empty_and_given, says_something
from structgen.vision.editing import start_from, start_time
from structgen.vision.system import System

Change: TypeAlias = Callable[[Denoise], Denoise]


def unchanged(denoise: Denoise) -> Denoise:
    """The denoiser as it is."""
    return denoise


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn. `guidance` 1 samples the law of the condition, above it sharpens; 0 leaves the condition out."""

    steps: int = 30
    guidance: float = 2.0
    seed: int = 0
    strength: float = 1.0  # with a given picture: the share of the noise's way from which it is drawn again
    level: float | None = None  # of the noise in what a later stage is given; None: the model's own, 0: it is taken for true
    alike: bool = False  # all pictures from the noise of the first: what differs is what they are told

    def generators(self, count: int) -> list[torch.Generator]:
        """One a picture, each from its start."""
        return [generators(self.seed, 1, first=0 if self.alike else k)[0] for k in range(count)]


def guided(system: System, cond: Condition, count: int, weight: float) -> Denoise:
    """The denoiser of `count` examples with classifier-free guidance: two predictions in one call, unless the weight is 1 or
    there is nothing to leave out."""
    denoiser = system.denoiser()
    if weight == 1 or not says_something(cond):
        return partial(denoiser, cond=cond)
    return classifier_free_at_once(partial(denoiser, cond=empty_and_given(cond, count)), weight)


@torch.inference_mode()
def draw(
    system: System,
    cond: Condition,
    count: int,
    drawing: Drawing,
    *,
    given: Tensor | None = None,
    change: Change = unchanged,
    low: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Pixels [count, *size] in [-1, 1], one generator a picture: picture k of a seed is the same in any batch.

    `given` [count, *size] are pictures to start from (with `drawing.strength`); `change` acts on the denoiser (`editing.keeping`); `low` is
    what a later stage of a cascade enlarges (what is certain of it stays: `Lower.known`); `noise` is the state to begin from in place of
    one by the seed. Raises `ConfigError` for pictures of another size than the model's, and for a stage without what it enlarges.
    """
    formulation, lower, rng, known = system.formulation, system.config.lower, drawing.generators(count), None
    if lower is not None:
        if low is None:
            raise ConfigError("this model enlarges what another one makes: name both in the file of a cascade")
        lower = lower if drawing.level is None else replace(lower, level=drawing.level)
        cond, known = lower.of_sample(cond, low, system.config.size, rng), lower.known(low, system.config.size)
    denoise = change(guided(system, cond, count, drawing.guidance))
    denoise = denoise if known is None else projected(formulation.path, denoise, known)
    if given is not None and drawing.strength == 0:
        return system.decoded(system.encoded(_fitting(system, given)))
    start, x = (formulation.start, noise) if noise is not None else _start(system, given, count, drawing, rng)
    made = system.decoded(sample(formulation.path, denoise, formulation.solver(), formulation.grid(drawing.steps, start), x, rng))
    return made if known is None else known(made)  # exact where the sampler has rounded


def _start(system: System, given: Tensor | None, count: int, drawing: Drawing, rng: Rng) -> tuple[float, Tensor]:
    """The time at which sampling begins, and the state there."""
    formulation = system.formulation
    if given is None:
        noise = normal_like(torch.empty(count, *latent_size(system)), rng)
        return formulation.start, _noise_level(system) * noise
    known = system.encoded(_fitting(system, given))
    return start_time(formulation, drawing.strength), start_from(formulation, known, drawing.strength, rng)


def _fitting(system: System, given: Tensor) -> Tensor:
    if tuple(given.shape[1:]) != system.config.size:
        raise ConfigError(f"a picture of {tuple(given.shape[1:])}; this model makes {system.config.size}")
    return given


@torch.inference_mode()
def latent_size(system: System) -> tuple[int, ...]:
    """Of what is diffused, without the batch."""
    return tuple(system.encoded(torch.zeros(1, *system.config.size)).shape[1:])


def _noise_level(system: System) -> float:
    """sigma at the start."""
    return float(system.formulation.path.alpha_sigma(torch.tensor(system.formulation.start))[1])
