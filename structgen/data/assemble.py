"""Some tokens of an entry as the network's features: the same arrays that `features.featurise` gives, without a job being built."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.data.entry import UNIT, Entry
from structgen.features import chemistry
from structgen.features.featurise import name_characters
from structgen.features.tokens import CENTRE, FRAME, REPRESENTATIVE

_SLOTS = np.arange(chemistry.SLOTS, dtype=np.uint32)
_NUMBER = chemistry.atomic_numbers(chemistry.ELEMENTS)
_NAME = name_characters(chemistry.ATOM_NAMES.ravel()).reshape(*chemistry.ATOM_NAMES.shape, 4)


@dataclass(frozen=True)
class Assembled:
    """n tokens and l atoms: features of a batch without its leading dimension, and the truth."""

    features: dict[str, np.ndarray]  # all fields of `Batch` but those of alignment and templates, and `token_bonds`
    bonds: np.ndarray  # [B, 2] tokens that are joined
    positions: np.ndarray  # [l, 3] float32 angstrom, 0 where unresolved
    resolved: np.ndarray  # [l] bool


def assemble(entry: Entry, chosen: np.ndarray) -> Assembled:
    """The tokens `chosen` (ascending). Residue, token and chain numbers are those of the whole entry.

    A frame of which an atom is not chosen is masked.
    """
    restype, single = entry.restype[chosen].astype(np.int64), entry.single[chosen]
    present = _bits(entry.present[chosen])
    token, slot = np.nonzero(present)
    atom_of = np.where(present, np.cumsum(present).reshape(present.shape) - 1, -1)
    loose = np.cumsum(entry.single)[chosen] - 1  # row of a single atom among those of the entry
    positions, resolved = _truth(entry, chosen, token, slot)
    place = np.full(entry.tokens, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    chain, around = entry.chain[chosen].astype(np.int64), entry.frame[loose[single]]
    features = {
        "token_index": chosen + 1,
        "residue_index": entry.number[chosen].astype(np.int64),
        "asym_id": chain + 1,
        "entity_id": entry.entity[chain].astype(np.int64),
        "sym_id": entry.copy[chain].astype(np.int64),
        "kind": entry.kind[chain].astype(np.int64),
        "restype": restype,
        "token_mask": np.ones(len(chosen), bool),
        **_key_atoms(restype, single, atom_of, np.where(around >= 0, place[around], -1)),
        "atom_to_token": token,
        "atom_slot": slot,
        "ref_space_uid": (np.cumsum(np.diff(entry.residue[chosen], prepend=entry.residue[chosen[:1]]) != 0))[token],
        "ref_mask": np.ones(len(token), bool),
        "atom_mask": np.ones(len(token), bool),
        **_reference(entry, restype[token], slot, single[token], loose[token]),
    }
    bonds = place[entry.bonds]
    return Assembled(features, bonds[(bonds >= 0).all(1)], positions, resolved)


def _bits(words: np.ndarray) -> np.ndarray:
    """[n] words to [n, 24] bool."""
    return ((words[:, None] >> _SLOTS) & 1).astype(bool)


def _truth(entry: Entry, chosen: np.ndarray, token: np.ndarray, slot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = np.bitwise_count(entry.resolved).astype(np.int64)
    start = (np.cumsum(count) - count)[chosen]
    known = _bits(entry.resolved[chosen])
    at = start[:, None] + np.cumsum(known, axis=1) - 1
    resolved = known[token, slot]
    positions = np.zeros((len(token), 3), np.float32)
    positions[resolved] = entry.xyz[at[token, slot][resolved]] * np.float32(UNIT)
    return positions, resolved


def _key_atoms(restype: np.ndarray, single: np.ndarray, atom_of: np.ndarray, around: np.ndarray) -> dict[str, np.ndarray]:
    """Centre, representative and frame of every token; `around` [m, 3] holds the tokens of the frames of single atoms, -1: none."""
    rows = np.arange(len(restype))
    first = np.where(atom_of >= 0, atom_of, atom_of.max(initial=0)).min(1)
    centre, representative = atom_of[rows, CENTRE[restype]], atom_of[rows, REPRESENTATIVE[restype]]
    frame = atom_of[rows[:, None], FRAME[restype]]
    frame[single] = np.where(around >= 0, first[around], -1)
    return {
        "centre_atom": np.where(~single & (centre >= 0), centre, first),
        "representative_atom": np.where(~single & (representative >= 0), representative, first),
        "frame_atoms": np.maximum(frame, 0),
        "frame_mask": np.all(frame >= 0, axis=1),
    }


def _reference(entry: Entry, restype: np.ndarray, slot: np.ndarray, single: np.ndarray, loose: np.ndarray) -> dict[str, np.ndarray]:
    """Conformer, element, charge and name of every atom."""
    found = {
        "ref_pos": chemistry.IDEAL[restype, slot],
        "ref_charge": chemistry.CHARGES[restype, slot].astype(np.float32),
        "ref_element": _NUMBER[restype, slot],
        "ref_atom_name_chars": _NAME[restype, slot],
    }
    own = {"ref_pos": entry.reference, "ref_charge": entry.charge, "ref_element": entry.element, "ref_atom_name_chars": entry.name}
    for name, values in own.items():
        found[name][single] = values[loose[single]]
    return found


def centres(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """[T, 3] positions of the centre atoms in angstrom, and which are resolved [T]."""
    slot = np.where(entry.single, 0, CENTRE[entry.restype]).astype(np.uint32)
    known = ((entry.resolved >> slot) & 1).astype(bool)
    return slot_positions(entry, slot), known


def slot_positions(entry: Entry, slot: np.ndarray) -> np.ndarray:
    """[T, 3] float32 positions of the atom in slot [T] of every token; 0 where it is not resolved."""
    count = np.bitwise_count(entry.resolved).astype(np.int64)
    below = entry.resolved & ((np.uint32(1) << slot) - np.uint32(1))
    at = np.cumsum(count) - count + np.bitwise_count(below)
    known = ((entry.resolved >> slot) & 1).astype(bool)
    positions = np.zeros((entry.tokens, 3), np.float32)
    positions[known] = entry.xyz[at[known]] * np.float32(UNIT)
    return positions
