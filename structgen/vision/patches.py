"""Pictures and clips as patches, and the places of patches as vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from structgen.errors import ConfigError


def patchify(x: Tensor, patch: Sequence[int]) -> Tensor:
    """[b, c, *size] -> [b, tokens, prod(patch) c], tokens in reading order, the channel last within a token; `unpatchify` undoes it.

    As many axes as `patch` has: two of pictures, three (frame, row, column) of clips. Raises `ConfigError` for sizes that are no multiples.
    """
    grid = grid_of(x.shape[2:], patch)
    axes = len(grid)
    split = [part for pair in zip(grid, patch, strict=True) for part in pair]
    order = [0, *range(2, 2 + 2 * axes, 2), *range(3, 3 + 2 * axes, 2), 1]
    return x.reshape(*x.shape[:2], *split).permute(order).flatten(1 + axes).flatten(1, axes)


def unpatchify(tokens: Tensor, patch: Sequence[int], size: Sequence[int]) -> Tensor:
    """[b, tokens, prod(patch) c] -> [b, c, *size]."""
    grid = grid_of(size, patch)
    axes = len(grid)
    x = tokens.reshape(len(tokens), *grid, *patch, -1)
    order = [0, 1 + 2 * axes] + [axis for pair in zip(range(1, 1 + axes), range(1 + axes, 1 + 2 * axes), strict=True) for axis in pair]
    return x.permute(order).reshape(len(tokens), -1, *size)


def grid_of(size: Sequence[int], patch: Sequence[int]) -> list[int]:
    """Number of patches along each axis. Raises `ConfigError`."""
    if len(size) != len(patch) or any(length % step for length, step in zip(size, patch, strict=True)):
        raise ConfigError(f"patches of {list(patch)} do not tile a size of {list(size)}: give multiples")
    return [length // step for length, step in zip(size, patch, strict=True)]


def coordinates(grid: Sequence[int]) -> Tensor:
    """The place of every patch in reading order, [tokens, axes]."""
    axes = [torch.arange(length, dtype=torch.float32) for length in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def places(coordinates: Tensor, width: int) -> Tensor:
    """Places [..., axes] -> sines and cosines [..., width], the last axis first (as in DiT), for any size.

    Every axis gets an even share of the width; what is left over belongs to the first. Raises `ConfigError` for an odd width.
    """
    if width % 2:
        raise ConfigError(f"places need an even width; found {width}")
    count = coordinates.shape[-1]
    share = width // (2 * count) * 2
    widths = [share] * (count - 1) + [width - share * (count - 1)]
    return torch.cat([_waves(coordinates[..., -1 - i], part) for i, part in enumerate(widths)], -1)


def _waves(place: Tensor, width: int) -> Tensor:
    half = width // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=torch.float64) / half).to(place)
    phase = place[..., None] * frequencies
    return torch.cat([phase.sin(), phase.cos()], -1)
