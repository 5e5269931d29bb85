"""Training of a student: the structure head of a model, copied and taught to take few steps; everything else stands still."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from structgen import heads
from structgen.alphafold3.config import Config
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.alphafold3.students import Distillation, StudentLoss, check_teacher
from structgen.data.examples import Loading
from structgen.errors import ConfigError
from structgen.features.examples import Crops, Example
from structgen.generative.ema import Weights
from structgen.tasks.crops import CropSettings, CropTask, HeldOut, Selection, open_crops
from structgen.tasks.structure import with_weights
from structgen.tasks.task import Context
from structgen.train import Metrics


@dataclass(frozen=True)
class StudentTraining:
    """What `task:` of `kind: student` holds. `init` names the teacher, which is where the student starts."""

    distillation: Distillation = field(default_factory=Distillation)
    chains: Selection = field(default_factory=Selection)
    crops: Crops = field(default_factory=Crops)
    loading: Loading | None = None  # instead of `chains` and `crops`, as for `kind: structure`
    holdout: str = ""
    held_out: HeldOut = field(default_factory=HeldOut)

    def build(self, context: Context) -> StudentTask:
        return StudentTask(self, context)


class StudentTask(CropTask):
    """Crops of chains drawn by cluster; the teacher's trunk reads them, both heads move the same noisy atoms."""

    network: AlphaFold3

    def __init__(self, settings: StudentTraining, context: Context) -> None:
        if not context.init:
            raise ConfigError("init: a student needs a teacher: name its file")
        self.settings, self.judged_on = settings, settings.held_out
        teacher = heads.load(context.init).network.to(context.device)
        check_teacher(teacher.config, context.init)
        self.network = copy.deepcopy(teacher)
        self.network.denoiser.requires_grad_(True)
        self.drawn = open_crops(CropSettings(settings.chains, settings.crops, settings.loading, settings.holdout), context)
        self._loss = StudentLoss(self.network, teacher, settings.distillation)

    def loss(self, example: Example, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        return self._loss(example, rng)

    def config(self) -> str:
        return self._published().to_json()

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        network = with_weights(self.network, average)
        network.config = self._published()
        terms = self.settings.distillation
        save_model(network, path, card=f"{terms.method} student of {network.config.name} in {terms.steps} steps, {card}")

    def judge(self, average: Weights) -> StudentLoss:
        return dataclasses.replace(self._loss, student=with_weights(self.network, average).eval())

    def _published(self) -> Config:
        return dataclasses.replace(self.network.config, sampling=self.settings.distillation.sampling(self.network.config.sampling))
