"""Pairs of points within a distance, by sorting the points into cubes: time and memory grow with the number of points."""

from __future__ import annotations

from itertools import product

import numpy as np


def pairs_within(positions: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Every pair (i, j), i < j, of `positions` [n, 3] at most `radius` apart; two int64 arrays [pairs], sorted by i, then j.

    Memory peaks at about ten times the pairs found.
    """
    found = [_near(positions, i, j, radius) for i, j in _candidates(positions, radius)]
    i, j = (np.concatenate(side) for side in zip(*found, strict=True)) if found else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    low, high = np.minimum(i, j), np.maximum(i, j)
    order = np.lexsort((high, low))
    return low[order], high[order]


def _near(positions: np.ndarray, i: np.ndarray, j: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    difference = positions[i] - positions[j]
    near = np.einsum("pk,pk->p", difference, difference) <= radius**2
    return i[near], j[near]


def _candidates(positions: np.ndarray, radius: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs in the same cube or in one of half the neighbouring cubes: no pair twice."""
    if not len(positions):
        return []
    cell = np.floor((positions - positions.min(0)) / radius).astype(np.int64) + 1  # the border of empty cubes keeps offsets inside
    shape = cell.max(0) + 2
    key = np.ravel_multi_index(tuple(cell.T), tuple(shape))
    order = np.argsort(key, kind="stable")
    key = key[order]
    inside = _ranges(np.arange(1, len(key) + 1), np.searchsorted(key, key, side="right"))
    candidates = [(order[inside[0]], order[inside[1]])]
    for offset in _half_of_the_neighbours(shape):
        first, second = _ranges(np.searchsorted(key, key + offset, side="left"), np.searchsorted(key, key + offset, side="right"))
        candidates.append((order[first], order[second]))
    return candidates


def _half_of_the_neighbours(shape: np.ndarray) -> list[int]:
    """Offsets of the 13 neighbouring cubes that come later in the order of the keys."""
    offsets = [(x * int(shape[1]) + y) * int(shape[2]) + z for x, y, z in product((-1, 0, 1), repeat=3)]
    return [offset for offset in offsets if offset > 0]


def _ranges(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (row, index) with start[row] <= index < stop[row]."""
    count = stop - start
    row = np.repeat(np.arange(len(start)), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(start, count)
