"""Bonds, hands and double bonds of every kind of residue: right in the reference, wrong in what was made wrong."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.features import chemistry
from structgen.features.atoms import Structure, build_atoms
from structgen.features.conformers import atom_reference
from structgen.features.dictionary import dictionary_component
from structgen.features.job import AtomName, Bond, Chain, Job, Kind, Modification
from structgen.features.molecules import conformer
from structgen.metrics.geometry import angles
from structgen.metrics.stereochemistry import angle_checks, bond_checks, chirality_checks, double_bond_checks
from tests.metrics.conftest import Real

SMILES = "C[C@H](N)C(=O)Oc1ccccc1/C=C/F"


@pytest.fixture(scope="module")
def mixed() -> Structure:
    chains = (
        Chain("A", Kind.PROTEIN, "ITSG", (Modification(3, "SEP"),)),
        Chain("B", Kind.DNA, "A"),
        Chain("C", Kind.RNA, "CU"),
        Chain("D", Kind.LIGAND, residues=("NAG",)),
        Chain("E", Kind.LIGAND, smiles=SMILES),
        Chain("F", Kind.LIGAND, residues=("MG",)),
    )
    return build_atoms(Job("x", "x", chains))


def shown(structure: Structure, atoms: np.ndarray) -> list[str]:
    """First atom of every row."""
    return [f"{structure.residue_names[structure.atom_residue[a]]}.{structure.atom_names[a]}" for a in atoms[:, 0]]


def test_the_reference_has_the_hand_of_its_names(mixed: Structure) -> None:
    """All centres by name; glycine and the ion have none, phosphorus with two like oxygens is none."""
    checks = chirality_checks(mixed, atom_reference(mixed))
    assert checks.right.all()
    nucleotide = ["C4'", "C3'", "C1'"]
    expected = ["ILE.CA", "ILE.CB", "THR.CA", "THR.CB", "SEP.CA", *(f"DA.{a}" for a in nucleotide)]
    expected += [f"{code}.{a}" for code in "CU" for a in (*nucleotide, "C2'")]
    expected += [f"NAG.C{n}" for n in range(1, 6)] + ["LIG-E.C2"]
    assert sorted(shown(mixed, checks.atoms)) == sorted(expected)


def test_a_mirror_turns_every_hand_and_no_bond(mixed: Structure) -> None:
    """Reflection: no centre is right, every bond and every double bond as before."""
    x = atom_reference(mixed)
    mirrored = x * [-1, 1, 1]
    assert not chirality_checks(mixed, mirrored).right.any()
    assert np.array_equal(bond_checks(mixed, x).right, bond_checks(mixed, mirrored).right)
    assert double_bond_checks(mixed, mirrored).right.tolist() == [True]


def test_one_wrong_centre_is_named(mixed: Structure) -> None:
    """C4 of NAG pushed through the plane of its neighbours."""
    x = atom_reference(mixed).astype(np.float64)
    where = {name: i for i, name in enumerate(mixed.atom_names) if mixed.residue_names[mixed.atom_residue[i]] == "NAG"}
    plane = x[[where[name] for name in ("C3", "C5", "O4")]]
    normal = np.cross(plane[1] - plane[0], plane[2] - plane[0])
    normal /= np.linalg.norm(normal)
    x[where["C4"]] -= 2 * ((x[where["C4"]] - plane[0]) @ normal) * normal
    assert shown(mixed, chirality_checks(mixed, x).wrong) == ["NAG.C4"]


def test_bonds_within_a_quarter(mixed: Structure) -> None:
    """Inside residues all bonds of the reference are right; at 1.24 times still, at 1.26 none; peptide bonds have lengths of their own."""
    x = atom_reference(mixed).astype(np.float64)
    for factor, right in ((1.0, True), (1.24, True), (0.76, True), (1.26, False), (0.74, False)):
        checks = bond_checks(mixed, x * factor)
        inside = mixed.atom_residue[checks.atoms[:, 0]] == mixed.atom_residue[checks.atoms[:, 1]]
        assert set(checks.right[inside].tolist()) == {right}
        assert (~inside).sum() == 4  # I-T, T-SEP, SEP-G, C-U


def test_angles_are_counted_by_hand_and_within_a_quarter(mixed: Structure) -> None:
    """d (d - 1) / 2 about an atom of d bonds; three kinds about a peptide bond, two about a phosphate; 25 % are the limit."""
    alone = {text: build_atoms(Job("x", "x", (Chain("A", Kind.LIGAND, smiles=text),))) for text in ("CO", "CCO", "CC(C)O", "CC(C)(C)O")}
    assert [len(angle_checks(s, atom_reference(s)).right) for s in alone.values()] == [0, 1, 3, 6]
    checks = angle_checks(mixed, atom_reference(mixed))
    inside = (mixed.atom_residue[checks.atoms] == mixed.atom_residue[checks.atoms[:, :1]]).all(1)
    assert checks.right[inside].all()
    across = [[str(mixed.atom_names[a]) for a in row] for row in checks.atoms[~inside]]
    assert across == [["CA", "C", "N"], ["O", "C", "N"], ["C", "N", "CA"], ["C3'", "O3'", "P"], ["O3'", "P", "O5'"]]
    ethanol = alone["CCO"]
    (reference,) = angles(*atom_reference(ethanol)[:, None])
    assert 105 < reference < 118
    for factor, right in ((1.0, True), (1.24, True), (1.26, False), (0.76, True), (0.74, False)):
        turn = np.radians(reference * factor)
        x = np.array([[1.5, 0, 0], [0, 0, 0], [1.4 * np.cos(turn), 1.4 * np.sin(turn), 0]])
        assert angle_checks(ethanol, x).right.tolist() == [right]


def test_angles_with_a_metal_are_not_judged() -> None:
    """Nothing of an iron-sulphur cluster; all of haem but what holds iron."""
    for code, some in (("SF4", False), ("HEM", True)):
        s = build_atoms(Job("x", "x", (Chain("A", Kind.LIGAND, residues=(code,)),)))
        checks = angle_checks(s, dictionary_component(code).ideal[dictionary_component(code).heavy])
        assert checks.right.all() and bool(len(checks.right)) == some and not (s.elements[checks.atoms] == "FE").any()


def test_a_bond_takes_the_place_of_what_left() -> None:
    """C1 of a bonded sugar: its hand is told by the atom it is bonded to, where O1 was."""
    bond = Bond(AtomName("A", 1, "ND2"), AtomName("B", 1, "C1"))
    s = build_atoms(Job("x", "x", (Chain("A", Kind.PROTEIN, "N"), Chain("B", Kind.LIGAND, residues=("NAG",))), bonds=(bond,)))
    nag = dictionary_component("NAG")
    x = atom_reference(s).astype(np.float64)
    sugar = [nag.index[name] for name in s.atom_names[s.atom_residue == 1]]
    x[s.atom_residue == 1] = conformer(nag)[sugar]
    amide = int(np.flatnonzero(s.atom_names == "ND2")[0])
    x[amide] = conformer(nag)[nag.index["O1"]]
    assert shown(s, chirality_checks(s, x).wrong) == []
    c1 = x[np.flatnonzero((s.atom_names == "C1") & (s.atom_residue == 1))[0]]
    x[amide] = 2 * c1 - x[amide]
    assert shown(s, chirality_checks(s, x).wrong) == ["NAG.C1"]


def test_a_double_bond_on_the_other_side_is_wrong() -> None:
    """Coordinates of the Z isomer under the name of the E isomer."""
    e, z = (build_atoms(Job("x", "x", (Chain("A", Kind.LIGAND, smiles=text),))) for text in ("F/C=C/Cl", "F/C=C\\Cl"))
    assert e.atom_names.tolist() == z.atom_names.tolist()
    assert double_bond_checks(e, atom_reference(e)).right.tolist() == [True]
    assert double_bond_checks(e, atom_reference(z)).right.tolist() == [False]


@pytest.mark.parametrize("code", ["NAG", "NDG", "ATP", "SEP", "DAL", "CLR", "STI", "2MG", "GAL", "SIA"])
def test_conformers_keep_the_dictionarys_hand(code: str) -> None:
    """RDKit's conformer and the ideal coordinates agree at every centre of a component."""
    s = build_atoms(Job("x", "x", (Chain("A", Kind.LIGAND, residues=(code,)),)))
    component = dictionary_component(code)
    ideal = component.ideal[component.heavy]
    assert all(check(s, ideal).right.all() for check in (chirality_checks, bond_checks, angle_checks))


def test_a_real_structure_is_right(protease: Real) -> None:
    """6LU7 at 2.16 angstrom: a centre for every residue but glycine, two for ILE and THR; nothing wrong."""
    bonds, hands, bent = (check(protease.structure, protease.positions) for check in (bond_checks, chirality_checks, angle_checks))
    glycines = int((protease.structure.residue_names == "GLY").sum())
    branched = int(np.isin(protease.structure.residue_names, ["ILE", "THR"]).sum())
    assert len(hands.right) == 306 - glycines + branched and hands.right.all()
    assert bonds.right.all() and len(bonds.right) > len(protease.positions)
    assert bent.right.all() and len(bent.right) > len(bonds.right)
    assert chemistry.CLASSES[protease.structure.residue_class[0]] == "SER"
