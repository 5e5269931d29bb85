"""What trainings of one network on pictures share: the two parts of the set, its batches, and the model file."""

from __future__ import annotations

import copy
from abc import ABC
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from structgen.errors import ConfigError
from structgen.generative.ema import Weights
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet
from structgen.tasks.batches import Batch, Batching, draw_batch
from structgen.tasks.task import Context, Task
from structgen.vision.files import config_json, save

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Parts:
    """The pictures that are trained on and those that are held out."""

    train: PictureSet
    held_out: PictureSet

    @classmethod
    def of(cls, pictures: PictureSet) -> Parts:
        return cls(pictures.part(False), pictures.part(True))

    def channels(self, batching: Batching) -> int:
        """Of an example; the frames of a clip count as channels."""
        _, channels, *size = self.train.pixels.shape
        return int(channels) * ((batching.frames or int(size[0])) if self.train.is_video else 1)


def read_classed(data: Path, side: int) -> Parts:
    """A set with classes. Raises `ConfigError` for one without."""
    pictures = read_set(data, side)
    if not pictures.classes:
        raise ConfigError(f"{data}: these pictures have no classes; give a set with labels, or folders as classes")
    return Parts.of(pictures)


def read_captioned(data: Path, side: int) -> Parts:
    """A set with captions. Raises `ConfigError` for one without."""
    pictures = read_set(data, side)
    if not pictures.captions:
        raise ConfigError(f"{data}: these pictures have no captions; put NAME.txt beside every NAME.png, or give another set")
    return Parts.of(pictures)


class PictureTask(Task[Batch], ABC, Generic[N]):
    """A network that is trained as a whole on batches of pictures, and written as it is."""

    network: N

    def __init__(self, network: N, parts: Parts, batching: Batching, context: Context) -> None:
        self.network, self.context, self.batching = network.to(context.device), context, batching
        self.train, self.held_out = parts.train, parts.held_out

    def example(self, place: int) -> Batch:
        return draw_batch(self.train, self.batching, place, self.context.seed)

    def config(self) -> str:
        return config_json(self.network)

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save(self.network, path, card=card, weights=average)

    def averaged(self, average: Weights) -> N:
        """The network with the averaged weights, for measuring."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(average)
        return network.eval()
