"""TM-score and GDT on cases with a known answer, and against a general optimiser over rotations and translations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from structgen.metrics import tm
from structgen.metrics.rmsd import superpose
from structgen.metrics.tm import GDT_HA, GDT_TS, gdt, tm_scale, tm_score


def _walk(n: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(n, 3)) * 2.2, 0)


def _score(predicted: np.ndarray, true: np.ndarray) -> float:
    """TM-score as the structures lie, written out."""
    d0 = 1.24 * np.cbrt(len(true) - 15) - 1.8
    return float(np.mean([1 / (1 + np.sum((p - t) ** 2) / d0**2) for p, t in zip(predicted, true, strict=True)]))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 60])
def test_a_moved_copy_scores_one(n: int) -> None:
    """Rigid motion costs nothing, also for the shortest chains."""
    true = _walk(n, n)
    moved = Rotation.random(random_state=1).apply(true) - 50
    assert tm_score(moved, true) == pytest.approx(1)
    assert gdt(moved, true, GDT_TS) == gdt(moved, true, GDT_HA) == 1


@pytest.mark.parametrize(("length", "d0"), [(10, 0.5), (21, 0.5), (50, 2.256), (100, 3.653), (384, 7.095), (1000, 10.538)])
def test_scale_of_the_distances(length: int, d0: float) -> None:
    """The values of the published formula, at least 0.5 angstrom."""
    assert tm_scale(length) == pytest.approx(d0, abs=1e-3)


def test_one_rigid_part_of_two_is_found() -> None:
    """Two parts torn far apart: the larger part scores its share, which the plain superposition misses by far."""
    true = _walk(120, 2)
    predicted = true.copy()
    predicted[70:] = Rotation.random(random_state=3).apply(true[70:]) + 1000
    assert tm_score(predicted, true) == pytest.approx(70 / 120, abs=1e-3)
    assert gdt(predicted, true) == pytest.approx(70 / 120)
    assert _score(superpose(predicted, true)(predicted), true) < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_no_optimiser_finds_more(seed: int) -> None:
    """Simplex searches from 40 superpositions of fragments end no higher, and ours lies within 0.002 of their best."""
    rng = np.random.default_rng(seed)
    true = _walk(50, seed)
    predicted = true + np.cumsum(rng.normal(size=true.shape) * 0.8, 0)

    def loss(move: np.ndarray) -> float:
        return -_score(Rotation.from_rotvec(move[:3]).apply(predicted) + move[3:], true)

    best = 0.0
    for start in range(0, 40):
        fit = superpose(predicted[start : start + 10], true[start : start + 10])
        move = np.concatenate((Rotation.from_matrix(fit.rotation).as_rotvec(), fit.translation))
        best = max(best, -minimize(loss, move, method="Nelder-Mead", options={"maxiter": 60 if start % 8 else 600}).fun)
    assert tm_score(predicted, true) == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("n", [40, 150])
def test_fewer_starting_places_cost_little(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting at every place of the chain instead of at 48 gains less than 0.001 in TM-score."""
    rng = np.random.default_rng(n)
    true = _walk(n, n)
    predicted = true + np.cumsum(rng.normal(size=true.shape) * 0.5, 0)
    thinned = tm_score(predicted, true)
    monkeypatch.setattr(tm, "PLACES", n)
    assert thinned <= tm_score(predicted, true) < thinned + 1e-3


def test_gdt_counts_what_one_superposition_brings_near() -> None:
    """Five of forty residues lie off by 3 and five by 9 angstrom: at cutoffs far from these lengths the counts are exact."""
    true = _walk(40, 9)
    predicted = true.copy()
    directions = np.random.default_rng(9).normal(size=(10, 3))
    predicted[3::4] += directions / np.linalg.norm(directions, axis=-1, keepdims=True) * np.repeat([3.0, 9.0], 5)[:, None]
    assert gdt(predicted, true, (0.5, 1.0)) == pytest.approx(30 / 40)
    assert gdt(predicted, true, (1.0, 4.0)) == pytest.approx((30 + 35) / 80)
    assert gdt(predicted, true, (4.0, 10.0)) == pytest.approx((35 + 40) / 80)


def test_missing_residues_lower_the_score() -> None:
    """Half of a chain of 80, perfectly placed, scores one half when the whole length is given."""
    true = _walk(40, 4)
    assert tm_score(true + 3, true, length=80) == pytest.approx(0.5)
    assert gdt(true + 3, true, length=80) == pytest.approx(0.5)
