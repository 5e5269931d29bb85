"""DockQ by its formula, and what moving one of two chains does to it."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.metrics.backbone import score_backbone, secondary_structure
from structgen.metrics.dockq import dockq, score_interface
from structgen.metrics.geometry import dihedrals


def built(phi: float, psi: float, residues: int) -> np.ndarray:
    """[n, 3, 3] N, CA, C with ideal bonds and angles (Engh & Huber 1991), omega 180, atom after atom."""
    atoms = [np.array([0.0, 0, 0]), np.array([1.458, 0, 0])]
    atoms.append(atoms[1] + 1.525 * np.array([-np.cos(np.radians(111)), np.sin(np.radians(111)), 0]))
    steps = [(1.329, 116.2, psi), (1.458, 121.7, 180.0), (1.525, 111.0, phi)]
    for k in range(3 * (residues - 1)):
        length, angle, torsion = steps[k % 3]
        a, b, c = atoms[-3:]
        along = (c - b) / np.linalg.norm(c - b)
        side = np.cross(b - a, along)
        side /= np.linalg.norm(side)
        t, p = np.radians(180 - angle), np.radians(torsion)
        atoms.append(c + length * (np.cos(t) * along + np.sin(t) * (np.cos(p) * np.cross(side, along) + np.sin(p) * side)))
    return np.array(atoms).reshape(residues, 3, 3)


def test_dockq_is_its_formula() -> None:
    """1 for a perfect interface; at fnat 0.5, 1.5 and 8.5 angstrom every term is a half; 0 far away."""
    assert dockq(1, 0, 0) == 1 and dockq(0.5, 1.5, 8.5) == pytest.approx(0.5) and dockq(0, 1e6, 1e6) < 1e-6


def test_an_interface_that_is_moved_loses_contacts_and_deviates() -> None:
    """Two chains side by side: themselves in another frame score 1; the shorter moved by 3 angstrom deviates by 3; far chains have none."""
    rng = np.random.default_rng(0)
    first = np.stack([np.arange(12) * 3.8, np.zeros(12), np.zeros(12)], -1)[:, None] + rng.normal(size=(12, 5, 3))
    second = np.stack([np.arange(8) * 3.8, np.full(8, 6.0), np.zeros(8)], -1)[:, None] + rng.normal(size=(8, 5, 3))
    known = (np.ones((12, 5), bool), np.ones((8, 5), bool))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    same = score_interface((first @ turn + 5, second @ turn + 5), (first, second), known)
    assert same is not None and same.dockq == pytest.approx(1) and same.fnat == 1 and same.lrmsd < 1e-6
    moved = score_interface((first, second + np.array([0, 3, 0])), (first, second), known)
    assert moved is not None and moved.lrmsd == pytest.approx(3) and 0 < moved.irmsd < 3 and moved.fnat < 1
    assert score_interface((first, second), (first, second + 100), known) is None


def test_ideal_helices_strands_and_mirror_images_are_told_apart() -> None:
    """Backbones built from their torsions: helix, strand, all bonds right; the mirror image of a helix has positive phi and is neither."""
    helix, strand = built(-60, -45, 20), built(-120, 130, 20)
    assert dihedrals(helix[:-1, 2], helix[1:, 0], helix[1:, 1], helix[1:, 2]) == pytest.approx(-60)
    scores = [score_backbone(x) for x in (helix, strand, helix * [1, 1, -1])]
    assert scores[0].helix >= 0.9 and scores[1].strand >= 0.9 and scores[0].strand == scores[1].helix == 0
    assert all(s.bonds == s.ca_ca == s.omega == 1 for s in scores)
    assert [s.phi_negative for s in scores] == [1, 1, 0] and scores[2].helix == scores[2].strand == 0
    assert (secondary_structure(*(built(-60, -45, 4)[:, k] for k in range(3))) == "").all()  # two inner residues are no helix
