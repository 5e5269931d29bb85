"""Training of a structure predictor on experimental chains: trunk, diffusion head and distogram (SI 3.7, equation 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from structgen import heads
from structgen.alphafold3 import config as presets
from structgen.alphafold3.config import Config
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.alphafold3.training import LossTerms, StructureLoss
from structgen.configuration import from_mapping
from structgen.data.examples import Loading
from structgen.errors import ConfigError
from structgen.features.chains import ChainRecord
from structgen.features.examples import Crops, Example
from structgen.generative.ema import Weights
from structgen.settings import merge
from structgen.tasks.crops import CropSettings, CropTask, HeldOut, Selection, open_crops
from structgen.tasks.task import Context
from structgen.train import Metrics


@dataclass(frozen=True)
class StructureTraining:
    """All that the training of a structure predictor is, beside the loop: what `task:` of `kind: structure` holds."""

    preset: Literal["small", "tiny", "af3", ""] = ""  # "": the configuration of the model file that `init` names
    model: dict = field(default_factory=dict)  # what differs from the preset, in the shape of `alphafold3.config.Config`
    chains: Selection = field(default_factory=Selection)
    crops: Crops = field(default_factory=Crops)
    loading: Loading | None = None  # instead of `chains` and `crops`: archives, templates, alignments, spatial crops (docs/data.md)
    holdout: str = ""  # table of chains of a set that are not trained on
    loss: LossTerms = field(default_factory=LossTerms)
    held_out: HeldOut = field(default_factory=HeldOut)

    def build(self, context: Context) -> StructureTask:
        return StructureTask(self, context)


class StructureTask(CropTask):
    """Chains are drawn by cluster; the loss is SI equation 1 without the confidence terms, whose head stands still."""

    network: AlphaFold3

    def __init__(self, settings: StructureTraining, context: Context, *, shown: Callable[[ChainRecord], ChainRecord] | None = None) -> None:
        self.judged_on = settings.held_out
        self.drawn = open_crops(CropSettings(settings.chains, settings.crops, settings.loading, settings.holdout), context, shown)
        self.network = start_network(settings.preset, settings.model, context).to(context.device)
        if settings.loading and settings.loading.templates.slots and settings.loading.templates.keep > 0:
            self.network.config = shown_templates(self.network.config)
        self.network.confidence.requires_grad_(False)  # trained on roll-outs, when the rest stands still
        self._loss = StructureLoss(self.network, settings.loss, context.precision)

    def loss(self, example: Example, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        return self._loss(example, rng)

    def config(self) -> str:
        return self.network.config.to_json()

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save_model(with_weights(self.network, average), path, card=card)

    def judge(self, average: Weights) -> StructureLoss:
        return dataclasses.replace(self._loss, network=with_weights(self.network, average).eval())


def shown_templates(config: Config) -> Config:
    """The configuration of a network that was trained with templates: predictions give it some."""
    return dataclasses.replace(config, template=dataclasses.replace(config.template, trained=True))


def with_weights(network: AlphaFold3, weights: Weights) -> AlphaFold3:
    """Another network of the same configuration, on the same device, with these weights.

    It is built anew: a copy of e3nn's compiled products is not quite one, its state has other names.
    """
    own = heads.build(network.config).to(next(network.parameters()).device)
    own.load_state_dict(weights)
    return own


def start_network(preset: str, changes: Mapping[str, Any], context: Context) -> AlphaFold3:
    """The network of `context.init`, or one with weights drawn by torch's own generator.

    Raises `ConfigError` when both or neither are given.
    """
    if bool(preset) == bool(context.init):
        raise ConfigError("give either task.preset, for random weights, or init, a model file with weights and configuration")
    if context.init:
        if changes:
            raise ConfigError("task.model: the configuration is that of the model file; remove it, or start from a preset")
        network = heads.load(context.init).network
        return network.requires_grad_(True).train()
    config = from_mapping(Config, merge(dataclasses.asdict(getattr(presets, preset)()), changes), "task.model")
    return heads.build(config)
