"""Training of a structure predictor on experimental chains: trunk, diffusion head and distogram (SI 3.7, equation 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from structgen import heads
from structgen.alphafold3 import config as presets
from structgen.alphafold3.config import Config
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.alphafold3.training import LossTerms, StructureLoss
from structgen.configuration import from_mapping
from structgen.data.examples import Loading
from structgen.data.stream import Stream, open_dataset
from structgen.errors import ConfigError
from structgen.features.chains import ChainRecord, ChainSet
from structgen.features.examples import Crops, Example, draw_example
from structgen.generative import generators
from structgen.generative.ema import Weights
from structgen.settings import merge
from structgen.tasks.task import Context, Task
from structgen.train import Metrics


@dataclass(frozen=True)
class HeldOut:
    """Crops of held-out chains on which the averaged weights' loss is measured: always the same crops and the same noise."""

    crops: int = 0
    split: Literal["val", "test"] = "val"
    seed: int = 0


@dataclass(frozen=True)
class Selection:
    """Which training chains are used: those of a range of lengths, and of these at most `count`, evenly spread over the archive."""

    shortest: int = 1
    longest: int = 100_000
    count: int = 0  # 0: all
    full_atom: bool = False  # only chains with side chains


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


class StructureTask(Task[Example]):
    """Chains are drawn by cluster; the loss is SI equation 1 without the confidence terms, whose head stands still."""

    network: AlphaFold3

    def __init__(
        self, settings: StructureTraining, context: Context, *, shown: Callable[[ChainRecord], ChainRecord] = lambda record: record
    ) -> None:
        self.settings, self.context = settings, context
        self.network = start_network(settings.preset, settings.model, context).to(context.device)
        if settings.loading and settings.loading.templates.slots and settings.loading.templates.keep > 0:
            self.network.config = shown_templates(self.network.config)
        self.network.confidence.requires_grad_(False)  # trained on roll-outs, when the rest stands still
        holdout = Path(settings.holdout) if settings.holdout else None
        if settings.loading:
            self.dataset = open_dataset(context.data, holdout)
            self._stream = Stream.of(self.dataset, settings.loading, context.seed)
        else:
            self.chains = ChainSet(context.data, holdout)
            self.records = Shown(self.chains, shown)
            self.clusters = self.chains.clusters(selected(self.chains, "train", settings.chains))
        self._loss = StructureLoss(self.network, settings.loss, context.precision)

    def example(self, place: int) -> Example:
        if self.settings.loading:
            return self._stream.example(place)
        return draw_example(self.records, self.clusters, self.settings.crops, np.random.default_rng((self.context.seed, place)))

    def loss(self, example: Example, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        return self._loss(example, rng)

    def config(self) -> str:
        return self.network.config.to_json()

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save_model(self._averaged(average), path, card=card)

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """The loss and its parts on the held-out crops."""
        if not self._judged:
            return {}
        loss = dataclasses.replace(self._loss, network=self._averaged(average).eval())
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

    @cached_property
    def _judged(self) -> list[Example]:
        own = self.settings.held_out
        if not own.crops:
            return []
        if self.settings.loading:
            judged = Stream.of(self.dataset, dataclasses.replace(self.settings.loading, split=own.split, batch=1), own.seed)
            return [judged.example(k) for k in range(own.crops)]
        clusters = self.chains.clusters(self.chains.split(own.split))
        return [draw_example(self.records, clusters, self.settings.crops, np.random.default_rng((own.seed, k))) for k in range(own.crops)]

    def _averaged(self, average: Weights) -> AlphaFold3:
        return with_weights(self.network, average)


@dataclass(frozen=True, eq=False)
class Shown:
    """The chains of an archive as the task shows them."""

    chains: ChainSet
    shown: Callable[[ChainRecord], ChainRecord]

    def __getitem__(self, i: int) -> ChainRecord:
        return self.shown(self.chains[i])


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


def selected(chains: ChainSet, split: str, wanted: Selection) -> list[int]:
    """Indices of the chains to train on. Raises `ConfigError` when there is none."""
    fitting = [i for i in chains.split(split) if wanted.shortest <= chains.length(i) <= wanted.longest]
    fitting = [i for i in fitting if not wanted.full_atom or chains.rows[i]["tier"] == "full"]
    if not fitting:
        raise ConfigError(f"{chains.folder}: no {split} chain has {wanted.shortest} to {wanted.longest} residues; change task.chains")
    return fitting[:: max(1, len(fitting) // wanted.count)][: wanted.count] if wanted.count else fitting


def means(rows: Sequence[Metrics]) -> Metrics:
    """Every figure's mean over the rows, rounded for a log."""
    return {name: round(float(np.mean([row[name] for row in rows])), 5) for name in rows[0]}
