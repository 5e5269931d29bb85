"""Accessible area against mdtraj, Biopython and spheres whose area is known."""

from __future__ import annotations

import time
from dataclasses import replace
from io import StringIO

import mdtraj
import numpy as np
import pytest
from Bio.PDB import PDBParser
from Bio.PDB.SASA import ShrakeRupley

from structgen.features.job import Kind
from structgen.metrics import sasa
from tests.metrics.conftest import Real

RADII = {"C": 1.70, "N": 1.55, "O": 1.52, "S": 1.80}


def _pdb(real: Real) -> str:
    """The structure as bare ATOM records."""
    s, lines = real.structure, []
    for i, (x, y, z) in enumerate(real.positions):
        residue = s.atom_residue[i]
        lines.append(
            f"ATOM  {i + 1:5d}  {s.atom_names[i]:<3s} {s.residue_names[residue]} A{s.residue_numbers[residue]:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {s.elements[i]:>2s}"
        )
    return "\n".join([*lines, "END", ""])


def test_equals_mdtraj(protease: Real, tmp_path) -> None:
    """With the same radii and number of points, atom by atom to 0.5 square angstrom (points on an edge) and in sum to 0.02 %."""
    (tmp_path / "protease.pdb").write_text(_pdb(protease))
    trajectory = mdtraj.load(str(tmp_path / "protease.pdb"))
    expected = mdtraj.shrake_rupley(trajectory, probe_radius=0.14, n_sphere_points=960)[0] * 100
    ours = sasa.accessible_area(protease.positions, np.array([RADII[e] for e in protease.structure.elements]), points=960)
    assert np.abs(ours - expected).max() < 0.5
    assert ours.sum() == pytest.approx(expected.sum(), rel=2e-4)


def test_equals_biopython(protease: Real) -> None:
    """The same radii, another program's points: atoms agree to the error of the points, the sum to 0.5 %."""
    structure = PDBParser(QUIET=True).get_structure("x", StringIO(_pdb(protease)))
    ShrakeRupley(probe_radius=1.4, n_points=500, radii_dict=RADII).compute(structure, level="A")
    expected = np.array([atom.sasa for atom in structure.get_atoms()])
    ours = sasa.accessible_area(protease.positions, np.array([RADII[e] for e in protease.structure.elements]), points=500)
    assert np.abs(ours - expected).max() < 2.0
    assert ours.sum() == pytest.approx(expected.sum(), rel=5e-3)


def test_one_and_two_spheres() -> None:
    """A lone sphere is free; of two equal spheres at distance d each loses the cap of height R - d/2."""
    assert sasa.accessible_area(np.zeros((1, 3)), np.array([1.7]))[0] == pytest.approx(4 * np.pi * 3.1**2)
    area = sasa.accessible_area(np.array([[0, 0, 0], [0.6, 0, 2.0]]), np.array([1.7, 1.7]), points=20_000)
    lost = 2 * np.pi * 3.1 * (3.1 - np.hypot(0.6, 2.0) / 2)
    np.testing.assert_allclose(area, 4 * np.pi * 3.1**2 - lost, rtol=1e-3)


def test_five_hundred_residues_take_less_than_a_second(protease: Real) -> None:
    """Two proteases, 612 residues and 4,700 atoms: best of three runs."""
    positions = np.concatenate((protease.positions, protease.positions + np.array([50.0, 0, 0])))
    radii, seconds = np.full(len(positions), 1.8), []
    for _ in range(3):
        start = time.process_time()
        sasa.accessible_area(positions, radii)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1


def test_a_folded_protein_is_ordered_and_a_stretched_one_is_not(protease: Real) -> None:
    """Relative areas lie in 0 to 1; pulling the residues of the chain apart frees them all."""
    relative = sasa.relative_area(protease.structure, protease.positions)
    assert relative.min() == 0 and relative.max() <= 1
    assert 0.15 < relative.mean() < 0.35
    assert sasa.fraction_disordered(protease.structure, protease.positions) < 0.02
    apart = protease.positions + protease.structure.atom_residue[:, None] * np.array([30.0, 0, 0])
    assert sasa.fraction_disordered(protease.structure, apart) == 1


@pytest.mark.parametrize("length", [1, 2, 12, 13, 60])
def test_the_mean_moves_over_reflected_ends(length: int) -> None:
    """Window of 25 centred on each residue; index -k reads k, and n - 1 + k reads n - 1 - k, again and again in short chains."""
    values = np.random.default_rng(length).random(length)
    period = max(2 * length - 2, 1)
    expected = []
    for i in range(length):
        folded = [(i + offset) % period for offset in range(-12, 13)]
        expected.append(np.mean([values[k if k < length else period - k] for k in folded]))
    np.testing.assert_allclose(sasa._moving_mean(values), expected, rtol=1e-12)


def test_chains_are_measured_alone(protease: Real) -> None:
    """Two copies of a chain on one another have the areas of one; without protein nothing is disordered."""
    s = protease.structure
    twice = replace(
        s,
        chain_ids=("A", "B"),
        chain_kinds=(Kind.PROTEIN,) * 2,
        chain_sequences=s.chain_sequences * 2,
        chain_entity=np.array([1, 1]),
        chain_copy=np.array([1, 2]),
        residue_names=np.tile(s.residue_names, 2),
        residue_numbers=np.tile(s.residue_numbers, 2),
        residue_chain=np.repeat([0, 1], 306),
        atom_names=np.tile(s.atom_names, 2),
        elements=np.tile(s.elements, 2),
        charges=np.tile(s.charges, 2),
        atom_residue=np.concatenate((s.atom_residue, s.atom_residue + 306)),
    )
    relative = sasa.relative_area(twice, np.tile(protease.positions, (2, 1)))
    np.testing.assert_array_equal(relative, np.tile(sasa.relative_area(s, protease.positions), 2))
    assert sasa.fraction_disordered(replace(s, chain_kinds=(Kind.RNA,)), protease.positions) == 0
