"""A set of pictures or clips in memory, with what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from structgen.errors import InputError

NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class PictureSet:
    """n pictures [c, h, w] or clips [c, t, h, w] of one size, uint8, of which some are held out from training."""

    pixels: np.ndarray  # [n, c, (t,) h, w]
    held_out: np.ndarray  # [n] bool
    labels: np.ndarray  # [n], `NO_LABEL` where there is none
    classes: tuple[str, ...] = ()  # names of the labels
    captions: tuple[str, ...] = ()  # one each, or none at all
    velocity: np.ndarray | None = None  # [n, 2], columns and rows a frame at the start
    where: str = ""  # the file or folder
    embeddings: np.ndarray | None = None  # [n, c], of a CLIP

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def is_video(self) -> bool:
        return self.pixels.ndim == 5

    def take(self, index: np.ndarray) -> PictureSet:
        """The pictures at `index`, in its order."""
        captions = tuple(self.captions[i] for i in index) if self.captions else ()
        velocity, embeddings = (None if given is None else given[index] for given in (self.velocity, self.embeddings))
        return replace(
            self, pixels=self.pixels[index], held_out=self.held_out[index], labels=self.labels[index], captions=captions,
            velocity=velocity, embeddings=embeddings,
        )  # fmt: skip

    def part(self, held_out: bool) -> PictureSet:
        """What is held out, or the rest. Raises `InputError` if there is none."""
        index = np.flatnonzero(self.held_out == held_out)
        if not len(index):
            what = "held out" if held_out else "to train on"
            raise InputError(f"no picture is {what}", where=self.where, found=f"{len(self)} pictures", remedy="give more pictures")
        return self.take(index)

    def tensor(self) -> Tensor:
        """All pixels, in [-1, 1]."""
        return to_float(self.pixels)


def to_float(pixels: np.ndarray) -> Tensor:
    """uint8 to float32 in [-1, 1]: 0 is -1, 255 is 1."""
    return torch.tensor(np.ascontiguousarray(pixels)).float() / 127.5 - 1


def to_bytes(x: Tensor) -> np.ndarray:
    """[-1, 1] to uint8, rounded; what lies outside is clipped."""
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def last_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """True for the last `count` of each label in their order."""
    from_end = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        from_end[rows] = np.arange(len(rows))[::-1]
    return from_end < count
