"""The seam between the training loop and what is trained: a loop knows a `Task`, a task knows neither loop nor cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from structgen.generative.ema import Weights
from structgen.precision import Precision
from structgen.train import Metrics

Example = TypeVar("Example")


@dataclass(frozen=True)
class Context:
    """What a task is built with, beside its own settings."""

    seed: int
    data: Path  # folder (or file) of the training data
    out: Path  # folder of the run: for what the task makes on its way
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    precision: Precision = "float32"  # of the networks' own arithmetic; weights, losses and optimiser stay in float32
    init: str = ""  # model file (or name) whose weights are the start; "" starts from random ones


class Task(ABC, Generic[Example]):
    """Something to train.

    `network` lies on the context's device; those of its parameters that require a gradient are trained. Everything random of an example
    is fixed by the seed and the example's place in the data order, so a run that was cut goes on exactly, on any number of workers.
    """

    network: nn.Module

    @abstractmethod
    def example(self, place: int) -> Example:
        """The example at place 0, 1, ... of the data order, on the CPU. May run in a loader's process, where nothing is trained."""

    @abstractmethod
    def loss(self, example: Example, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        """The scalar to minimise, on the device, and its named parts. Dropout may use torch's own generator, which the loop seeds."""

    @abstractmethod
    def config(self) -> str:
        """The network's configuration as JSON: a checkpoint needs no other file."""

    @abstractmethod
    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        """Write the averaged weights as a model file, whole or not at all."""

    def validate(self, average: Weights) -> Metrics:
        """Figures of the averaged weights on held-out data, the same data every time. Empty where nothing is held out."""
        return {}

    def names(self, example: Example) -> Sequence[str]:
        """What the example was made of, for the report of a batch that gave NaN."""
        return ()

    def tensors(self, example: Example) -> dict[str, Tensor]:
        """The example as named tensors, for the same report."""
        return {}


class TaskSettings(Protocol):
    """The `task:` part of a configuration: a frozen dataclass that `configuration.from_mapping` reads."""

    def build(self, context: Context) -> Task: ...
