"""`Entry`: one experimental structure, as compact as it can be kept in memory and cropped without its chemistry being built again.

What every standard residue has is looked up by class; only residues that are tokenised atom by atom carry their atoms along.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from structgen.features import chemistry
from structgen.features.chains import ChainRecord
from structgen.features.featurise import along_chain, name_characters
from structgen.features.job import Kind
from structgen.features.tokens import Tokens

UNIT = 0.01  # angstrom: coordinates are whole multiples
REACH = 327.0  # angstrom: an atom's largest coordinate, measured from the centre of its entry
_KINDS = {kind: index for index, kind in enumerate(Kind)}
_FULL = np.array([(1 << int(count)) - 1 for count in chemistry.ATOM_COUNT], np.uint32)  # [32] bits of all slots of a class
_OXT = np.array([(1 << int(count) >> 1) if k <= chemistry.UNKNOWN else 0 for k, count in enumerate(chemistry.ATOM_COUNT)], np.uint32)


@dataclass(frozen=True)
class Entry:
    """T tokens of C chains; of these M are single atoms of residues that are not standard. A resolved atoms, B bonds.

    Bit s of `present` and `resolved` stands for the atom in slot s of the token's class, or (bit 0) for an atom that is a token.
    """

    # tokens
    restype: np.ndarray  # [T] uint8, class of the 32-letter alphabet
    number: np.ndarray  # [T] int32, residue number from 1 in every chain
    residue: np.ndarray  # [T] int32, residue of the entry, ascending
    chain: np.ndarray  # [T] uint16
    single: np.ndarray  # [T] bool: the token is one atom
    present: np.ndarray  # [T] uint32
    resolved: np.ndarray  # [T] uint32, some of `present`
    # resolved atoms, token by token and slot by slot
    xyz: np.ndarray  # [A, 3] int16, in units of 0.01 angstrom
    # chains
    kind: np.ndarray  # [C] uint8, as `Batch.kind`
    entity: np.ndarray  # [C] int32, from 1
    copy: np.ndarray  # [C] int32, from 1
    # bonds inside and between residues, apart from those along chains
    bonds: np.ndarray  # [B, 2] int32, tokens
    # atoms that are tokens, in their order
    element: np.ndarray  # [M] uint8, atomic number
    charge: np.ndarray  # [M] int8
    name: np.ndarray  # [M, 4] uint8, as `Batch.ref_atom_name_chars`
    reference: np.ndarray  # [M, 3] float32, angstrom
    frame: np.ndarray  # [M, 3] int32, tokens of the frame's atoms; -1 where there is none

    @property
    def tokens(self) -> int:
        return len(self.restype)

    def arrays(self) -> dict[str, np.ndarray]:
        """Name to array."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def entry_of_chain(record: ChainRecord) -> Entry:
    """A protein chain of an archive, whose ends are cut: it has no OXT. Atoms that the archive lacks are unresolved."""
    restype = chemistry.encode(record.sequence, chemistry.RESIDUE_OF_LETTER)
    bits = (record.mask.astype(np.uint32) << np.arange(record.mask.shape[1], dtype=np.uint32)).sum(1, dtype=np.uint32)
    return protein_entry(restype, bits, quantised(record.positions[record.mask]))


def protein_entry(restype: np.ndarray, bits: np.ndarray, xyz: np.ndarray) -> Entry:
    """A single protein chain by classes [n], bits of resolved slots [n] and their coordinates [A, 3] int16."""
    n = len(restype)
    present = (_FULL & ~_OXT)[restype]
    return Entry(
        restype=np.asarray(restype, np.uint8),
        number=np.arange(1, n + 1, dtype=np.int32),
        residue=np.arange(n, dtype=np.int32),
        chain=np.zeros(n, np.uint16),
        single=np.zeros(n, bool),
        present=present,
        resolved=np.asarray(bits, np.uint32),
        xyz=xyz,
        kind=np.zeros(1, np.uint8),
        entity=np.ones(1, np.int32),
        copy=np.ones(1, np.int32),
        **no_single_atoms(),
    )


def no_single_atoms() -> dict[str, np.ndarray]:
    """The arrays of an entry without ligands and modified residues."""
    return {
        "bonds": np.zeros((0, 2), np.int32),
        "element": np.zeros(0, np.uint8),
        "charge": np.zeros(0, np.int8),
        "name": np.zeros((0, 4), np.uint8),
        "reference": np.zeros((0, 3), np.float32),
        "frame": np.zeros((0, 3), np.int32),
    }


def entry_of_tokens(tokens: Tokens, positions: np.ndarray, resolved: np.ndarray) -> Entry:
    """Any structure: the tokens of its chains, coordinates [L, 3] in angstrom about their centre, and which atoms have them [L].

    Raises ValueError for an atom that is further than `REACH` from the centre.
    """
    structure = tokens.structure
    single = structure.atomised[tokens.residue]
    bit = (np.uint32(1) << tokens.atom_slot.astype(np.uint32)).astype(np.uint32)
    present, known = (np.zeros(len(single), np.uint32) for _ in range(2))
    np.bitwise_or.at(present, tokens.atom_token, bit)
    np.bitwise_or.at(known, tokens.atom_token[resolved], bit[resolved])
    loose = single[tokens.atom_token]
    frame = np.where(tokens.frame_mask[:, None], tokens.atom_token[tokens.frame_atoms], -1)[single]
    joined = tokens.atom_token[structure.bonds[~along_chain(structure)]]
    return Entry(
        restype=tokens.restype.astype(np.uint8),
        number=structure.residue_numbers[tokens.residue].astype(np.int32),
        residue=tokens.residue.astype(np.int32),
        chain=tokens.chain.astype(np.uint16),
        single=single,
        present=present,
        resolved=known,
        xyz=quantised(positions[resolved]),
        kind=np.array([_KINDS[kind] for kind in structure.chain_kinds], np.uint8),
        entity=structure.chain_entity.astype(np.int32),
        copy=structure.chain_copy.astype(np.int32),
        bonds=joined[joined[:, 0] != joined[:, 1]].astype(np.int32),
        element=chemistry.atomic_numbers(structure.elements[loose]).astype(np.uint8),
        charge=structure.charges[loose].astype(np.int8),
        name=name_characters(structure.atom_names[loose]).astype(np.uint8),
        reference=tokens.reference[loose].astype(np.float32),
        frame=frame.astype(np.int32),
    )


def quantised(positions: np.ndarray) -> np.ndarray:
    """Coordinates in angstrom as whole multiples of `UNIT`. Raises ValueError for what does not fit."""
    if len(positions) and not float(np.abs(positions).max()) <= REACH:
        raise ValueError(f"coordinates reach {np.abs(positions).max():.0f} angstrom from the centre; at most {REACH:.0f} can be kept")
    return np.round(np.asarray(positions, np.float64) / UNIT).astype(np.int16)
