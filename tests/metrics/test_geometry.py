"""Geometry against Biopython, made cases and a real structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from Bio.PDB.vectors import Vector, calc_angle, calc_dihedral

from structgen.metrics import geometry
from tests.metrics.conftest import Real
from tests.tolerance import FLOAT64_ORACLE


def test_angles_and_torsions_equal_biopython() -> None:
    """Values in degrees, sign of the torsion included."""
    points = np.random.default_rng(0).normal(size=(4, 25, 3))
    vectors = [[Vector(*point) for point in row] for row in points]
    expected_angles = [np.degrees(calc_angle(*abc)) for abc in zip(*vectors[:3], strict=True)]
    expected_torsions = [np.degrees(calc_dihedral(*abcd)) for abcd in zip(*vectors, strict=True)]
    np.testing.assert_allclose(geometry.angles(*points[:3]), expected_angles, rtol=FLOAT64_ORACLE)
    np.testing.assert_allclose(geometry.dihedrals(*points), expected_torsions, rtol=FLOAT64_ORACLE)


def _backbone(real: Real) -> dict[str, np.ndarray]:
    """Positions [R, 3] of the backbone atoms."""
    return {name: real.positions[geometry.atoms_named(real.structure, name)] for name in ("N", "CA", "C")}


def test_a_real_protein_has_textbook_geometry(protease: Real) -> None:
    """Bond lengths, angles, handedness, peptide planes and compactness of an X-ray structure."""
    n, ca, c = _backbone(protease).values()
    assert geometry.consecutive(protease.structure).all()
    assert np.abs(geometry.distances(ca[:-1], ca[1:]) - 3.80).max() < 0.15
    assert np.abs(geometry.distances(c[:-1], n[1:]) - 1.33).max() < 0.03
    assert geometry.angles(n, ca, c).mean() == pytest.approx(111, abs=1.5)
    omega = np.abs(geometry.dihedrals(ca[:-1], c[:-1], n[1:], ca[1:]))
    assert (omega > 150).all()
    cb = geometry.atoms_named(protease.structure, "CB")
    assert (protease.structure.residue_names[cb < 0] == "GLY").all()
    has = cb >= 0
    assert (geometry.chirality(n[has], ca[has], c[has], protease.positions[cb[has]]) == 1).all()
    assert geometry.radius_of_gyration(ca) == pytest.approx(2.2 * 306**0.38, rel=0.2)
    assert geometry.clashes_per_thousand(protease.structure, protease.positions) < 5


def test_the_mirror_image_is_all_d(protease: Real) -> None:
    """Reflection turns every handedness and leaves every length."""
    n, ca, c = (-points for points in _backbone(protease).values())
    cb = geometry.atoms_named(protease.structure, "CB")
    has = cb >= 0
    assert (geometry.chirality(n[has], ca[has], c[has], -protease.positions[cb[has]]) == -1).all()


def test_clashes_equal_a_plain_search(protease: Real) -> None:
    """Squeezing the first hundred residues to 80 % makes the very clashes that testing every pair finds."""
    atoms = np.flatnonzero(protease.structure.atom_residue < 100)
    cut = {name: getattr(protease.structure, name)[atoms] for name in ("atom_names", "elements", "charges", "atom_residue")}
    structure = replace(protease.structure, **cut)
    positions = protease.positions[atoms] * 0.8
    radius = {"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8}
    found = set()
    for i in range(len(atoms)):
        near = i + 1 + np.flatnonzero(np.linalg.norm(positions[i + 1 :] - positions[i], axis=-1) < 4)
        for j in near:
            a, b = structure.elements[i], structure.elements[j]
            allowed = 0.8 if a != "C" and b != "C" else 0.4
            sulphurs = structure.atom_names[i] == structure.atom_names[j] == "SG"
            apart = abs(structure.atom_residue[i] - structure.atom_residue[j]) > 1
            if np.linalg.norm(positions[i] - positions[j]) < radius[a] + radius[b] - allowed and apart and not sulphurs:
                found.add((i, int(j)))
    assert len(found) > 50
    assert set(zip(*(side.tolist() for side in geometry.clashes(structure, positions)), strict=True)) == found
    assert geometry.clashes_per_thousand(structure, positions) == pytest.approx(1000 * len(found) / len(atoms))


def test_chain_borders_and_gaps_are_not_consecutive(protease: Real) -> None:
    """Neighbours are in one chain with consecutive numbers."""
    chain, numbers = np.zeros(306, int), protease.structure.residue_numbers.copy()
    chain[200:] = 1
    numbers[100:] += 5
    joined = geometry.consecutive(replace(protease.structure, residue_chain=chain, residue_numbers=numbers))
    assert np.flatnonzero(~joined).tolist() == [99, 199]
