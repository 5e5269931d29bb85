"""Pictures and clips from a system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative import Denoise, classifier_free_at_once, generators, normal_like, sample
from structgen.vision.condition import Condition, empty_and_given
from structgen.vision.editing import start_from, start_time
from structgen.vision.system import System


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn. `guidance` 1 samples the law of the condition, above it sharpens; 0 leaves the condition out."""

    steps: int = 30
    guidance: float = 2.0
    seed: int = 0
    strength: float = 1.0  # with a given picture: the share of the noise's way from which it is drawn again


def guided(system: System, cond: Condition, count: int, weight: float) -> Denoise:
    """The denoiser of `count` examples with classifier-free guidance: two predictions in one call, unless the weight is 1."""
    denoiser = system.denoiser()
    if weight == 1:
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
    change: Callable[[Denoise], Denoise] = lambda denoise: denoise,
) -> Tensor:
    """Pixels [count, *size] in [-1, 1], one generator a picture: picture k of a seed is the same in any batch.

    `given` [count, *size] are pictures to start from (with `drawing.strength`); `change` acts on the denoiser (`editing.keeping`). Raises
    `ConfigError` for a picture of another size than the model's.
    """
    formulation, rng = system.formulation, generators(drawing.seed, count)
    denoise = change(guided(system, cond, count, drawing.guidance))
    if given is None:
        noise = normal_like(torch.empty(count, *latent_size(system)), rng)
        start, x = formulation.start, _noise_level(system) * noise
    else:
        if tuple(given.shape[1:]) != system.config.size:
            raise ConfigError(f"a picture of {tuple(given.shape[1:])}; this model makes {system.config.size}")
        if drawing.strength == 0:
            return system.decoded(system.encoded(given))
        start, x = start_time(formulation, drawing.strength), start_from(formulation, system.encoded(given), drawing.strength, rng)
    return system.decoded(sample(formulation.path, denoise, formulation.solver(), formulation.grid(drawing.steps, start), x, rng))


@torch.inference_mode()
def latent_size(system: System) -> tuple[int, ...]:
    """Of what is diffused, without the batch."""
    return tuple(system.encoded(torch.zeros(1, *system.config.size)).shape[1:])


def _noise_level(system: System) -> float:
    """sigma at the start."""
    return float(system.formulation.path.alpha_sigma(torch.tensor(system.formulation.start))[1])
