"""Tokens: the unit of the trunk (SI 2.6), and everything per token that the chemistry alone decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import Structure
from structgen.features.conformers import atom_reference

COLLINEAR = float(np.cos(np.radians(25)))  # SI 4.3.2: less than 25 degrees from a straight line


@dataclass(frozen=True)
class Tokens:
    """N tokens over the L atoms of a structure. All arrays int64 unless said."""

    structure: Structure
    residue: np.ndarray  # [N] index of the residue that the token is (part of)
    restype: np.ndarray  # [N] class of the 32-letter alphabet
    atom_token: np.ndarray  # [L]
    atom_slot: np.ndarray  # [L] position in the fixed order of the residue type (SI 5.3), 0 for an atom that is a token
    centre_atom: np.ndarray  # [N]
    representative_atom: np.ndarray  # [N]
    frame_atoms: np.ndarray  # [N, 3] (a, b, c) of SI Algorithm 29
    frame_mask: np.ndarray  # [N] bool
    reference: np.ndarray  # [L, 3] float32, angstrom: every residue's conformer in a frame of its own

    @property
    def chain(self) -> np.ndarray:
        """[N] index of the chain of every token."""
        return self.structure.residue_chain[self.residue]


def tokenise(structure: Structure) -> Tokens:
    """One token a standard residue of a polymer, one an atom of everything else (SI 2.6). Atoms may be missing; then a frame is masked.

    Raises `InputError` for a residue without atoms and for an atom that its standard residue cannot have.
    """
    if len(empty := np.flatnonzero(np.bincount(structure.atom_residue, minlength=len(structure.residue_names)) == 0)):
        raise InputError(f"residue {structure.residue_names[empty[0]]} at position {empty[0] + 1} has no atoms")
    single = structure.atomised[structure.atom_residue]
    starts = single | (np.diff(structure.atom_residue, prepend=-1) != 0)
    first = np.flatnonzero(starts)
    residue, atom_token = structure.atom_residue[first], np.cumsum(starts) - 1
    restype = structure.residue_class[residue]
    slot = np.where(single, 0, _slots(structure, structure.residue_class))
    atom_of_slot = np.full((len(first), chemistry.SLOTS), -1, np.int64)
    atom_of_slot[atom_token, slot] = np.arange(len(slot))
    standard, rows = ~single[first], np.arange(len(first))
    centre, representative = atom_of_slot[rows, CENTRE[restype]], atom_of_slot[rows, REPRESENTATIVE[restype]]
    reference = atom_reference(structure)
    frame = np.where(standard[:, None], atom_of_slot[rows[:, None], FRAME[restype]], -1)
    frame[~standard] = _nearest_frames(structure, reference, first[~standard])
    return Tokens(
        structure=structure,
        residue=residue,
        restype=restype,
        atom_token=atom_token,
        atom_slot=slot,
        centre_atom=np.where(standard & (centre >= 0), centre, first),
        representative_atom=np.where(standard & (representative >= 0), representative, first),
        frame_atoms=np.maximum(frame, 0),
        frame_mask=np.all(frame >= 0, axis=1),
        reference=reference,
    )


def check_size(tokens: Tokens, most: int, where: str = "") -> None:
    """Raises `InputError` for a job of more than `most` tokens: what a network's memory grows with, squared."""
    if len(tokens.residue) <= most:
        return
    counts = np.bincount(tokens.chain)
    largest = int(counts.argmax())
    found = f"{len(tokens.residue):,} tokens in {len(counts)} chain(s), the largest {tokens.structure.chain_ids[largest]}"
    remedy = "predict domains or fewer chains, or raise limits.tokens where memory allows"
    raise InputError(
        "job is too large", where=where, found=f"{found} with {counts[largest]:,}", expected=f"at most {most:,}", remedy=remedy
    )


def _named_slots(names: dict[str, str]) -> np.ndarray:
    """[32] slot of an atom in every class, by kind of residue; 0 where the class has no such atom."""
    slots = np.zeros(len(chemistry.CLASSES), np.int64)
    for number, code in enumerate(chemistry.CLASSES[: chemistry.GAP]):
        own = chemistry.ATOM_NAMES[number].tolist()
        kind = "protein" if number <= chemistry.UNKNOWN else code[-1]
        slots[number] = own.index(names[code if code in names else kind])
    return slots


_NUCLEIC = dict.fromkeys("AGCUTN", "C1'")
CENTRE = _named_slots({"protein": "CA", **_NUCLEIC})
REPRESENTATIVE = _named_slots({"protein": "CB", "GLY": "CA", "A": "C4", "G": "C4", "C": "C2", "U": "C2", "T": "C2", "N": "C1'"})
_FRAME_NAMES = (("N", "C1'"), ("CA", "C3'"), ("C", "C4'"))
FRAME = np.stack([_named_slots({"protein": acid, **dict.fromkeys("AGCUTN", nucleic)}) for acid, nucleic in _FRAME_NAMES], 1)


def _slots(structure: Structure, residue_class: np.ndarray) -> np.ndarray:
    """[L] slot of every atom: the row of the residue type's names that equals the atom's name."""
    matches = chemistry.ATOM_NAMES[residue_class[structure.atom_residue]] == structure.atom_names[:, None]
    slot = matches.argmax(1)
    wrong = np.flatnonzero(~matches[np.arange(len(slot)), slot] & ~structure.atomised[structure.atom_residue])
    if len(wrong):
        residue = structure.residue_names[structure.atom_residue[wrong[0]]]
        raise InputError(f"{residue} has no atom '{structure.atom_names[wrong[0]]}'", expected="heavy atoms of the standard residue")
    return slot


def _nearest_frames(structure: Structure, reference: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """[n, 3] frames of atoms that are tokens (SI 4.3.2), all -1 where there is none.

    b is the atom, a and c the nearest and the next atom of its residue in the reference conformer, the first of equals. There is no
    frame in a residue of fewer than three atoms, and none of three atoms near a line.
    """
    frames = np.full((len(atoms), 3), -1, np.int64)
    residue = structure.atom_residue
    for r in np.unique(residue[atoms]).tolist():
        start, stop = np.searchsorted(residue, [r, r + 1])
        if stop - start < 3:
            continue
        points = reference[start:stop].astype(np.float64)
        distance = np.linalg.norm(points[:, None] - points, axis=-1)
        np.fill_diagonal(distance, -1)
        near = np.argsort(distance, axis=1, kind="stable")[:, 1:3]
        left, right = points[near[:, 0]] - points, points[near[:, 1]] - points
        length = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        bent = (np.abs((left * right).sum(1)) < COLLINEAR * length) & np.isfinite(length)
        own = np.stack([near[:, 0], np.arange(stop - start), near[:, 1]], 1) + start
        frames[np.searchsorted(atoms, np.flatnonzero(bent) + start)] = own[bent]
    return frames
