"""The one type that holds a molecular structure's atoms, and how it is built from a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.job import Chain, Job, Kind


@dataclass(frozen=True)
class Structure:
    """Heavy atoms of a job in file order: chains in input order, residues by number, atoms in the fixed order of SI 5.3.

    L atoms, R residues, C chains. No coordinates: these belong to a `Prediction` or to a training example.
    """

    chain_ids: tuple[str, ...]  # [C] label and author id, one each
    chain_kinds: tuple[Kind, ...]  # [C]
    chain_sequences: tuple[str, ...]  # [C] one-letter codes as understood
    chain_entity: np.ndarray  # [C] int64, from 1: equal for equal sequences
    chain_copy: np.ndarray  # [C] int64, from 1: copy number of the chain inside its entity (SI's sym_id)
    residue_names: np.ndarray  # [R] <U5, component codes (ALA, UNK, ...)
    residue_numbers: np.ndarray  # [R] int64, from 1 in every chain
    residue_chain: np.ndarray  # [R] int64, index of the chain
    atom_names: np.ndarray  # [L] <U4
    elements: np.ndarray  # [L] <U2, upper case
    charges: np.ndarray  # [L] int64, formal charge
    atom_residue: np.ndarray  # [L] int64, index of the residue

    @property
    def atom_chain(self) -> np.ndarray:
        """[L] index of the chain of every atom."""
        return self.residue_chain[self.atom_residue]


def build_atoms(job: Job, *, first_residue: int = 1, ends_chain: bool = True) -> Structure:
    """The heavy atoms of a job. Residues of every chain count from `first_residue`; a chain's last residue has OXT if `ends_chain`.

    Letters outside the 20 standard ones are UNK, built up to CB. Raises `InputError` for a chain that is not a protein or that
    holds a character which is no letter.
    """
    _refuse_what_is_not_built(job)
    classes = np.concatenate([_residue_classes(chain) for chain in job.chains])
    lengths = np.array([len(chain.sequence) for chain in job.chains])
    residue_chain = np.repeat(np.arange(len(lengths)), lengths)
    ends = np.cumsum(lengths)
    counts = chemistry.ATOM_COUNT[classes] - 1  # the last slot of an amino acid is OXT
    if ends_chain:
        counts[ends - 1] += 1
    atom_residue = np.repeat(np.arange(len(classes)), counts)
    slot = np.arange(len(atom_residue)) - np.repeat(np.cumsum(counts) - counts, counts)
    atom_class = classes[atom_residue]
    entity, copy = _entities(job)
    return Structure(
        chain_ids=tuple(chain.id for chain in job.chains),
        chain_kinds=tuple(chain.kind for chain in job.chains),
        chain_sequences=tuple(chain.sequence for chain in job.chains),
        chain_entity=entity,
        chain_copy=copy,
        residue_names=_CODES[classes],
        residue_numbers=np.arange(len(classes)) - (ends - lengths)[residue_chain] + first_residue,
        residue_chain=residue_chain,
        atom_names=chemistry.ATOM_NAMES[atom_class, slot],
        elements=chemistry.ELEMENTS[atom_class, slot],
        charges=chemistry.CHARGES[atom_class, slot],
        atom_residue=atom_residue,
    )


def _refuse_what_is_not_built(job: Job) -> None:
    """Nothing of a job is left out in silence."""
    found = [f"a bond of chain {bond.first.chain} to chain {bond.second.chain}" for bond in job.bonds[:1]]
    for chain in job.chains:
        found += [f"{m.code} at position {m.position} of chain {chain.id}" for m in chain.modifications[:1]]
        found += [f"cyclic chain {chain.id}"] if chain.cyclic else []
    if found:
        raise InputError("part of the job is not built yet", where=job.source, found=found[0], expected="plain linear proteins")


_CODES = np.array(chemistry.CLASSES, "<U5")


def _residue_classes(chain: Chain) -> np.ndarray:
    if chain.kind is not Kind.PROTEIN:
        raise InputError(f"chain {chain.id}: {chain.kind.value} is not built yet", expected="protein chains", remedy="leave the chain out")
    classes = chemistry.encode(chain.sequence, chemistry.RESIDUE_OF_LETTER)
    bad = np.flatnonzero(classes == chemistry.ILLEGAL)
    if len(bad) or not len(classes):
        found = f"{chain.sequence[bad[0]]!r} at position {bad[0] + 1}" if len(bad) else "no residues"
        raise InputError(f"chain {chain.id} is not a protein sequence", found=found, expected="capitals A-Z", remedy="correct the sequence")
    return classes


def _entities(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Entity numbers by first appearance of a chain's content, and the copy number of every chain inside its entity."""
    seen: dict[tuple[Any, ...], int] = {}
    entity = np.array([seen.setdefault(chain.content, len(seen) + 1) for chain in job.chains], np.int64)
    copy = np.array([np.count_nonzero(entity[: i + 1] == e) for i, e in enumerate(entity)], np.int64)
    return entity, copy
