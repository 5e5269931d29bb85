"""A written structure as three other programs read it: one row an atom, compared field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gemmi
import mdtraj
import numpy as np
from Bio import SeqIO
from Bio.PDB import MMCIFParser, PDBParser
from Bio.PDB.Structure import Structure
from Bio.SeqUtils import seq1
from mdtraj.formats.pdb.pdbstructure import PdbStructure


@dataclass(frozen=True)
class ReadBack:
    """What a program found in a file: identity of every atom, positions [L, 3], B [L] (None where the program reads none)."""

    atoms: list[tuple[str, int, str, str, str]]  # chain, number, residue, name, element
    positions: np.ndarray
    b: np.ndarray | None


def by_gemmi(path: Path) -> ReadBack:
    structure = gemmi.read_structure(str(path))
    assert len(structure) == 1
    found = list(structure[0].all())
    return ReadBack(
        [(c.chain.name, c.residue.seqid.num, c.residue.name, c.atom.name, c.atom.element.name.upper()) for c in found],
        np.array([c.atom.pos.tolist() for c in found]),
        np.array([c.atom.b_iso for c in found]),
    )


def by_biopython(path: Path) -> ReadBack:
    structure = _biopython(path)
    assert len(structure) == 1
    found = list(structure.get_atoms())
    residues = [atom.get_parent() for atom in found]
    identity = zip(found, residues, strict=True)
    return ReadBack(
        [(residue.get_parent().id, residue.id[1], residue.resname.strip(), atom.name, atom.element) for atom, residue in identity],
        np.array([atom.coord for atom in found]),
        np.array([atom.bfactor for atom in found]),
    )


def by_mdtraj(path: Path) -> ReadBack:
    """mdtraj drops B factors of mmCIF; those of PDB are taken from its own parser of the format."""
    trajectory = mdtraj.load_pdb(str(path), standard_names=False) if path.suffix == ".pdb" else mdtraj.load(str(path))
    found = [(atom, atom.residue) for atom in trajectory.topology.atoms]
    atoms = [(str(r.chain.chain_id), r.resSeq, r.name, atom.name, atom.element.symbol.upper()) for atom, r in found]
    return ReadBack(atoms, trajectory.xyz[0] * 10.0, np.array(list(_mdtraj_b(path))) if path.suffix == ".pdb" else None)


def _mdtraj_b(path: Path) -> Iterator[float]:
    with open(path) as file:
        for atom in PdbStructure(file).iter_atoms():
            yield atom.get_temperature_factor()


def gemmi_sequences(path: Path) -> dict[str, str]:
    """Chain to sequence: of SEQRES or the entities, checked against the residues that have atoms."""
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    sequences = {}
    for chain in structure[0]:
        polymer = chain.get_polymer()
        sequences[chain.name] = gemmi.one_letter_code(structure.get_entity_of(polymer).full_sequence)
        assert gemmi.one_letter_code(polymer.extract_sequence()) == sequences[chain.name]
    return sequences


def biopython_sequences(path: Path) -> dict[str, str]:
    """Chain to sequence: as declared, checked against the residues that have atoms (its own reader of these cuts X at the ends)."""
    declared = {record.annotations["chain"]: str(record.seq) for record in SeqIO.parse(path, f"{path.suffix[1:]}-seqres")}
    seen = {chain.id: "".join(seq1(residue.resname) for residue in chain) for chain in _biopython(path).get_chains()}
    assert declared == seen
    return declared


def _biopython(path: Path) -> Structure:
    parser = MMCIFParser(QUIET=True) if path.suffix == ".cif" else PDBParser(QUIET=True, PERMISSIVE=False)
    return parser.get_structure("x", str(path))
