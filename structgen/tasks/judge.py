"""Training of a classifier of pictures or clips: what generators are measured by."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from structgen.generative.ema import Weights
from structgen.pictures.sets import PictureSet
from structgen.precision import autocast
from structgen.tasks.batches import Batch, Batching, first_cut
from structgen.tasks.pictures import PictureTask, read_classed
from structgen.tasks.task import Context
from structgen.train import Metrics
from structgen.vision.judge import Judge, JudgeConfig

SHIFT = 2  # pixels by which pictures are moved at random


@dataclass(frozen=True)
class JudgeTraining:
    """What `task:` of `kind: judge` holds."""

    widths: tuple[int, ...] = (32, 64, 128)
    batches: Batching = field(default_factory=Batching)
    held_out: int = 1000
    side: int = 64

    def build(self, context: Context) -> JudgeTask:
        return JudgeTask(self, context)


class JudgeTask(PictureTask[Judge]):
    """Cross-entropy of the classes of pictures that are moved a little."""

    def __init__(self, settings: JudgeTraining, context: Context) -> None:
        self.settings, parts = settings, read_classed(context.data, settings.side)
        config = JudgeConfig(parts.channels(settings.batches), parts.train.classes, settings.widths)
        super().__init__(Judge(config), parts, settings.batches, context)

    def loss(self, example: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        x = example.x.to(self.context.device)
        rows, columns = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=rng).tolist()
        labels = torch.from_numpy(self.train.labels)[example.index].to(x.device)
        with autocast(self.context.device, self.context.precision):
            logits = self.network(torch.roll(x, (rows, columns), (-2, -1))).float()
        return F.cross_entropy(logits, labels), {"accuracy": (logits.argmax(1) == labels).float().mean().item()}

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """Accuracy on held-out pictures."""
        return {"accuracy": accuracy(self.averaged(average), self.held_out, self.settings)}


def accuracy(network: Judge, pictures: PictureSet, settings: JudgeTraining) -> float:
    """Share of pictures whose class is found."""
    x = first_cut(pictures, settings.batches, settings.held_out)
    spread = torch.linspace(0, len(pictures) - 1, len(x)).long()
    found = torch.cat([network(part).argmax(1) for part in x.split(256)])
    return (found == torch.from_numpy(pictures.labels)[spread]).float().mean().item()
