"""Training of a CLIP on captioned pictures or clips."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from structgen.generative.ema import Weights
from structgen.pictures.sets import PictureSet
from structgen.precision import autocast
from structgen.tasks.batches import Batch, Batching, first_cut
from structgen.tasks.pictures import PictureTask, read_captioned
from structgen.tasks.task import Context
from structgen.train import Metrics
from structgen.vision.clip import ClipConfig, contrastive_loss
from structgen.vision.files import Text
from structgen.vision.system import TextConfig
from structgen.vision.words import Vocabulary


@dataclass(frozen=True)
class Towers:
    """Widths of the two towers; see `ClipConfig`."""

    width: int = 96
    depth: int = 2
    heads: int = 4
    widths: tuple[int, ...] = (32, 64, 96)
    c_shared: int = 64


@dataclass(frozen=True)
class TextTraining:
    """What `task:` of `kind: text` holds: `length` tokens a caption, of words that occur `rarest` times or more."""

    length: int = 16
    rarest: int = 1
    towers: Towers = field(default_factory=Towers)
    batches: Batching = field(default_factory=Batching)
    held_out: int = 256
    side: int = 64

    def build(self, context: Context) -> TextTask:
        return TextTask(self, context)


class TextTask(PictureTask[Text]):
    """The contrastive loss; pictures with equal captions are all right for each other."""

    def __init__(self, settings: TextTraining, context: Context) -> None:
        self.settings, parts = settings, read_captioned(context.data, settings.side)
        self.words = Vocabulary.of(parts.train.captions, settings.length, settings.rarest)
        config, towers = ClipConfig(parts.channels(settings.batches), len(self.words), settings.length), settings.towers
        config = replace(config, width=towers.width, depth=towers.depth, heads=towers.heads, widths=towers.widths, c_shared=towers.c_shared)
        super().__init__(Text(TextConfig(config, self.words)), parts, settings.batches, context)

    def loss(self, example: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        clip = self.network.clip
        tokens = self.words.encode([self.train.captions[i] for i in example.index]).to(self.context.device)
        same = (tokens[:, None] == tokens[None]).all(2)
        with autocast(self.context.device, self.context.precision):
            pictures, (_, texts) = clip.pictures(example.x.to(self.context.device)), clip.texts(tokens)
        return contrastive_loss(pictures.float(), texts.float(), clip.scale(), same), {}

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """How often a held-out picture finds its caption first among the distinct ones, and how often chance would."""
        found, count = retrieval(self.averaged(average), self.held_out, self.settings.batches, self.settings.held_out)
        return {"recall_at_1": found, "chance": 1 / count}


def retrieval(network: Text, pictures: PictureSet, batching: Batching, count: int) -> tuple[float, int]:
    """Share of pictures whose nearest caption is theirs, and how many different captions there are."""
    x = first_cut(pictures, batching, count)
    spread = np.linspace(0, len(pictures) - 1, len(x)).astype(int)
    captions = [pictures.captions[i] for i in spread]
    distinct = sorted(set(captions))
    own = network.config.words.encode(captions)
    _, texts = network.clip.texts(network.config.words.encode(distinct))
    nearest = (network.clip.pictures(x) @ texts.T).argmax(1)
    return float(np.mean([distinct[n] == caption for n, caption in zip(nearest.tolist(), captions, strict=True)])), len(
        set(distinct[: len(own)])
    )
