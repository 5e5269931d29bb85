"""The scores of a CA trace at their limits, and the helix that knows nothing."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.metrics.geometry import dihedrals, distances
from structgen.metrics.trace import ideal_helix, score_trace


def chain(n: int = 60) -> np.ndarray:
    """A compact random walk of 3.8 angstrom steps."""
    steps = np.random.default_rng(4).normal(size=(n, 3))
    walk = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=-1, keepdims=True), axis=0)
    return walk - 0.5 * np.linspace(0, 1, n)[:, None] * walk[-1]


def test_the_truth_moved_is_perfect_and_its_mirror_image_is_seen() -> None:
    """Rigid motion costs nothing; a mirror image keeps lDDT alone."""
    true, resolved = chain(), np.ones(60, bool)
    turned = true[:, [1, 2, 0]] + 7
    same, mirrored = score_trace(turned, true, resolved), score_trace(-turned, true, resolved)
    assert (same.lddt, same.tm, same.gdt_ts, same.coverage) == pytest.approx((1, 1, 1, 1))
    assert same.rmsd < 1e-6 and not same.mirror
    assert mirrored.lddt == pytest.approx(1) and mirrored.mirror and mirrored.tm < 0.8 and mirrored.rmsd > 3


def test_what_is_not_covered_counts_as_wrong() -> None:
    """A perfect half: TM-score and GDT_TS of a half; lDDT of the pairs inside it; RMSD of what is there."""
    true, resolved = chain(), np.ones(60, bool)
    half = np.where(np.arange(60)[:, None] < 30, true, np.nan)
    scores = score_trace(half, true, resolved)
    assert (scores.tm, scores.gdt_ts, scores.coverage) == pytest.approx((0.5, 0.5, 0.5))
    gap = np.linalg.norm(true[:, None] - true, axis=-1)
    near = (gap < 15) & ~np.eye(60, dtype=bool)
    assert scores.lddt == pytest.approx(near[:30, :30].sum() / near.sum())
    assert scores.rmsd < 1e-6


def test_unresolved_residues_do_not_count() -> None:
    """Nonsense where the truth is not known changes nothing; a trace that says nothing scores 0."""
    true, resolved = chain(), np.arange(60) % 5 != 0
    wild = np.where(resolved[:, None], true, 1e3)
    assert score_trace(wild, true, resolved).tm == pytest.approx(1)
    nothing = score_trace(np.full((60, 3), np.nan), true, resolved)
    assert (nothing.lddt, nothing.tm, nothing.gdt_ts, nothing.coverage) == (0, 0, 0, 0) and np.isnan(nothing.rmsd)


def test_ideal_helix_is_an_alpha_helix() -> None:
    """3.8 angstrom between neighbours, 5.4 a turn of 3.6 residues, right-handed: a CA torsion near +50 degrees."""
    helix = ideal_helix(20)
    assert distances(helix[:-1], helix[1:]) == pytest.approx(3.8, abs=0.05)
    assert 3.6 * 1.5 == pytest.approx(5.4) and helix[18, 2] - helix[0, 2] == pytest.approx(27)
    torsions = dihedrals(helix[:-3], helix[1:-2], helix[2:-1], helix[3:])
    assert torsions == pytest.approx(50, abs=3)
