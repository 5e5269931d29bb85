"""Which crops make a step: everything is a function of (seed, step, place in the batch), so a run goes on where it was cut, on any number
of machines. All crops of a step are of one length bucket: little of a batch is padding, and a network meets few shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from structgen.data.dataset import Dataset, Unit
from structgen.errors import InputError


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws units by weight: a bucket first, by the weight of all that is in it, then a unit of the bucket."""

    buckets: tuple[int, ...]  # tokens that crops are padded to, ascending
    units: tuple[tuple[Unit, ...], ...]  # of every bucket
    cumulative: tuple[np.ndarray, ...]  # of their weights
    seed: int

    @classmethod
    def of(cls, dataset: Dataset, split: str, buckets: Sequence[int], seed: int) -> Sampler:
        """Over a split. Raises `InputError` for a split without anything to draw."""
        units = dataset.units(split)
        if not units:
            raise InputError("split holds nothing to draw", found=split, remedy="see `structgen data info` for the splits")
        return cls.over(units, dataset, buckets, seed)

    @classmethod
    def over(cls, units: Sequence[Unit], dataset: Dataset, buckets: Sequence[int], seed: int) -> Sampler:
        """Over some units. An entry is in the first bucket that holds its crop."""
        sizes = sorted(set(buckets))
        tokens = np.array([dataset.tokens(unit.entry) for unit in units])
        place = np.searchsorted(sizes[:-1], tokens)
        groups = [tuple(units[i] for i in np.flatnonzero(place == b).tolist()) for b in range(len(sizes))]
        used = [b for b, group in enumerate(groups) if group]
        sums = tuple(np.cumsum([unit.weight for unit in groups[b]]) for b in used)
        return cls(tuple(sizes[b] for b in used), tuple(groups[b] for b in used), sums, seed)

    def bucket(self, step: int) -> int:
        """Number of the bucket of a step."""
        mass = np.cumsum([sums[-1] for sums in self.cumulative])
        return _at(mass, np.random.default_rng((self.seed, step)))

    def draw(self, step: int, place: int) -> tuple[Unit, np.random.Generator]:
        """What is at a place of a step's batch, and the generator of everything that is random about it."""
        bucket, rng = self.bucket(step), np.random.default_rng((self.seed, step, 1 + place))
        return self.units[bucket][_at(self.cumulative[bucket], rng)], rng


def _at(cumulative: np.ndarray, rng: np.random.Generator) -> int:
    """An index drawn by weight."""
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")), len(cumulative) - 1)
