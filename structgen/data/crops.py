"""Which tokens of an entry a network sees at once: contiguous, spatial and interface crops (SI 2.7; AF3_ALGORITHMS 5.8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.data.assemble import centres
from structgen.data.entry import Entry

INTERFACE = 15.0  # angstrom between centre atoms of two chains


@dataclass(frozen=True)
class CropWeights:
    """How often each way of cropping is taken, in any unit. A crop that an entry does not allow leaves its share to the others."""

    contiguous: float = 0.2
    spatial: float = 0.4
    interface: float = 0.4


def crop(entry: Entry, budget: int, around: tuple[int, ...], weights: CropWeights, rng: np.random.Generator) -> np.ndarray:
    """Ascending tokens of a crop of at most `budget`; the whole entry where it fits. `around`: the chain or the two chains it is about."""
    if entry.tokens <= budget:
        return np.arange(entry.tokens)
    positions, known = centres(entry)
    about = known & np.isin(entry.chain, around)
    facing = _facing(entry, positions, known, about) if weights.interface and len(entry.kind) > 1 else np.zeros(0, np.int64)
    shares = np.array([weights.contiguous, weights.spatial * bool(about.any()), weights.interface * bool(len(facing))])
    if not shares.sum():
        return contiguous(entry.chain, budget, rng)
    way = int(rng.choice(3, p=shares / shares.sum()))
    if way == 0:
        return contiguous(entry.chain, budget, rng)
    reference = int(rng.choice(facing if way == 2 else np.flatnonzero(about)))
    return spatial(positions, known, reference, budget)


def contiguous(chain: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch of each chain, chains in random order, until the budget is spent (AlphaFold-Multimer, Algorithm 1)."""
    names, starts, lengths = np.unique(chain, return_index=True, return_counts=True)
    taken, added, remaining = [], 0, int(lengths.sum())
    for c in rng.permutation(len(names)).tolist():
        length = int(lengths[c])
        remaining -= length
        most = min(budget - added, length)
        least = min(length, max(0, budget - added - remaining))
        size = int(rng.integers(least, most + 1))
        start = int(rng.integers(length - size + 1))
        taken.append(int(starts[c]) + start + np.arange(size))
        added += size
    return np.sort(np.concatenate(taken))


def spatial(positions: np.ndarray, known: np.ndarray, reference: int, budget: int) -> np.ndarray:
    """The resolved tokens nearest to a reference token, of equally near ones the first."""
    distance = np.where(known, np.linalg.norm(positions - positions[reference], axis=-1), np.inf)
    return np.sort(np.argsort(distance, kind="stable")[: min(budget, int(known.sum()))])


def _facing(entry: Entry, positions: np.ndarray, known: np.ndarray, about: np.ndarray) -> np.ndarray:
    """Tokens among `about` whose centre is near that of another chain."""
    candidates, others = np.flatnonzero(about), np.flatnonzero(known)
    found = []
    for part in np.array_split(candidates, 1 + len(candidates) // 512):
        apart = ((positions[part, None] - positions[others]) ** 2).sum(-1)
        near = (apart < INTERFACE**2) & (entry.chain[part, None] != entry.chain[others])
        found.append(part[near.any(1)])
    return np.concatenate(found)
