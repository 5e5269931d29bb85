"""Training of a student: the structure head of a model, copied and taught to take few steps; everything else stands still."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from structgen import heads
from structgen.alphafold3.config import Config
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.alphafold3.students import Distillation, StudentLoss, check_teacher
from structgen.errors import ConfigError
from structgen.features.chains import ChainSet
from structgen.features.examples import Crops, Example, draw_example
from structgen.generative import generators
from structgen.generative.ema import Weights
from structgen.tasks.structure import HeldOut, Selection, means, selected
from structgen.tasks.task import Context, Task
from structgen.train import Metrics


@dataclass(frozen=True)
class StudentTraining:
    """What `task:` of `kind: student` holds. `init` names the teacher, which is where the student starts."""

    distillation: Distillation = field(default_factory=Distillation)
    chains: Selection = field(default_factory=Selection)
    crops: Crops = field(default_factory=Crops)
    held_out: HeldOut = field(default_factory=HeldOut)

    def build(self, context: Context) -> StudentTask:
        return StudentTask(self, context)


class StudentTask(Task[Example]):
    """Crops of chains drawn by cluster; the teacher's trunk reads them, both heads move the same noisy atoms."""

    network: AlphaFold3

    def __init__(self, settings: StudentTraining, context: Context) -> None:
        if not context.init:
            raise ConfigError("init: a student needs a teacher: name its file")
        self.settings, self.context = settings, context
        teacher = heads.load(context.init).network.to(context.device)
        check_teacher(teacher.config, settings.distillation, context.init)
        self.network = copy.deepcopy(teacher)
        self.network.denoiser.requires_grad_(True)
        self.chains = ChainSet(context.data)
        self.clusters = self.chains.clusters(selected(self.chains, "train", settings.chains))
        self._loss = StudentLoss(self.network, teacher, settings.distillation)

    def example(self, place: int) -> Example:
        return draw_example(self.chains, self.clusters, self.settings.crops, np.random.default_rng((self.context.seed, place)))

    def loss(self, example: Example, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        return self._loss(example, rng)

    def config(self) -> str:
        return self._published().to_json()

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        network = self._averaged(average)
        network.config = self._published()
        terms = self.settings.distillation
        save_model(network, path, card=f"{terms.method} student of {network.config.name} in {terms.steps} steps, {card}")

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """The loss and its parts on the held-out crops."""
        if not self._judged:
            return {}
        loss = dataclasses.replace(self._loss, student=self._averaged(average).eval())
        rows = []
        for k, example in enumerate(self._judged):
            value, parts = loss(example, generators(self.settings.held_out.seed, 1, first=k)[0])
            rows.append({"loss": value.item(), **parts})
        return means(rows)

    def names(self, example: Example) -> Sequence[str]:
        return example.names

    def tensors(self, example: Example) -> dict[str, Tensor]:
        truth = {"positions": example.positions, "resolved": example.resolved}
        return truth | {f"batch.{name}": tensor for name, tensor in example.batch.tensors().items()}

    def _published(self) -> Config:
        return dataclasses.replace(self.network.config, sampling=self.settings.distillation.sampling(self.network.config.sampling))

    @cached_property
    def _judged(self) -> list[Example]:
        own = self.settings.held_out
        if not own.crops:
            return []
        clusters = self.chains.clusters(self.chains.split(own.split))
        return [draw_example(self.chains, clusters, self.settings.crops, np.random.default_rng((own.seed, k))) for k in range(own.crops)]

    def _averaged(self, average: Weights) -> AlphaFold3:
        network = copy.deepcopy(self.network)
        network.load_state_dict(average)
        return network
