"""TM-score and GDT of two structures whose residues are known to correspond, searched over superpositions.

Zhang & Skolnick 2004 (TM-score); Zemla 2003 (GDT). Both are maxima over rigid superpositions: fragments of many lengths and places
are superposed, and each superposition is refined on the residues that it brings together, until these stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from structgen.metrics.rmsd import superpose

ROUNDS = 20
SMALLEST_FRAGMENT = 4
PLACES = 48  # of a fragment of one length along the chain: more places gain less than 0.001 (see the tests)
GDT_TS = (1.0, 2.0, 4.0, 8.0)
GDT_HA = (0.5, 1.0, 2.0, 4.0)

Score = Callable[[np.ndarray], np.ndarray]  # distances [..., n] to scores [...]


def tm_score(predicted: np.ndarray, true: np.ndarray, length: int | None = None) -> float:
    """TM-score, 0 to 1, of CA positions [n, 3], row i of one belonging to row i of the other.

    `length` normalises the score and sets d0 (n where not given): the length of the whole true chain where residues are missing.
    """
    length = length or len(true)
    d0 = tm_scale(length)
    search = float(np.clip(d0, 4.5, 8.0))  # the radii at which TM-score's own search refines
    return _best(predicted, true, (search - 1, search + 1), lambda distance: (1 / (1 + (distance / d0) ** 2)).sum(-1)) / length


def tm_scale(length: int) -> float:
    """d0 in angstrom: 1.24 (n - 15)^(1/3) - 1.8, at least 0.5."""
    return max(0.5, 1.24 * max(length - 15, 0) ** (1 / 3) - 1.8)


def gdt(predicted: np.ndarray, true: np.ndarray, cutoffs: tuple[float, ...] = GDT_TS, length: int | None = None) -> float:
    """Mean over the cutoffs, in angstrom, of the largest share (0 to 1) of CA atoms that one superposition brings within the cutoff.

    `GDT_TS` and `GDT_HA` are the two usual sets. Arrays and `length` as for `tm_score`.
    """
    found = [_best(predicted, true, (cutoff,), partial(_count_within, cutoff)) for cutoff in cutoffs]
    return float(np.mean(found)) / (length or len(true))


def _count_within(cutoff: float, distance: np.ndarray) -> np.ndarray:
    return (distance <= cutoff).sum(-1)


def _best(predicted: np.ndarray, true: np.ndarray, radii: tuple[float, ...], score: Score) -> float:
    """The largest score met by refining, at each radius, from every fragment."""
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    starts = _fragments(len(true))
    return max(_refine(predicted, true, starts, radius, score) for radius in radii)


def _fragments(n: int) -> np.ndarray:
    """[starts, n] bool: fragments of n, n/2, n/4, ... residues, at evenly spaced places."""
    lengths = sorted({max(n >> halvings, min(SMALLEST_FRAGMENT, n)) for halvings in range(n.bit_length())}, reverse=True)
    rows = []
    for length in lengths:
        places = np.unique(np.linspace(0, n - length, min(PLACES, n - length + 1)).round().astype(np.int64))
        rows.append((np.arange(n) >= places[:, None]) & (np.arange(n) < places[:, None] + length))
    return np.concatenate(rows)


def _refine(predicted: np.ndarray, true: np.ndarray, chosen: np.ndarray, radius: float, score: Score) -> float:
    """The largest score on the way from the chosen residues [starts, n] to sets that superposing leaves unchanged."""
    best = 0.0
    for _ in range(ROUNDS):
        moved = superpose(predicted[None], true[None], chosen)(predicted[None])
        distance = np.linalg.norm(moved - true, axis=-1)
        best = max(best, float(score(distance).max()))
        following = _within(distance, radius)
        chosen = np.unique(following[(following != chosen).any(-1)], axis=0)
        if not len(chosen):
            break
    return best


def _within(distance: np.ndarray, radius: float) -> np.ndarray:
    """[starts, n] bool: residues within the radius, widened where that leaves fewer than three."""
    third = np.sort(distance, axis=-1)[:, min(2, distance.shape[-1] - 1)]
    return distance <= np.maximum(radius, third)[:, None]
