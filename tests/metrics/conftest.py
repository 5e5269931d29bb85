"""A real structure, read once: the SARS-CoV-2 main protease with its peptide inhibitor (PDB 6LU7)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import pytest

from structgen.features.atoms import Structure
from structgen.features.job import Kind

FILE = Path(__file__).parents[2] / "data/examples/structures/6lu7.cif.gz"


@dataclass(frozen=True)
class Real:
    """A structure with its coordinates [L, 3]."""

    structure: Structure
    positions: np.ndarray


@pytest.fixture(scope="session")
def protease() -> Real:
    """Chain A of 6LU7: 306 residues, all resolved, heavy atoms of the protein only."""
    model = gemmi.read_structure(str(FILE))
    model.remove_alternative_conformations()
    model.remove_hydrogens()
    model.remove_ligands_and_waters()
    residues = list(model[0]["A"])
    atoms = [(index, atom) for index, residue in enumerate(residues) for atom in residue]
    structure = Structure(
        chain_ids=("A",),
        chain_kinds=(Kind.PROTEIN,),
        chain_sequences=(gemmi.one_letter_code([residue.name for residue in residues]),),
        chain_entity=np.array([1]),
        chain_copy=np.array([1]),
        residue_names=np.array([residue.name for residue in residues]),
        residue_numbers=np.array([residue.label_seq for residue in residues]),
        residue_chain=np.zeros(len(residues), np.int64),
        atom_names=np.array([atom.name for _, atom in atoms]),
        elements=np.array([atom.element.name.upper() for _, atom in atoms]),
        charges=np.zeros(len(atoms), np.int64),
        atom_residue=np.array([index for index, _ in atoms]),
    )
    return Real(structure, np.array([atom.pos.tolist() for _, atom in atoms]))
