"""Non-negative coefficients of a sum of terms, by least squares of the relative error."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from structgen.cost.counts import Terms

Coefficients = dict[str, float]


def value(coefficients: Coefficients, terms: Terms) -> float:
    """The sum of the terms, each times its coefficient."""
    return sum(coefficients.get(name, 0.0) * amount for name, amount in terms.items())


def fit(terms: Sequence[Terms], measured: Sequence[float]) -> Coefficients:
    """The coefficients that are not negative and make the sum of squares of (predicted / measured - 1) least.

    The least sum lies where some terms count and the others are zero, and there it is that of plain least squares on those that count:
    so all choices of the few terms are tried, which finds it exactly. Of equally good choices that of the fewest terms is taken.
    """
    names = list(terms[0])
    rows = np.array([[row[name] for name in names] for row in terms]) / np.asarray(measured)[:, None]
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    best, found = np.inf, np.zeros(len(names))
    for size in range(1, len(names) + 1):
        for chosen in combinations(range(len(names)), size):
            candidate, error = _solved((rows / scale)[:, chosen])
            if (candidate >= 0).all() and error < best * (1 - 1e-9):
                best, found = error, np.zeros(len(names))
                found[list(chosen)] = candidate
    return {name: float(x) for name, x in zip(names, found / scale, strict=True)}


def _solved(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients with which the rows come as near to 1 as they can, and the sum of squares that is left."""
    solution = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]
    return solution, float(((rows @ solution - 1) ** 2).sum())
