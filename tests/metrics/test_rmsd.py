"""Superposition against scipy and Biopython, and on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from Bio.SVDSuperimposer import SVDSuperimposer
from scipy.spatial.transform import Rotation

from structgen.metrics.rmsd import rmsd, superpose
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE


@pytest.mark.parametrize("n", [3, 4, 57])
@pytest.mark.parametrize("mirrored", [False, True])
def test_equals_biopython_and_scipy(n: int, mirrored: bool) -> None:
    """Rotation, translation and deviation are those of two other programs, also where the best fit would be a reflection."""
    rng = np.random.default_rng(n)
    mobile = rng.normal(size=(n, 3)) * 5
    target = mobile * (1, 1, -1) + 7 if mirrored else rng.normal(size=(n, 3)) * 5
    fit = SVDSuperimposer()
    fit.set(target, mobile)
    fit.run()
    ours = superpose(mobile, target)
    assert np.linalg.det(ours.rotation) == pytest.approx(1)
    assert rmsd(mobile, target) == pytest.approx(fit.get_rms(), rel=FLOAT64_ORACLE)
    assert np.abs(ours(mobile) - fit.get_transformed()).max() < FLOAT64_ORACLE * 100
    weights = rng.random(n)
    centres = [(weights[:, None] * each).sum(0) / weights.sum() for each in (mobile, target)]
    rotation, _ = Rotation.align_vectors(target - centres[1], mobile - centres[0], weights)
    assert np.abs(superpose(mobile, target, weights).rotation - rotation.as_matrix()).max() < 1e-6


def test_a_rigid_motion_is_found_exactly() -> None:
    """A moved copy superposes to nothing left, for a batch of copies at once."""
    rng = np.random.default_rng(1)
    target = rng.normal(size=(20, 3))
    turns = Rotation.random(6, random_state=2).as_matrix()
    mobile = target @ turns + rng.normal(size=(6, 1, 3))
    assert np.abs(superpose(mobile, target[None])(mobile) - target).max() < FLOAT64_IDENTITY * 100


def test_points_of_weight_zero_do_not_matter() -> None:
    """Spoilt points with weight 0 leave the superposition of the others unchanged."""
    rng = np.random.default_rng(3)
    mobile, target = rng.normal(size=(2, 12, 3))
    spoilt = mobile.copy()
    spoilt[9:] += 100
    weights = np.arange(12) < 9
    fit, expected = superpose(spoilt, target, weights), superpose(mobile[:9], target[:9])
    assert np.abs(fit.rotation - expected.rotation).max() < FLOAT64_ORACLE
    assert np.abs(fit.translation - expected.translation).max() < FLOAT64_ORACLE
