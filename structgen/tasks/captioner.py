"""Training of a captioner on captioned pictures or clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structgen.generative.ema import Weights
from structgen.precision import autocast
from structgen.tasks.batches import Batch, Batching, first_cut
from structgen.tasks.pictures import PictureTask, read_captioned
from structgen.tasks.task import Context
from structgen.train import Metrics
from structgen.vision.coca import Captioning, Coca, CocaConfig, coca_loss
from structgen.vision.files import load, model_file
from structgen.vision.words import Vocabulary

AT_ONCE = 64


@dataclass(frozen=True)
class CaptionerTraining:
    """What `task:` of `kind: captioner` holds: `length` tokens a caption, of words that occur `rarest` times or more.

    `init` is a captioner that is taught another way to say things on the captions of `data`, say short ones or long ones (Betker et al.
    2023, section 2.1); its words stay.
    """

    length: int = 16
    rarest: int = 1
    sizes: Captioning = field(default_factory=Captioning)
    caption: float = 2.0  # weight of the captions' likelihood beside the contrastive loss
    batches: Batching = field(default_factory=Batching)
    held_out: int = 256
    side: int = 64

    def build(self, context: Context) -> CaptionerTask:
        return CaptionerTask(self, context)


class CaptionerTask(PictureTask[Coca]):
    """The contrastive loss and the likelihood of captions."""

    def __init__(self, settings: CaptionerTraining, context: Context) -> None:
        self.settings = settings
        parts = read_captioned(context.data, settings.side)
        if context.init:
            network = load(model_file(Path(context.init)), Coca).requires_grad_(True)
        else:
            words = Vocabulary.of(parts.train.captions, settings.length, settings.rarest)
            network = Coca(CocaConfig(int(parts.train.pixels.shape[1]), words, settings.sizes))
        super().__init__(network, parts, settings.batches, context)

    def loss(self, example: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        device = self.context.device
        tokens = self.network.config.words.encode([self.train.captions[i] for i in example.index]).to(device)
        with autocast(device, self.context.precision):
            total, parts = coca_loss(self.network, example.x.to(device), tokens, self.settings.caption)
        return total, {name: part.item() for name, part in parts.items()}

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """Shares of held-out pictures whose caption is said exactly, and of its words that are said at their places."""
        network = self.averaged(average)
        x = first_cut(self.held_out, self.settings.batches, self.settings.held_out).to(self.context.device)
        rows = np.linspace(0, len(self.held_out) - 1, len(x)).astype(int)
        wanted = [self.held_out.captions[i] for i in rows]
        return exactness([said for part in x.split(AT_ONCE) for said in network.captions(part)], wanted)


def exactness(said: list[str], wanted: list[str]) -> Metrics:
    """Shares of captions that are equal, and of wanted words that stand where they should."""
    pairs = [(a.split(), b.lower().split()) for a, b in zip(said, wanted, strict=True)]
    words = [word == (a[n] if n < len(a) else "") for a, b in pairs for n, word in enumerate(b)]
    return {"exact": float(np.mean([a == b for a, b in pairs])), "words": float(np.mean(words))}
