"""Distances of sets of pictures, and motion."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from structgen.errors import ConfigError
from structgen.metrics.frechet import covered, distances, frechet_distance, kernel_distance
from structgen.metrics.motion import centroids, speeds, words


def test_frechet_distance_is_that_of_normal_laws():
    """Against scipy's matrix root; 0 between a set and itself; |shift|^2 when one is moved."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 5)), rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 1
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert abs(frechet_distance(a, a)) < 1e-9
    assert frechet_distance(a, a + np.array([3, 0, 4, 0, 0])) == pytest.approx(25)
    assert frechet_distance(a[:, :1], 2 * a[:, :1]) == pytest.approx(a[:, 0].std(ddof=1) ** 2 + a[:, 0].mean() ** 2)


def test_kernel_distance_is_unbiased():
    """The mean over pairs of sets of one law is 0 within its error; the formula by loops."""
    rng = np.random.default_rng(1)
    draws = [kernel_distance(rng.normal(size=(40, 3)), rng.normal(size=(50, 3))) for _ in range(200)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / 200**0.5
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    own = [sum(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / len(s) / (len(s) - 1) for s in (x, y)]
    assert kernel_distance(x, y) == pytest.approx(sum(own) - 2 * np.mean([[kernel(a, b) for b in y] for a in x]))


def test_precision_and_recall_tell_lost_modes_from_wrong_ones():
    """Half of the data only: precise, not complete. Far points beside the data: complete, not precise."""
    rng = np.random.default_rng(2)
    data = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 20])
    half, more = data[:300] + 0.01 * rng.normal(size=(300, 2)), np.concatenate([data + 0.01, rng.normal(size=(600, 2)) - 50])
    assert covered(half, data) > 0.95 and covered(data, half) == pytest.approx(0.5, abs=0.05)
    found = distances(more, data)
    assert found.recall > 0.95 and found.precision == pytest.approx(0.5, abs=0.05) and found.frechet > 100
    with pytest.raises(ConfigError, match="5 rows or more"):
        distances(data[:4], data)


def test_motion_is_read_from_the_centre_of_light():
    """A dot that bounces: its speed along each axis, and the words of its caption."""
    clip = np.zeros((2, 1, 9, 16, 16), np.uint8)
    for t in range(9):
        clip[0, 0, t, 3, abs(2 * t - 4)] = 200
        clip[1, 0, t, 2 + t, 5 + t] = 90
    assert centroids(clip)[1, 3].tolist() == [8, 5]
    found = speeds(clip)
    assert found.tolist() == [[2, 0], [1, 1]]
    assert words(found[0]) == ("fast", "left and right") and words(found[1]) == ("slow", "diagonally")
    assert words(np.array([0.0, 1.0])) == ("slow", "up and down") and words(np.zeros(2)) == ("slow", "nowhere")
    assert np.isnan(centroids(np.zeros((1, 1, 2, 4, 4), np.uint8))).all()
    assert np.isnan(centroids(clip // 8)).all() and speeds(clip // 8, floor=0).tolist() == [[2, 0], [1, 1]]
