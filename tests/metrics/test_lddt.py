"""lDDT against a transcription of its definition in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from structgen.metrics.lddt import lddt, lddt_by_point, lddt_by_residue
from tests.tolerance import FLOAT64_IDENTITY


def _kept(predicted: np.ndarray, true: np.ndarray, residue: np.ndarray, known: np.ndarray, points: list[int]) -> float:
    """Share of the distances of `points` that are kept, mean over the thresholds."""
    shares = []
    for threshold in (0.5, 1.0, 2.0, 4.0):
        kept = total = 0
        for i in points:
            for j in range(len(true)):
                distance = math.dist(true[i], true[j])
                if known[i] and known[j] and residue[i] != residue[j] and distance < 15.0:
                    total += 1
                    kept += abs(math.dist(predicted[i], predicted[j]) - distance) < threshold
        shares.append(kept / total if total else math.nan)
    return sum(shares) / 4


@pytest.mark.parametrize("noise", [0.2, 1.5, 6.0])
def test_equals_the_definition(noise: float) -> None:
    """Whole, by point and by residue, with residues of several atoms, unknown atoms and an atom far from all."""
    rng = np.random.default_rng(4)
    residue = np.repeat(np.arange(13), [1, 4, 5, 3, 2, 6, 4, 4, 1, 7, 2, 5, 1])
    true = np.cumsum(rng.normal(size=(13, 3)) * 4, 0)[residue] + rng.normal(size=(len(residue), 3))
    true[-1] += 400
    predicted = true + rng.normal(size=true.shape) * noise
    known = rng.random(len(true)) < 0.8
    arguments = (predicted, true, residue, known)
    assert lddt(predicted, true, residue, mask=known) == pytest.approx(_kept(*arguments, list(range(len(true)))), abs=FLOAT64_IDENTITY)
    by_point = [_kept(*arguments, [i]) for i in range(len(true))]
    by_residue = [_kept(*arguments, np.flatnonzero(residue == r).tolist()) for r in range(13)]
    np.testing.assert_allclose(lddt_by_point(predicted, true, residue, mask=known), by_point, atol=FLOAT64_IDENTITY)
    np.testing.assert_allclose(lddt_by_residue(predicted, true, residue, mask=known), by_residue, atol=FLOAT64_IDENTITY)
    assert math.isnan(by_point[-1])


def test_needs_no_superposition_and_sees_no_handedness() -> None:
    """A moved copy and the mirror image keep every distance; a structure scaled by ten keeps almost none."""
    true = np.cumsum(np.random.default_rng(5).normal(size=(60, 3)) * 2.2, 0)
    moved = Rotation.random(random_state=6).apply(true) + 30
    assert lddt(moved, true, np.arange(60)) == 1.0
    assert lddt(-true, true, np.arange(60)) == 1.0
    assert lddt(true * 10, true, np.arange(60)) < 0.02


def test_is_undefined_without_pairs() -> None:
    """One point, or points of one residue, have no lDDT."""
    assert math.isnan(lddt(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1, int)))
    assert math.isnan(lddt(np.eye(3), np.eye(3), np.zeros(3, int)))
