"""A trace with holes, closed by another one of the same chain: a hole is filled with the other's piece, laid on the residues around it."""

from __future__ import annotations

import numpy as np

from structgen.metrics.rmsd import superpose

ANCHORS = 6  # residues on either side of a hole that its filling is laid on
FEWEST = 3


def close_gaps(trace: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n, 3] `trace` (NaN where it says nothing) with its holes filled from `other` [n, 3], which is whole. Nothing known moves.

    A hole's piece of `other` is superposed, without its mirror image, on up to six known residues on either side of the hole, the nearest
    ones. Where fewer than three are known in all, the whole of `other` is returned.
    """
    known = np.isfinite(trace).all(-1)
    if known.sum() < FEWEST:
        return np.asarray(other, np.float64).copy()
    filled, places = trace.astype(np.float64).copy(), np.flatnonzero(known)
    for start, stop in _holes(known):
        before, after = places[places < start][-ANCHORS:], places[places >= stop][:ANCHORS]
        anchors = np.concatenate([before, after])
        anchors = anchors if len(anchors) >= FEWEST else places[np.argsort(np.abs(places - start), kind="stable")[:FEWEST]]
        move = superpose(other[anchors].astype(np.float64), trace[anchors].astype(np.float64))
        filled[start:stop] = move(other[start:stop].astype(np.float64))
    return filled


def _holes(known: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of every stretch that is not known."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], known, [True]]).astype(int)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
