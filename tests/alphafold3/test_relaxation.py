"""Atoms near their places come to lie where chemistry has them, and true structures stay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from structgen.alphafold3.relaxation import CIS_BELOW, Energy, Widths, relaxed
from structgen.alphafold3.restraints import PEPTIDE, PHOSPHATE, Molecule
from structgen.features.atoms import Structure, build_atoms
from structgen.features.batch import Batch
from structgen.features.conformers import pose_conformers
from structgen.features.featurise import featurise, pad
from structgen.features.job import Chain, Job, Kind, Modification
from structgen.features.tokens import tokenise
from structgen.metrics.geometry import clashes_per_thousand
from structgen.metrics.stereochemistry import POLYMER_ANGLES, POLYMER_BONDS, angle_checks, bond_checks, chirality_checks
from tests.alphafold3.crop import random_rotation
from tests.structures import batch_of, tokens_of

FILE = Path(__file__).parents[2] / "data/examples/structures/6lu7.cif.gz"


def mixed(rng: torch.Generator) -> tuple[Structure, Batch]:
    """A modified residue, both nucleic acids, a sugar, a drug and an ion."""
    chains = (
        Chain("A", Kind.PROTEIN, "ITSGPW", (Modification(3, "SEP"),)),
        Chain("B", Kind.DNA, "AG"),
        Chain("C", Kind.RNA, "CU"),
        Chain("D", Kind.LIGAND, residues=("NAG",)),
        Chain("E", Kind.LIGAND, smiles="C[C@H](N)C(=O)Oc1ccccc1/C=C/F"),
        Chain("F", Kind.LIGAND, residues=("MG",)),
    )
    tokens = tokenise(build_atoms(Job("x", "x", chains)))
    return tokens.structure, pose_conformers(featurise(tokens, [None] * len(chains)), rng)


def strewn(structure: Structure, batch: Batch, rng: torch.Generator) -> torch.Tensor:
    """[1, l, 3]: reference conformers in a row, 6 angstrom from residue to residue, chains apart, every atom 0.3 angstrom off."""
    place = torch.as_tensor(6.0 * np.stack([structure.residue_numbers, 3 * structure.residue_chain, 0 * structure.residue_chain], 1))
    noise = 0.3 * torch.randn(batch.atoms, 3, generator=rng, dtype=torch.float64)
    return (batch.ref_pos[0] + place[torch.as_tensor(structure.atom_residue)] + noise)[None]


def judged(structure: Structure, x: torch.Tensor) -> list[np.ndarray]:
    """Bonds, angles and stereocentres of one sample, by the code that judges results."""
    return [check(structure, x[0].numpy()).right for check in (bond_checks, angle_checks, chirality_checks)]


def test_the_gradient_is_that_of_the_energy(rng: torch.Generator) -> None:
    """Against one-sided differences, with every kind of term in action."""
    structure, batch = mixed(rng)
    molecule, x = Molecule.of(batch), strewn(structure, batch, rng)[0].numpy() / 3  # pressed together, so that atoms clash
    near = molecule.near(x)
    energy = Energy(molecule, x + 0.1, near, Widths(bond=0.5, angle=0.5, volume=1.0, contact=0.5, centre=1.0))
    assert (np.linalg.norm(x[near[0][:, 0]] - x[near[0][:, 1]], axis=1) < near[1]).sum() > 100
    gradient = energy(x.ravel())[1]
    np.testing.assert_allclose(gradient, approx_fprime(x.ravel(), lambda y: energy(y)[0], 1e-7), rtol=1e-3, atol=1e-2)


def test_all_kinds_of_chemistry_are_made_right(rng: torch.Generator) -> None:
    """Proteins with a modified residue, nucleic acids and ligands: what was off is right, by the code that judges results."""
    structure, batch = mixed(rng)
    x = strewn(structure, batch, rng)
    assert min(right.mean() for right in judged(structure, x)) < 0.9
    after = relaxed(x, batch)
    assert all(right.all() for right in judged(structure, after)) and clashes_per_thousand(structure, after[0].numpy()) == 0


def test_atoms_without_a_reference_have_the_bonds_of_their_elements(rng: torch.Generator) -> None:
    """A ligand that the dictionary has no coordinates of: its atoms share a place, and bonds are as long as two radii, not nothing."""
    tokens = tokens_of((Kind.LIGAND, "CCCO"))
    batch = pose_conformers(batch_of(tokens), rng)
    unknown = dataclasses.replace(batch, ref_pos=torch.zeros_like(batch.ref_pos))
    x = relaxed(batch.ref_pos.double() + 0.1 * torch.randn(1, batch.atoms, 3, generator=rng, dtype=torch.float64), unknown)
    lengths = [float((x[0, i] - x[0, j]).norm()) for i, j in tokens.structure.bonds.tolist()]
    assert lengths == pytest.approx([1.52, 1.52, 1.42], abs=0.05)


@pytest.fixture(scope="module")
def protease() -> tuple[Structure, Batch, torch.Tensor]:
    """The first 120 residues of the main protease of SARS-CoV-2 [1, l, 3]; the last OXT, which it has not, lies beside its C."""
    residues = list(gemmi.read_structure(str(FILE))[0]["A"])[:120]
    tokens = tokens_of(gemmi.one_letter_code([residue.name for residue in residues]))
    structure = tokens.structure
    named = [(residues[r], "C" if name == "OXT" else name) for r, name in zip(structure.atom_residue, structure.atom_names, strict=True)]
    x = torch.tensor([[residue[name][0].pos.tolist() for residue, name in named]], dtype=torch.float64)
    x[0, -1] += 0.5
    return structure, pose_conformers(batch_of(tokens), torch.Generator().manual_seed(0)), x


def test_a_crystal_structure_stays(protease: tuple[Structure, Batch, torch.Tensor]) -> None:
    """Its atoms move by less than 0.1 angstrom in the mean."""
    _, batch, x = protease
    moved = (relaxed(x, batch) - x).norm(dim=-1)[0]
    assert moved.median() < 0.1 and moved[batch.centre_atom[0]].mean() < 0.1


def test_noise_and_wrong_hands_are_mended(protease: tuple[Structure, Batch, torch.Tensor], rng: torch.Generator) -> None:
    """Every tenth side chain on the wrong side and all atoms half an angstrom off: all bonds and hands are right, CA atoms near by."""
    structure, batch, x = protease
    off = x + 0.3 * torch.randn(x.shape, generator=rng, dtype=torch.float64)
    names, residue = structure.atom_names, structure.atom_residue
    for r in range(5, 120, 10):
        n, ca, c = (off[0, np.flatnonzero((residue == r) & (names == name))[0]].clone() for name in ("N", "CA", "C"))
        normal = torch.linalg.cross(n - ca, c - ca)
        side = torch.as_tensor((residue == r) & ~np.isin(names, ("N", "CA", "C", "O")))
        off[0, side] -= 2 * ((off[0, side] - ca) @ normal)[:, None] * normal / normal.square().sum()
    before, after = judged(structure, off), relaxed(off, batch)
    assert before[0].mean() < 0.98 and before[2].mean() < 0.93
    assert all(right.mean() > 0.995 for right in judged(structure, after))
    centres = batch.centre_atom[0]
    assert (after - off).norm(dim=-1)[0, centres].mean() < 0.5
    ca = after[0, centres]
    steps = (ca[1:] - ca[:-1]).norm(dim=-1)
    assert ((steps > 3.6) & (steps < 4.0)).double().mean() > 0.99
    assert clashes_per_thousand(structure, after[0].numpy()) < clashes_per_thousand(structure, off[0].numpy())


def test_atoms_that_overlap_are_parted() -> None:
    """Two chains 2.3 angstrom apart: what overlaps does so no more."""
    tokens = tokens_of("GAG", "GAG")
    batch, rng = pose_conformers(batch_of(tokens), torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    x = strewn(tokens.structure, batch, rng)
    half = batch.atoms // 2
    x[0, half:] = x[0, :half] + torch.tensor([0.5, 1.0, 2.0])
    assert clashes_per_thousand(tokens.structure, x[0].numpy()) > 200
    assert clashes_per_thousand(tokens.structure, relaxed(x, batch, Widths(centre=5.0))[0].numpy()) == 0


@pytest.mark.parametrize(("sequence", "distance", "expected"), [("GPGGG", 2.9, 2.94), ("GAGGG", 2.9, 3.8), ("GPGGG", 3.6, 3.8)])
def test_a_cis_peptide_bond_is_kept_before_proline_alone(sequence: str, distance: float, expected: float) -> None:
    """As it is predicted: near 2.94 angstrom between CA atoms; all others become trans."""
    tokens = tokens_of(sequence)
    batch = pose_conformers(batch_of(tokens), torch.Generator().manual_seed(1))
    x = strewn(tokens.structure, batch, torch.Generator().manual_seed(2))
    centres, atom = batch.centre_atom[0], batch.atom_to_token[0]
    along = (x[0, centres[1]] - x[0, centres[0]]) / (x[0, centres[1]] - x[0, centres[0]]).norm()
    x[0, atom > 0] += x[0, centres[0]] + distance * along - x[0, centres[1]]
    assert ((x[0, centres[1]] - x[0, centres[0]]).norm() < CIS_BELOW) == (distance < CIS_BELOW)
    after = relaxed(x, batch, Widths(centre=5.0))
    assert float((after[0, centres[1]] - after[0, centres[0]]).norm()) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("usual", "short", "kept"), [(3.8, 2.9, True), (3.2, 2.5, False)])
def test_a_chain_that_is_too_short_as_a_whole_is_trans(rng: torch.Generator, usual: float, short: float, kept: bool) -> None:
    """Prolines of a contracted sample say nothing of cis, shorter ones among them neither; of a sample of right lengths they do."""
    tokens = tokens_of("GPGGPGGPG")
    batch = pose_conformers(batch_of(tokens), rng)
    centres, atom = batch.centre_atom[0], batch.atom_to_token[0]
    steps = torch.tensor([0, usual, usual, usual, short, usual, usual, usual, usual], dtype=torch.float64)
    trace = torch.stack([steps.cumsum(0), torch.zeros(9, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)], 1)
    x = (0.5 * (batch.ref_pos.double() - batch.ref_pos[:, centres[atom]].double()) + trace[atom])[None][0]
    after = relaxed(x, batch, Widths(centre=5.0))[0, centres]
    apart = (after[1:] - after[:-1]).norm(dim=-1)
    assert (apart[3] < 3.2) == kept and (apart[[0, 1, 2, 4, 5, 6, 7]] > 3.6).all()


def test_the_links_are_those_that_results_are_judged_by() -> None:
    """Lengths and the ends of angles along polymers follow from the tables of `metrics.stereochemistry` by the law of cosines."""
    inner = {("CA", "C"): 1.525, ("O", "C"): 1.231, ("N", "CA"): 1.459, ("C3'", "O3'"): 1.42, ("P", "O5'"): 1.593}
    for link in (PEPTIDE, PHOSPHATE):
        bond, *ends = link
        assert bond.distance == pytest.approx(POLYMER_BONDS[((bond.here,), (bond.there,))], abs=0.005)
        for one in ends:
            here, there = ((one.here, bond.here), (one.there,)) if one.there == bond.there else ((one.here,), (bond.there, one.there))
            own = inner[here if len(here) == 2 else there]
            angle = np.radians(POLYMER_ANGLES[(here, there)])
            distance = np.sqrt(own**2 + bond.distance**2 - 2 * own * bond.distance * np.cos(angle))
            assert one.distance == pytest.approx(distance, abs=0.03)


def test_it_turns_with_the_sample_and_heeds_nothing_else(rng: torch.Generator) -> None:
    """A turned and shifted sample relaxes to the turned and shifted result; other samples and padding change no bit; float32 stays it."""
    structure, batch = mixed(rng)
    x = strewn(structure, batch, rng)
    after, turn = relaxed(x, batch), random_rotation(rng)
    np.testing.assert_allclose(relaxed(x @ turn + 9.0, batch), after @ turn + 9.0, atol=0.05)
    assert torch.equal(relaxed(torch.cat([x + 1.0, x]), batch)[1:], after)
    larger = pad(batch, tokens=batch.tokens + 3, atoms=batch.atoms + 5)
    padded = torch.cat([x, torch.zeros(1, 5, 3)], 1)
    assert torch.equal(relaxed(padded, larger), torch.cat([after, torch.zeros(1, 5, 3)], 1))
    single = relaxed(x.float(), batch)
    assert single.dtype == torch.float32 and relaxed(x[:0], batch).shape == (0, batch.atoms, 3)
