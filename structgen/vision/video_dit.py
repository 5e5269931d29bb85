"""Clips and pictures of any length and shape in one batch of spacetime patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from structgen.errors import ConfigError
from structgen.generative import Endpoints, Loss, Noised
from structgen.vision.condition import Condition
from structgen.vision.dit import DiTConfig, TokenTransformer
from structgen.vision.patches import coordinates, grid_of, patchify, unpatchify


@dataclass(frozen=True)
class Packed:
    """Where every patch of a batch lies, and the condition of its examples: what `VideoDiT` is conditioned on.

    `sizes` are (frames, rows, columns) of each example; `where` [b, n, 3] the places of its patches, `seen` [b, n] which are there: the
    shorter ones are padded.
    """

    cond: Condition
    where: Tensor
    seen: Tensor
    sizes: tuple[tuple[int, ...], ...]


def pack(clips: Sequence[Tensor], patch: Sequence[int], cond: Condition) -> tuple[Tensor, Packed]:
    """Clips [c, t, h, w] of any sizes that patches tile, as patches [b, n, prod(patch) c] with zeros after the shorter ones."""
    if not clips:
        raise ConfigError("a batch needs at least one clip")
    tokens = [patchify(clip[None], patch)[0] for clip in clips]
    where = [coordinates(grid_of(clip.shape[1:], patch)).to(clip.device) for clip in clips]
    lengths = torch.tensor([len(one) for one in tokens], device=clips[0].device)
    seen = torch.arange(int(lengths.max()), device=lengths.device)[None] < lengths[:, None]
    padded = [nn.utils.rnn.pad_sequence(parts, batch_first=True) for parts in (tokens, where)]
    return padded[0], Packed(cond, padded[1], seen, tuple(tuple(clip.shape[1:]) for clip in clips))


def unpack(tokens: Tensor, packed: Packed, patch: Sequence[int]) -> list[Tensor]:
    """The clips [c, t, h, w] of patches [b, n, prod(patch) c]; undoes `pack`."""
    counts = packed.seen.sum(1).tolist()
    return [unpatchify(one[None, :count], patch, size)[0] for one, count, size in zip(tokens, counts, packed.sizes, strict=True)]


class VideoDiT(nn.Module):
    """A transformer of spacetime patches of latents (Brooks et al. 2024; Dehghani et al. 2023 for the packing): a `Network` of `Packed`.

    [b, n, prod(patch) channels] -> the same. Each example is what it would be alone: padding is never attended to.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        volume = int(torch.tensor(config.patch).prod())
        self.transformer = TokenTransformer(config, config.channels * volume, config.channels * volume)

    def forward(self, x: Tensor, times: Tensor, cond: Packed) -> Tensor:
        return self.transformer(x, cond.where, times, cond.cond, cond.seen)


def packed_velocity_error(guess: Endpoints, example: Noised, cond: Packed) -> Loss:
    """`velocity_error` over the patches that are there: the mean of an example does not depend on what it is packed with."""
    difference = example.path.velocity(guess, example.t) - example.path.velocity(example.truth, example.t)
    error = difference.square().mean(2)
    mean = (error * cond.seen).sum(1) / cond.seen.sum(1)
    return Loss(example.weight * mean, {"velocity": mean})
