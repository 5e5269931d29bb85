"""Distances between two sets of pictures in the space of a classifier's features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.errors import ConfigError

NEIGHBOURS = 3  # of the manifolds of precision and recall
DEGREE = 3  # of the polynomial kernel


@dataclass(frozen=True)
class Distances:
    """All figures of made pictures against real ones; lower distances are better, and precision and recall are shares."""

    frechet: float
    kernel: float
    precision: float
    recall: float


def distances(made: np.ndarray, real: np.ndarray) -> Distances:
    """Of features [n, c] and [m, c]. Raises `ConfigError` for fewer than `NEIGHBOURS` + 2 rows or different widths."""
    if min(len(made), len(real)) < NEIGHBOURS + 2 or made.shape[1:] != real.shape[1:]:
        raise ConfigError(f"features of shape {made.shape} and {real.shape}; expected {NEIGHBOURS + 2} rows or more, of one width")
    made, real = made.astype(np.float64), real.astype(np.float64)
    precision = covered(made, real)
    return Distances(frechet_distance(made, real), kernel_distance(made, real), precision, covered(real, made))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of the two covariances (Heusel et al. 2017, eq. 6).

    Biased upwards where there are few pictures: compare at equal numbers only.
    """
    means = first.mean(0) - second.mean(0)
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(a))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ np.atleast_2d(b) @ root).clip(0)
    return float(means @ means + np.trace(np.atleast_2d(a)) + np.trace(np.atleast_2d(b)) - 2 * np.sqrt(cross).sum())


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased square of the maximum mean discrepancy under (x . y / c + 1)^3 (Binkowski et al. 2018, section 3.1); may be below 0."""
    within = [(_kernel(x, x).sum() - np.trace(_kernel(x, x))) / (len(x) * (len(x) - 1)) for x in (first, second)]
    return float(sum(within) - 2 * _kernel(first, second).mean())


def covered(points: np.ndarray, manifold: np.ndarray) -> float:
    """Share of points that lie nearer to some point of the manifold than its third neighbour there (Kynkaanniemi et al. 2019, eq. 1)."""
    radius = np.sort(_squares(manifold, manifold), 1)[:, NEIGHBOURS]  # the first is the point itself
    return float((_squares(points, manifold) <= radius[None]).any(1).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** DEGREE


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T).clip(0)
