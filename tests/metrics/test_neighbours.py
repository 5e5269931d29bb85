"""The neighbour list against every pair tested one by one."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.metrics.neighbours import pairs_within


@pytest.mark.parametrize("count", [0, 1, 2, 300])
@pytest.mark.parametrize("radius", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("spread", [(5, 5, 5), (40, 1, 0), (0, 0, 0)])
def test_pairs_are_those_of_the_full_distance_matrix(count: int, radius: float, spread: tuple[float, float, float]) -> None:
    """Each near pair comes once, lower index first, in order; points may lie on a line or on one another."""
    positions = np.random.default_rng(0).normal(size=(count, 3)) * spread
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    expected = [(i, j) for i in range(count) for j in range(i + 1, count) if distance[i, j] <= radius]
    assert list(zip(*(side.tolist() for side in pairs_within(positions, radius)), strict=True)) == expected
