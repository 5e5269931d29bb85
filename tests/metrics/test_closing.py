"""Holes of a trace are closed by another one: exactly, where the other is the same structure in another place."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.metrics.closing import close_gaps


def walk(n: int) -> np.ndarray:
    """A chain with steps of 3.8 angstrom."""
    steps = np.random.default_rng(0).normal(size=(n, 3))
    return np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


@pytest.mark.parametrize("holes", [[(10, 15)], [(0, 7), (33, 40)], [(2, 3), (5, 20), (22, 38)]])
def test_the_same_structure_elsewhere_closes_every_hole(holes: list[tuple[int, int]]) -> None:
    """Turned and moved, its pieces come back to where they were cut out; a mirror image does not."""
    true = walk(40)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    trace = true.copy()
    for start, stop in holes:
        trace[start:stop] = np.nan
    assert np.allclose(close_gaps(trace, true @ turn.T + 30), true)
    closed = close_gaps(trace, true * [1, 1, -1])
    known = np.isfinite(trace).all(1)
    assert np.array_equal(closed[known], true[known]) and np.abs(closed[~known] - true[~known]).max() > 0.5


def test_a_trace_of_nearly_nothing_is_the_other_one() -> None:
    """Two points say nothing of where a structure lies."""
    true, trace = walk(9), np.full((9, 3), np.nan)
    trace[:2] = true[:2]
    assert np.array_equal(close_gaps(trace, true + 5), true + 5)
