"""lDDT: how well the distances of a structure to its surroundings are kept, without superposition (Mariani et al. 2013)."""

from __future__ import annotations

import numpy as np

from structgen.metrics.neighbours import pairs_within

THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
INCLUSION_RADIUS = 15.0


def lddt(predicted: np.ndarray, true: np.ndarray, residue: np.ndarray, *, mask: np.ndarray | None = None) -> float:
    """Share, 0 to 1, of the true structure's distances under 15 angstrom that the prediction keeps, averaged over the thresholds.

    `predicted`, `true` [n, 3]; `residue` [n]: distances inside one residue do not count (for CA atoms: `np.arange(n)`);
    `mask` [n] bool: points known in the true structure. All pairs count alike. NaN where no pair counts.
    Atoms are compared by name: symmetric names (CD1 and CD2 of PHE) are not exchanged.
    """
    kept, pairs = _kept_and_counted(predicted, true, residue, mask)
    return float(kept.sum() / pairs.sum()) if pairs.sum() else float("nan")


def lddt_by_point(predicted: np.ndarray, true: np.ndarray, residue: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
    """[n]: the lDDT of each point's own distances, as `lddt`; NaN where the point has none."""
    kept, pairs = _kept_and_counted(predicted, true, residue, mask)
    return np.divide(kept, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def lddt_by_residue(predicted: np.ndarray, true: np.ndarray, residue: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
    """[max(residue) + 1]: the lDDT of the distances of each residue's points, as `lddt`; NaN where there are none."""
    kept, pairs = (np.bincount(residue, weights=each) for each in _kept_and_counted(predicted, true, residue, mask))
    return np.divide(kept, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _kept_and_counted(
    predicted: np.ndarray, true: np.ndarray, residue: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """[n] of each: how many distances of a point are kept (mean over thresholds), and how many it has."""
    known = np.arange(len(true)) if mask is None else np.flatnonzero(mask)
    i, j = (known[side] for side in pairs_within(np.asarray(true, np.float64)[known], INCLUSION_RADIUS))
    distance = _distance(true, i, j)
    counts = (residue[i] != residue[j]) & (distance < INCLUSION_RADIUS)
    i, j, distance = i[counts], j[counts], distance[counts]
    error = np.abs(_distance(predicted, i, j) - distance)
    kept = np.mean([error < threshold for threshold in THRESHOLDS], axis=0)
    both, size = np.concatenate((i, j)), len(true)
    return np.bincount(both, np.concatenate((kept, kept)), size), np.bincount(both, minlength=size).astype(np.float64)


def _distance(positions: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.asarray(positions, np.float64)[i] - np.asarray(positions, np.float64)[j], axis=-1)
