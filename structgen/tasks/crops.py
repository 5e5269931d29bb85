"""Crops of experimental structures as what is trained on: where they come from, which are held out, and how the loss on those is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from structgen.data.dataset import Dataset
from structgen.data.examples import Loading
from structgen.data.stream import Stream, open_dataset
from structgen.errors import ConfigError
from structgen.features.chains import ChainRecord, ChainSet
from structgen.features.examples import Crops, Example, Records, draw_example
from structgen.generative import generators
from structgen.generative.ema import Weights
from structgen.tasks.task import Context, Task
from structgen.train import Loss, Metrics


@dataclass(frozen=True)
class HeldOut:
    """Crops of held-out chains on which the averaged weights' loss is measured: always the same crops and the same noise."""

    crops: int = 0
    split: Literal["val", "test", "homolog"] = "val"
    seed: int = 0


@dataclass(frozen=True)
class Selection:
    """Which training chains are used: those of a range of lengths, and of these at most `count`, evenly spread over the archive."""

    shortest: int = 1
    longest: int = 100_000
    count: int = 0  # 0: all
    full_atom: bool = False  # only chains with side chains


@dataclass(frozen=True)
class CropSettings:
    """Which crops: of a set of chains by `chains` and `crops`, or of any data, archives with templates among them, by `loading`."""

    chains: Selection = field(default_factory=Selection)
    crops: Crops = field(default_factory=Crops)
    loading: Loading | None = None
    holdout: str = ""  # table of chains of a set that are not trained on


class Drawn(ABC):
    """Examples by place: everything random of one is drawn from a seed and its place."""

    @abstractmethod
    def example(self, place: int) -> Example:
        """Of the training split."""

    @abstractmethod
    def held_out(self, own: HeldOut) -> list[Example]:
        """`own.crops` of another split."""


@dataclass(frozen=True, eq=False)
class ChainCrops(Drawn):
    """Contiguous crops of a set of chains."""

    chains: ChainSet
    records: Records  # the chains as they are shown
    settings: CropSettings
    seed: int

    @cached_property
    def clusters(self) -> list[list[int]]:
        """Of the chains that are trained on."""
        return self.chains.clusters(selected(self.chains, "train", self.settings.chains))

    def example(self, place: int) -> Example:
        return draw_example(self.records, self.clusters, self.settings.crops, np.random.default_rng((self.seed, place)))

    def held_out(self, own: HeldOut) -> list[Example]:
        clusters = self.chains.clusters(self.chains.split(own.split))
        rngs = [np.random.default_rng((own.seed, k)) for k in range(own.crops)]
        return [draw_example(self.records, clusters, self.settings.crops, rng) for rng in rngs]


@dataclass(frozen=True, eq=False)
class LoadedCrops(Drawn):
    """The batches of the loader."""

    dataset: Dataset
    loading: Loading
    seed: int

    @cached_property
    def stream(self) -> Stream:
        """Of the training split."""
        return Stream.of(self.dataset, self.loading, self.seed)

    def example(self, place: int) -> Example:
        return self.stream.example(place)

    def held_out(self, own: HeldOut) -> list[Example]:
        stream = Stream.of(self.dataset, replace(self.loading, split=own.split, batch=1), own.seed)
        return [stream.example(k) for k in range(own.crops)]


@dataclass(frozen=True, eq=False)
class Shown:
    """The chains of an archive as a task shows them."""

    chains: ChainSet
    shown: Callable[[ChainRecord], ChainRecord]

    def __getitem__(self, i: int) -> ChainRecord:
        return self.shown(self.chains[i])


def open_crops(settings: CropSettings, context: Context, shown: Callable[[ChainRecord], ChainRecord] | None = None) -> Drawn:
    """The crops of the context's data. `shown` changes every chain of a set. Raises `ConfigError` where no chain is left."""
    holdout = Path(settings.holdout) if settings.holdout else None
    if settings.loading:
        return LoadedCrops(open_dataset(context.data, holdout), settings.loading, context.seed)
    chains = ChainSet(context.data, holdout)
    selected(chains, "train", settings.chains)
    return ChainCrops(chains, Shown(chains, shown) if shown else chains, settings, context.seed)


class CropTask(Task[Example]):
    """What is trained on crops with a truth, and judged by its loss on held-out ones."""

    drawn: Drawn
    judged_on: HeldOut

    @abstractmethod
    def judge(self, average: Weights) -> Loss[Example]:
        """The loss under the averaged weights, without dropout."""

    def example(self, place: int) -> Example:
        return self.drawn.example(place)

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """The loss and its parts on the held-out crops."""
        if not self._held_out:
            return {}
        loss, rows = self.judge(average), []
        for k, example in enumerate(self._held_out):
            value, parts = loss(example, generators(self.judged_on.seed, 1, first=k)[0])
            rows.append({"loss": value.item(), **parts})
        return means(rows)

    def names(self, example: Example) -> Sequence[str]:
        return example.names

    def tensors(self, example: Example) -> dict[str, Tensor]:
        truth = {"positions": example.positions, "resolved": example.resolved}
        return truth | {f"batch.{name}": tensor for name, tensor in example.batch.tensors().items()}

    @cached_property
    def _held_out(self) -> list[Example]:
        return self.drawn.held_out(self.judged_on) if self.judged_on.crops else []


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
