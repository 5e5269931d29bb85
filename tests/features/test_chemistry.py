"""The table of standard residues against independent statements of what they are."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from structgen.features import chemistry

HEAVY_ATOMS = {
    "ALA": "N CA C O CB",
    "ARG": "N CA C O CB CG CD NE CZ NH1 NH2",
    "ASN": "N CA C O CB CG OD1 ND2",
    "ASP": "N CA C O CB CG OD1 OD2",
    "CYS": "N CA C O CB SG",
    "GLN": "N CA C O CB CG CD OE1 NE2",
    "GLU": "N CA C O CB CG CD OE1 OE2",
    "GLY": "N CA C O",
    "HIS": "N CA C O CB CG ND1 CD2 CE1 NE2",
    "ILE": "N CA C O CB CG1 CG2 CD1",
    "LEU": "N CA C O CB CG CD1 CD2",
    "LYS": "N CA C O CB CG CD CE NZ",
    "MET": "N CA C O CB CG SD CE",
    "PHE": "N CA C O CB CG CD1 CD2 CE1 CE2 CZ",
    "PRO": "N CA C O CB CG CD",
    "SER": "N CA C O CB OG",
    "THR": "N CA C O CB OG1 CG2",
    "TRP": "N CA C O CB CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2",
    "TYR": "N CA C O CB CG CD1 CD2 CE1 CE2 CZ OH",
    "VAL": "N CA C O CB CG1 CG2",
    "UNK": "N CA C O CB",
}


@pytest.mark.parametrize("code", HEAVY_ATOMS)
def test_amino_acid_atoms_are_in_the_fixed_order_with_oxt_last(code: str) -> None:
    """SI 5.3 for the 20 amino acids and UNK."""
    row = chemistry.CLASSES.index(code)
    assert list(chemistry.ATOM_NAMES[row, : chemistry.ATOM_COUNT[row]]) == [*HEAVY_ATOMS[code].split(), "OXT"]


def test_nucleotides_lead_with_the_phosphate_and_guanosine_fills_every_slot() -> None:
    """SI 5.3 for the nucleotides: OP3 first, sugar, base; DNA lacks O2'."""
    for row in range(21, 31):
        names = list(chemistry.ATOM_NAMES[row, : chemistry.ATOM_COUNT[row]])
        assert names[:5] == ["OP3", "P", "OP1", "OP2", "O5'"]
        assert ("O2'" in names) == (row < 26)
    assert chemistry.ATOM_COUNT.max() == chemistry.SLOTS == chemistry.ATOM_COUNT[chemistry.CLASSES.index("G")]


def test_elements_and_letters_agree_with_gemmi() -> None:
    """One-letter codes and heavy-atom counts (leaving atom included) are those of another library's residue table."""
    for row, letter in enumerate(chemistry.AMINO_ACIDS):
        info = gemmi.find_tabulated_residue(chemistry.CLASSES[row])
        assert info.one_letter_code == letter
        formula_weight = sum(gemmi.Element(e).weight for e in chemistry.ELEMENTS[row, : chemistry.ATOM_COUNT[row]])
        hydrogens = info.weight - formula_weight
        assert abs(hydrogens / gemmi.Element("H").weight - info.hydrogen_count) < 0.2


@pytest.mark.parametrize("row", [r for r in range(21) if chemistry.CLASSES[r] != "GLY"])
def test_ideal_amino_acids_are_left_handed_with_sound_bonds(row: int) -> None:
    """Chirality at CA is L; N-CA, CA-C and C-O have the lengths of the textbook."""
    n, ca, c, o, cb = chemistry.IDEAL[row, :5]
    assert np.dot(np.cross(n - ca, c - ca), cb - ca) > 2
    lengths = [np.linalg.norm(n - ca), np.linalg.norm(ca - c), np.linalg.norm(c - o)]
    assert np.allclose(lengths, [1.47, 1.51, 1.21], atol=0.05)


def test_no_two_ideal_atoms_coincide() -> None:
    """Every pair of atoms of a residue is at least a bond apart."""
    for row in range(31):
        x = chemistry.IDEAL[row, : chemistry.ATOM_COUNT[row]]
        distance = np.linalg.norm(x[:, None] - x[None], axis=-1) + 10 * np.eye(len(x))
        assert distance.min() > 1.1


def test_alphabet_of_32_is_complete() -> None:
    """Classes are 20 amino acids, UNK, five RNA, five DNA, gap (AF3_ALGORITHMS 5.2), each once."""
    assert len(set(chemistry.CLASSES)) == 32
    assert chemistry.CLASSES[chemistry.UNKNOWN] == "UNK" and chemistry.CLASSES[chemistry.GAP] == "GAP"
    assert chemistry.CLASSES[21:31] == ("A", "G", "C", "U", "N", "DA", "DG", "DC", "DT", "DN")


def test_letters_of_structure_and_alignment() -> None:
    """B, Z and U are UNK as residues but D, E and C in alignment columns; J, O and X are UNK in both; the rest is illegal."""
    assert chemistry.encode("BJOUXZ", chemistry.RESIDUE_OF_LETTER).tolist() == [20] * 6
    expected = [chemistry.AMINO_ACIDS.index("D"), 20, 20, chemistry.AMINO_ACIDS.index("C"), 20, chemistry.AMINO_ACIDS.index("E"), 31]
    assert chemistry.encode("BJOUXZ-", chemistry.MSA_OF_LETTER).tolist() == expected
    assert set(chemistry.encode("a*. -é1", chemistry.RESIDUE_OF_LETTER).tolist()) == {chemistry.ILLEGAL}
    assert chemistry.encode(chemistry.AMINO_ACIDS, chemistry.RESIDUE_OF_LETTER).tolist() == list(range(20))


def test_tables_cannot_be_changed() -> None:
    """The shared arrays are read-only."""
    with pytest.raises(ValueError):
        chemistry.IDEAL[0, 0, 0] = 1.0
