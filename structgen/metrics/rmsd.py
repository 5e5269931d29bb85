"""Rigid superposition and the deviation that it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Superposition:
    """The proper rotation and translation x -> R x + t. Leading dimensions are allowed: `rotation` [..., 3, 3], `translation` [..., 3]."""

    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """`positions` [..., n, 3], moved."""
        return positions @ np.swapaxes(self.rotation, -1, -2) + self.translation[..., None, :]


def superpose(mobile: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> Superposition:
    """The superposition of `mobile` on `target`, both [..., n, 3], with the least weighted square deviation (Kabsch 1976, 1978).

    `weights` [..., n] are not negative and not all zero; reflections are never used.
    """
    weights = np.ones(mobile.shape[:-1]) if weights is None else np.asarray(weights, np.float64)
    share = (weights / weights.sum(-1, keepdims=True))[..., None]
    mobile_centre, target_centre = (share * mobile).sum(-2, keepdims=True), (share * target).sum(-2, keepdims=True)
    covariance = np.swapaxes((target - target_centre) * share, -1, -2) @ (mobile - mobile_centre)
    u, _, vt = np.linalg.svd(covariance)
    turn = np.ones(u.shape[:-1])
    turn[..., 2] = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    rotation = (u * turn[..., None, :]) @ vt
    return Superposition(rotation, (target_centre - mobile_centre @ np.swapaxes(rotation, -1, -2))[..., 0, :])


def deviation(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square deviation of two sets of points [n, 3] as they lie."""
    difference = np.asarray(first, np.float64) - second
    return float(np.sqrt((difference**2).sum(-1).mean()))


def rmsd(mobile: np.ndarray, target: np.ndarray) -> float:
    """Root mean square deviation of two sets of points [n, 3] after the best superposition."""
    mobile, target = np.asarray(mobile, np.float64), np.asarray(target, np.float64)
    return deviation(superpose(mobile, target)(mobile), target)
