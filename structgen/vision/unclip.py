"""unCLIP: a text, the embedding of a picture that it describes, and the picture (Ramesh et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.generative import generators
from structgen.vision.clip import Clip
from structgen.vision.code_prior import CodePrior
from structgen.vision.draw import Drawing, draw, guided
from structgen.vision.editing import between, inverted
from structgen.vision.stages import Stage, apart
from structgen.vision.system import System, Vector, heard
from structgen.vision.words import Vocabulary

CANDIDATES = 2  # draws of the diffusion prior, of which one is kept


@torch.inference_mode()
def imagined(prior: System | CodePrior, captions: Sequence[str], seed: int) -> Tensor:
    """Embeddings [n, c] of pictures that the captions describe: P(z | y), so that a decoder's P(x | z, y) makes P(x | y) of it.

    Embedding k of a seed is the same in any batch.
    """
    count = len(captions)
    if isinstance(prior, CodePrior):
        return prior.draw(heard(prior.clip, prior.config.text.words, captions), count, generators(seed, count), prior.config.guidance)
    cond, own = prior.condition(captions=captions), Drawing(prior.config.steps, prior.config.guidance, seed)
    found = [draw(prior, cond, count, replace(own, seed=seed + (k << 40))) for k in range(CANDIDATES)]
    return better(torch.stack(found), cond.require("vector"))


def better(candidates: Tensor, texts: Tensor) -> Tensor:
    """Of candidates [k, b, c] the one [b, c] that has the largest product with its text's embedding [b, c] (section 2.2: of two)."""
    chosen = (candidates * texts).sum(-1).argmax(0)
    return candidates[chosen, torch.arange(len(texts), device=texts.device)]


def turned(embedding: Tensor, before: Tensor, after: Tensor, shares: Tensor) -> Tensor:
    """Embeddings [n, c] on the arc from that of a picture [c] towards the direction from one text [c] to another (section 3.3): share 0 is
    the picture itself."""
    return between(embedding, F.normalize(after - before, dim=-1), shares)


@torch.inference_mode()
def stages_between(systems: Sequence[System], drawings: Sequence[Drawing], first: Tensor, second: Tensor, shares: Tensor) -> list[Stage]:
    """What draws pictures whose embeddings lie at `shares` [n] of the arc between those of two pictures [*size], all from one noise
    (section 3.2): shares 0 and 1 are what the decoder makes of the two."""
    clip, _ = _shown(systems[0])
    ends = clip.pictures(torch.stack([first, second]))
    return _told(systems, drawings, between(ends[0], ends[1], shares))


@torch.inference_mode()
def stages_of_diff(
    systems: Sequence[System], drawings: Sequence[Drawing], picture: Tensor, before: str, after: str, shares: Tensor
) -> list[Stage]:
    """What draws a picture [*size] as it would be if not `before` but `after` described it, at `shares` [n] of the way (section 3.3), from
    the picture's own noise: share 0 is the picture, up to the error of its inversion."""
    clip, words = _shown(systems[0])
    embedding, texts = clip.pictures(picture[None]), heard(clip, words, (before, after)).require("vector")
    made = F.interpolate(picture[None], size=systems[-1].config.size[1:], mode="area")  # itself, but for a cascade that stops early
    begun = from_noise_of(_told(systems, drawings, embedding), made)
    told = _told(systems, drawings, turned(embedding[0], texts[0], texts[1], shares))
    noises = [stage.require_noise().expand(len(shares), *stage.require_noise().shape[1:]) for stage in begun]
    return [replace(stage, noise=noise) for stage, noise in zip(told, noises, strict=True)]


def _told(systems: Sequence[System], drawings: Sequence[Drawing], embeddings: Tensor) -> list[Stage]:
    """Stages that hear embeddings and no words, and draw all pictures from one noise."""
    conds = [system.condition(embedding=embeddings if system.clip is not None else None) for system in systems]
    alike = [replace(drawing, alike=True) for drawing in drawings]
    return [Stage(*of_stage) for of_stage in zip(systems, conds, alike, strict=True)]


def _shown(decoder: System) -> tuple[Clip, Vocabulary]:
    """The CLIP whose embeddings the decoder shows, and its words. Raises `ConfigError` for another kind of model."""
    if decoder.clip is None or decoder.config.text is None or decoder.config.vector is not Vector.PICTURE:
        raise ConfigError("between pictures and texts goes a model that shows embeddings: train its first stage with task.vector: picture")
    return decoder.clip, decoder.config.text.words


@torch.inference_mode()
def from_noise_of(stages: Sequence[Stage], pictures: Tensor) -> list[Stage]:
    """The stages, beginning from the noise out of which they make these pictures [b, *size of the last] again, up to the solver's error.

    This is the other half of unCLIP's account of a picture (section 3): what its embedding does not say. Each stage is inverted given the
    picture itself made smaller.
    """
    truths = [pictures]
    for stage in reversed(stages[1:]):
        truths.insert(0, stage.lower.scale.lowered(truths[0]))
    noises = [_noise(*of_stage) for of_stage in zip(apart(stages), truths, [None, *truths[:-1]], strict=True)]
    return [replace(stage, noise=noise) for stage, noise in zip(stages, noises, strict=True)]


def _noise(stage: Stage, truth: Tensor, low: Tensor | None) -> Tensor:
    system, drawing, rng = stage.system, stage.drawing, stage.drawing.generators(len(truth))
    cond = stage.cond if low is None else stage.lower.of_sample(stage.cond, low, system.config.size, rng)
    denoise = guided(system, cond, len(truth), drawing.guidance)
    return inverted(system.formulation, denoise, system.encoded(truth), drawing.steps, rng)


@dataclass(frozen=True, eq=False)
class Models:
    """A model, or the stages of a cascade, and the prior of unCLIP."""

    stages: tuple[System, ...]
    prior: System | CodePrior | None = None

    def embeddings(self, captions: Sequence[str], seed: int) -> Tensor | None:
        """What the first stage shows of these captions. None: there is no prior, and nothing of the kind is shown."""
        return None if self.prior is None else imagined(self.prior, captions, seed)

    def listener(self) -> tuple[Clip, Vocabulary] | None:
        """The CLIP that can see whole pictures, and its words: the last stage's, or that whose embeddings a decoder shows."""
        for system in (self.stages[-1], self.stages[0]):
            whole = system is self.stages[-1] or system.config.vector is Vector.PICTURE
            if whole and system.clip is not None and system.config.text is not None:
                return system.clip, system.config.text.words
        return None


def check_space(prior: System | CodePrior, decoder: System) -> None:
    """Raises `ConfigError` unless the decoder shows embeddings of the CLIP that the prior makes."""
    if decoder.config.vector is not Vector.PICTURE or decoder.clip is None:
        raise ConfigError("a prior needs a first stage that shows embeddings: train it with task.vector: picture")
    if not isinstance(prior, CodePrior) and prior.config.network.prior is None:
        raise ConfigError("the prior makes pictures: expected a model of kind code_prior, or a generator whose network is a prior")
    own, other = (model.clip.state_dict() if model.clip is not None else {} for model in (prior, decoder))
    if own.keys() != other.keys() or not all(torch.equal(value, other[name]) for name, value in own.items()):
        raise ConfigError("the prior and the decoder were trained with different CLIPs: their embeddings mean different things")
