"""Tokens: the unit of the trunk (SI 2.6), and everything per token that the chemistry alone decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import Structure
from structgen.features.job import Kind


@dataclass(frozen=True)
class Tokens:
    """N tokens over the L atoms of a structure. All arrays int64 unless said."""

    structure: Structure
    residue: np.ndarray  # [N] index of the residue that the token is (part of)
    restype: np.ndarray  # [N] class of the 32-letter alphabet
    atom_token: np.ndarray  # [L]
    atom_slot: np.ndarray  # [L] position in the fixed order of the residue type (SI 5.3)
    centre_atom: np.ndarray  # [N]
    representative_atom: np.ndarray  # [N]
    frame_atoms: np.ndarray  # [N, 3] (a, b, c) of SI Algorithm 29
    frame_mask: np.ndarray  # [N] bool

    @property
    def chain(self) -> np.ndarray:
        """[N] index of the chain of every token."""
        return self.structure.residue_chain[self.residue]


def tokenise(structure: Structure) -> Tokens:
    """One token a standard residue (SI 2.6, AF3_ALGORITHMS 5.1). Atoms may be missing; then a frame is masked.

    Raises `InputError` for a chain that is not a protein, a residue that is no standard one, or an atom that its residue cannot have.
    """
    restype = _restypes(structure)
    slot = _slots(structure, restype)
    atom_of_slot = np.full((len(restype), chemistry.SLOTS), -1, np.int64)
    atom_of_slot[structure.atom_residue, slot] = np.arange(len(slot))
    rows = np.arange(len(restype))
    first = np.searchsorted(structure.atom_residue, rows)
    if len(empty := np.flatnonzero(np.bincount(structure.atom_residue, minlength=len(rows)) == 0)):
        raise InputError(f"residue {structure.residue_names[empty[0]]} at position {empty[0] + 1} has no atoms")
    frame = atom_of_slot[:, _FRAME]
    centre, representative = atom_of_slot[:, _CENTRE], atom_of_slot[rows, _REPRESENTATIVE[restype]]
    return Tokens(
        structure=structure,
        residue=rows,
        restype=restype,
        atom_token=structure.atom_residue,
        atom_slot=slot,
        centre_atom=np.where(centre < 0, first, centre),
        representative_atom=np.where(representative < 0, first, representative),
        frame_atoms=np.maximum(frame, 0),
        frame_mask=np.all(frame >= 0, axis=1),
    )


_FRAME = [0, 1, 2]  # N, CA, C lead every amino acid
_CENTRE = 1
_REPRESENTATIVE = np.array([1 if code == "GLY" else 4 for code in chemistry.CLASSES])
_SORTED_CODES = np.sort(np.array(chemistry.CLASSES[: chemistry.UNKNOWN + 1], "<U5"))
_SORTED_CLASSES = np.argsort(np.array(chemistry.CLASSES[: chemistry.UNKNOWN + 1], "<U5"))


def _restypes(structure: Structure) -> np.ndarray:
    for id, kind in zip(structure.chain_ids, structure.chain_kinds, strict=True):
        if kind is not Kind.PROTEIN:
            raise InputError(f"chain {id}: {kind.value} is not built yet", expected="protein chains", remedy="leave the chain out")
    place = np.minimum(np.searchsorted(_SORTED_CODES, structure.residue_names), len(_SORTED_CODES) - 1)
    unknown = np.flatnonzero(_SORTED_CODES[place] != structure.residue_names)
    if len(unknown):
        raise InputError(
            f"residue {structure.residue_names[unknown[0]]} at position {unknown[0] + 1} is not a standard amino acid",
            expected="one of the 20 or UNK",
            remedy="modified residues are not built yet: use the parent amino acid",
        )
    return _SORTED_CLASSES[place]


def _slots(structure: Structure, restype: np.ndarray) -> np.ndarray:
    """[L] slot of every atom: the row of the residue type's names that equals the atom's name."""
    matches = chemistry.ATOM_NAMES[restype[structure.atom_residue]] == structure.atom_names[:, None]
    slot = matches.argmax(1)
    wrong = np.flatnonzero(~matches[np.arange(len(slot)), slot])
    if len(wrong):
        residue = structure.residue_names[structure.atom_residue[wrong[0]]]
        raise InputError(f"{residue} has no atom '{structure.atom_names[wrong[0]]}'", expected="heavy atoms of the standard residue")
    return slot
