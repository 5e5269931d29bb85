"""Training of a classifier of pictures or clips: what generators are measured by."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.generative.ema import Weights
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet
from structgen.precision import autocast
from structgen.tasks.batches import Batch, Batching, draw_batch, first_cut
from structgen.tasks.task import Context, Task
from structgen.train import Metrics
from structgen.vision.files import config_json, save
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


class JudgeTask(Task[Batch]):
    """Cross-entropy of the classes of pictures that are moved a little."""

    network: Judge

    def __init__(self, settings: JudgeTraining, context: Context) -> None:
        self.settings, self.context = settings, context
        pictures = read_set(context.data, settings.side)
        if not pictures.classes:
            raise ConfigError(f"{context.data}: a judge needs classes; give a set with labels, or folders as classes")
        self.train, self.held_out = pictures.part(False), pictures.part(True)
        channels = int(pictures.pixels.shape[1]) * (settings.batches.frames or pictures.pixels.shape[2] if pictures.is_video else 1)
        self.network = Judge(JudgeConfig(channels, pictures.classes, settings.widths)).to(context.device)

    def example(self, place: int) -> Batch:
        return draw_batch(self.train, self.settings.batches, place, self.context.seed)

    def loss(self, example: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        x = example.x.to(self.context.device)
        rows, columns = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=rng).tolist()
        labels = torch.from_numpy(self.train.labels)[example.index].to(x.device)
        with autocast(self.context.device, self.context.precision):
            logits = self.network(torch.roll(x, (rows, columns), (-2, -1))).float()
        return F.cross_entropy(logits, labels), {"accuracy": (logits.argmax(1) == labels).float().mean().item()}

    def config(self) -> str:
        return config_json(self.network)

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save(self.network, path, card=card, weights=average)

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """Accuracy on held-out pictures."""
        network = copy.deepcopy(self.network).eval()
        network.load_state_dict(average)
        return {"accuracy": accuracy(network, self.held_out, self.settings)}


def accuracy(network: Judge, pictures: PictureSet, settings: JudgeTraining) -> float:
    """Share of pictures whose class is found."""
    x = first_cut(pictures, settings.batches, settings.held_out)
    spread = torch.linspace(0, len(pictures) - 1, len(x)).long()
    found = torch.cat([network(part).argmax(1) for part in x.split(256)])
    return (found == torch.from_numpy(pictures.labels)[spread]).float().mean().item()
