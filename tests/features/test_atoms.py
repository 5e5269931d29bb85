"""Jobs to atoms and tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import Structure, build_atoms
from structgen.features.job import Chain, Job, Kind, protein_chains
from structgen.features.tokens import tokenise

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"


def job(*sequences: str) -> Job:
    return Job("test", "test", protein_chains(sequences))


def by_loop(sequences: tuple[str, ...], ends_chain: bool) -> list[tuple[int, str, str]]:
    """(residue, component, atom) of every atom, one residue at a time."""
    atoms, residue = [], 0
    for sequence in sequences:
        for i, letter in enumerate(sequence):
            row = chemistry.AMINO_ACIDS.find(letter) if letter in chemistry.AMINO_ACIDS else chemistry.UNKNOWN
            names = [str(name) for name in chemistry.ATOM_NAMES[row] if name]
            if not (ends_chain and i == len(sequence) - 1):
                names.remove("OXT")
            atoms += [(residue, chemistry.CLASSES[row], name) for name in names]
            residue += 1
    return atoms


@given(st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=1, max_size=4), st.booleans())
def test_atoms_equal_a_loop_over_residues(sequences: list[str], ends_chain: bool) -> None:
    """Every residue has its heavy atoms in the fixed order; OXT stands at the end of a chain alone, and only if told so."""
    s = build_atoms(job(*sequences), ends_chain=ends_chain)
    found = [(int(r), str(s.residue_names[r]), str(name)) for r, name in zip(s.atom_residue, s.atom_names, strict=True)]
    assert found == by_loop(tuple(sequences), ends_chain)


def test_a3b2_has_the_ids_of_the_paper() -> None:
    """AF3_ALGORITHMS 5.2: entities 1 1 1 2 2 and copies 1 2 3 1 2, in the order of the chains."""
    s = build_atoms(job("MKT", "MKT", "MKT", "GSH", "GSH"))
    assert s.chain_ids == ("A", "B", "C", "D", "E")
    assert s.chain_entity.tolist() == [1, 1, 1, 2, 2]
    assert s.chain_copy.tolist() == [1, 2, 3, 1, 2]
    mixed = build_atoms(job("MKT", "GSH", "MKT"))
    assert mixed.chain_entity.tolist() == [1, 2, 1] and mixed.chain_copy.tolist() == [1, 1, 2]


def test_residue_numbers_start_anew_in_every_chain() -> None:
    """From 1, or from the number given; chain indices follow."""
    s = build_atoms(job("MKT", "GS"))
    assert s.residue_numbers.tolist() == [1, 2, 3, 1, 2] and s.residue_chain.tolist() == [0, 0, 0, 1, 1]
    assert build_atoms(job("MKT"), first_residue=41).residue_numbers.tolist() == [41, 42, 43]
    assert s.atom_chain.tolist() == [0] * np.count_nonzero(s.atom_residue < 3) + [1] * np.count_nonzero(s.atom_residue >= 3)


def test_elements_and_charges_are_the_dictionarys() -> None:
    """Selected atoms: SG is sulphur, NZ and NH2 carry +1."""
    s = build_atoms(job("CKRH"))
    atoms = zip(s.residue_names[s.atom_residue], s.atom_names, s.elements, s.charges, strict=True)
    table = {(str(residue), str(name)): (str(element), int(charge)) for residue, name, element, charge in atoms}
    assert table["CYS", "SG"] == ("S", 0)
    assert table["LYS", "NZ"] == ("N", 1) and table["ARG", "NH2"] == ("N", 1) and table["HIS", "OXT"] == ("O", 0)


@pytest.mark.parametrize(("sequence", "found"), [("", "no residues"), ("MkT", "'k' at position 2"), ("M-", "'-' at position 2")])
def test_wrong_sequences_are_refused(sequence: str, found: str) -> None:
    """A job that did not come from a file is checked as well."""
    with pytest.raises(InputError, match=f"chain A: chain is not a protein sequence; found {found}"):
        build_atoms(Job("x", "x", (Chain("A", Kind.PROTEIN, sequence),)))


@given(st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=1, max_size=3))
def test_tokens_of_standard_residues(sequences: list[str]) -> None:
    """One token a residue; centre CA, representative CB (CA of glycine), frame N, CA, C; slots name the atoms."""
    tokens = tokenise(build_atoms(job(*sequences)))
    s = tokens.structure
    assert len(tokens.residue) == sum(map(len, sequences)) and np.array_equal(tokens.atom_token, s.atom_residue)
    assert all(s.atom_names[tokens.centre_atom] == "CA")
    assert s.atom_names[tokens.representative_atom].tolist() == ["CA" if n == "GLY" else "CB" for n in s.residue_names]
    assert s.atom_names[tokens.frame_atoms].tolist() == [["N", "CA", "C"]] * len(tokens.residue) and tokens.frame_mask.all()
    assert np.array_equal(chemistry.ATOM_NAMES[tokens.restype[tokens.atom_token], tokens.atom_slot], s.atom_names)
    for atoms in (tokens.centre_atom, tokens.representative_atom, *tokens.frame_atoms.T):
        assert np.array_equal(s.atom_residue[atoms], tokens.residue)
    assert np.array_equal(tokens.chain, s.residue_chain)


def without(structure: Structure, drop: np.ndarray) -> Structure:
    fields = ("atom_names", "elements", "charges", "atom_residue")
    return replace(structure, **{name: getattr(structure, name)[~drop] for name in fields})


def test_missing_atoms_mask_the_frame_and_fall_back_to_the_first() -> None:
    """Without CB the representative is the residue's first atom; without C the frame is masked; slots do not move."""
    s = build_atoms(job("AKA"))
    drop = (s.atom_residue == 1) & np.isin(s.atom_names, ["CB", "C"])
    tokens = tokenise(without(s, drop))
    names = tokens.structure.atom_names
    assert tokens.frame_mask.tolist() == [True, False, True]
    assert names[tokens.representative_atom].tolist() == ["CB", "N", "CB"]
    lysine = tokens.atom_slot[tokens.structure.atom_residue == 1]
    assert lysine.tolist() == [0, 1, 3, 5, 6, 7, 8]


def test_impossible_structures_are_refused() -> None:
    """Residues and atoms outside the table, and residues without atoms, are named."""
    s = build_atoms(job("AKA"))
    names = s.atom_names.copy()
    names[7] = "QQ"
    with pytest.raises(InputError, match="LYS has no atom 'QQ'"):
        tokenise(replace(s, atom_names=names))
    with pytest.raises(InputError, match="residue LYS at position 2 has no atoms"):
        tokenise(without(s, s.atom_residue == 1))
