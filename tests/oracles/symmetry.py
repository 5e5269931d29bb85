"""SI 4.2 by trying everything: all namings of chains, all swaps of atoms."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.oracles.losses import Points, rigid_align


def rmsd(truth: Points, predicted: Points) -> float:
    moved = rigid_align(truth, predicted, np.ones(len(truth)))
    return math.sqrt(float(np.mean([sum((a - b) ** 2) for a, b in zip(moved, predicted, strict=True)])))


def best_chains(truth: list[Points], predicted: list[Points]) -> tuple[tuple[int, ...], float]:
    """Which truth every chain gets, of all permutations of equal chains, and the RMSD after superposing the whole."""
    found = {
        order: rmsd(np.concatenate([truth[k] for k in order]), np.concatenate(predicted))
        for order in itertools.permutations(range(len(truth)))
    }
    best = min(found, key=lambda order: found[order])
    return best, found[best]


def best_atoms(truth: Points, predicted: Points, swaps: list[list[tuple[int, int]]]) -> float:
    """Least sum of squares over all choices of swaps (each a list of pairs of atoms), after the superposition of the unswapped whole."""
    moved = rigid_align(truth, predicted, np.ones(len(truth)))
    sums = []
    for chosen in itertools.product([False, True], repeat=len(swaps)):
        order = list(range(len(truth)))
        for swap, used in zip(swaps, chosen, strict=True):
            for a, b in swap if used else []:
                order[a], order[b] = order[b], order[a]
        sums.append(float(((moved[order] - predicted) ** 2).sum()))
    return min(sums)


def frame_aligned(x: Points, truth: Points, frames: list[tuple[int, int, int]], points: list[int], clamp: float) -> float:
    """Jumper et al. 2021, Algorithm 28, with the frames of SI Algorithm 29."""
    from tests.oracles.losses import in_frame

    total = 0.0
    for a, b, c in frames:
        for j in points:
            difference = in_frame(x[j], x[a], x[b], x[c]) - in_frame(truth[j], truth[a], truth[b], truth[c])
            total += min(math.sqrt(float(sum(difference**2)) + 1e-8), clamp) / clamp
    return total / len(frames) / len(points)
