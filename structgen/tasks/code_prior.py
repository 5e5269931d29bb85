"""Training of the autoregressive prior of unCLIP on pictures with captions."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structgen.generative import normal_like
from structgen.generative.ema import Weights
from structgen.pictures.sets import PictureSet
from structgen.precision import autocast
from structgen.tasks.batches import Batch, indices
from structgen.tasks.pictures import read_captioned
from structgen.tasks.task import Context, Task
from structgen.train import Metrics
from structgen.vision.causal import CausalConfig
from structgen.vision.code_prior import CodePrior, CodePriorConfig, code_losses
from structgen.vision.condition import Condition, emptied
from structgen.vision.files import Text, config_json, load, save
from structgen.vision.system import heard


@dataclass(frozen=True)
class CodePriorTraining:
    """What `task:` of `kind: code_prior` holds; `text` is the file of a CLIP."""

    text: str
    axes: int = 24
    buckets: int = 32
    transformer: CausalConfig = field(default_factory=CausalConfig)
    drop: float = 0.1
    size: int = 64  # examples of a batch
    side: int = 64  # of pictures from a folder

    def build(self, context: Context) -> CodePriorTask:
        return CodePriorTask(self, context)


class CodePriorTask(Task[Batch]):
    """Cross-entropy of the next code; pictures are seen as their embeddings only, which are computed once."""

    network: CodePrior

    def __init__(self, settings: CodePriorTraining, context: Context) -> None:
        self.settings, self.context = settings, context
        parts = read_captioned(context.data, settings.side)
        text = load(Path(settings.text), Text)
        self.network = CodePrior(CodePriorConfig(text.config, settings.axes, settings.buckets, settings.transformer)).to(context.device)
        self.network.clip.load_state_dict(text.clip.state_dict())
        self.train, self.held_out = (self._embedded(part) for part in (parts.train, parts.held_out))
        self.network.fit(self.train[0], self.train[1].require("vector"))
        self.targets = [self.network.targets(embeddings, cond.require("vector")) for embeddings, cond in (self.train, self.held_out)]

    @torch.no_grad()
    def _embedded(self, pictures: PictureSet) -> tuple[Tensor, Condition]:
        clip, device = self.network.clip, self.context.device
        embeddings = torch.cat([clip.pictures(part.to(device)) for part in pictures.tensor().split(256)])
        return embeddings, heard(clip, self.network.config.text.words, pictures.captions)

    def example(self, place: int) -> Batch:
        rows = torch.from_numpy(indices(len(self.train[0]), self.settings.size, place, self.context.seed))
        return Batch(self.train[0][rows].cpu(), rows)

    def loss(self, example: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        rows = example.index.to(self.context.device)
        lost = torch.special.ndtr(normal_like(torch.empty(len(rows), dtype=torch.float64), rng)) < self.settings.drop
        with autocast(self.context.device, self.context.precision):
            losses = code_losses(self.network, emptied(self.train[1].rows(rows), lost.to(rows.device)), self.targets[0][rows])
        return losses.mean(), {"dot": losses[:, 0].mean().item(), "codes": losses[:, 1:].mean().item()}

    def config(self) -> str:
        return config_json(self.network)

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save(self._averaged(average), path, card=card)

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """-log p of a code of held-out pictures in nats, given their captions and given how often each code is in the training set."""
        losses = code_losses(self._averaged(average), self.held_out[1], self.targets[1])
        return {"nll": losses[:, 1:].mean().item(), "unigram": unigram(self.targets[0], self.targets[1], self.settings.buckets)}

    def _averaged(self, average: Weights) -> CodePrior:
        network = copy.deepcopy(self.network)
        network.load_state_dict(average)
        return network.eval()


def unigram(train: Tensor, held_out: Tensor, buckets: int) -> float:
    """-log of the share of the training set with the same code on the same axis, mean over axes and examples; every code is counted once
    more, so that none has a share of 0. The dot product, first of the targets, is left out."""
    nats = []
    for axis in range(1, train.shape[1]):
        counts = torch.bincount(train[:, axis], minlength=buckets).double() + 1
        nats.append(-(counts / counts.sum()).log()[held_out[:, axis]].mean().item())
    return float(np.mean(nats))
