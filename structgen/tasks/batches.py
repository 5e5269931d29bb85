"""Batches of pictures by their place in the data order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.pictures.sets import PictureSet, to_float
from structgen.tasks.warping import Warping


@dataclass(frozen=True)
class Batching:
    """How examples are cut: `crop` pixels a side and `frames` of a clip at random places; 0: all of them."""

    size: int = 64
    crop: int = 0
    frames: int = 0
    mirror: bool = False  # half of the pictures left to right: not for letters, digits and directions
    reverse: bool = False  # half of the clips backwards: where a motion may as well go the other way
    warp: Warping = field(default_factory=Warping)  # of pixels; latents know nothing of it


@dataclass(frozen=True)
class Batch:
    """Pixels [b, c, (t,) h, w] in [-1, 1] and the places of the pictures in their set."""

    x: Tensor
    index: Tensor


def indices(count: int, size: int, place: int, seed: int) -> np.ndarray:
    """Rows of batch `place` of an endless order in which every epoch is a permutation of its own."""
    at = np.arange(place * size, (place + 1) * size)
    epochs = {int(epoch): np.random.default_rng((seed, int(epoch))).permutation(count) for epoch in np.unique(at // count)}
    return np.array([epochs[int(k // count)][k % count] for k in at])


def draw_batch(pictures: PictureSet, batching: Batching, place: int, seed: int) -> Batch:
    """A batch that (seed, place) fixes. Raises `ConfigError` for a crop or a length that the set does not have."""
    pixels, rows = draw_rows(pictures.pixels, batching, place, seed)
    return Batch(batching.warp(to_float(pixels), np.random.default_rng((seed, place, 2))), torch.from_numpy(rows))


def draw_rows(values: np.ndarray, batching: Batching, place: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What `draw_batch` takes of values [n, c, (t,) h, w], and which rows they are."""
    rows = indices(len(values), batching.size, place, seed)
    rng = np.random.default_rng((seed, place, 1))
    values = _cut(values[rows], batching, rng)
    if batching.mirror:
        values = _half(values, values[..., ::-1], rng)
    if batching.reverse:
        values = _half(values, values[:, :, ::-1], rng)
    return values, rows


def _half(pixels: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each of them as it is or as the other, at even odds."""
    return np.where((rng.random(len(pixels)) < 0.5).reshape(-1, *[1] * (pixels.ndim - 1)), other, pixels)


def first_cut(pictures: PictureSet, batching: Batching, count: int) -> Tensor:
    """The first pictures [count, ...] in [-1, 1], cut at the same places every time: for validation and for the scale of latents."""
    rng = np.random.default_rng(0)
    spread = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int)
    return to_float(_cut(pictures.pixels[spread], batching, rng))


def _cut(pixels: np.ndarray, batching: Batching, rng: np.random.Generator) -> np.ndarray:
    lengths = {-1: batching.crop, -2: batching.crop} | ({-3: batching.frames} if pixels.ndim == 5 else {})
    for axis, length in lengths.items():
        if length > pixels.shape[axis]:
            raise ConfigError(f"task.batches: a cut of {length} from {pixels.shape[axis]} pixels or frames; give at most as many")
        start = int(rng.integers(pixels.shape[axis] - length + 1)) if length else 0
        pixels = np.take(pixels, range(start, start + length), axis) if length else pixels
    return pixels
