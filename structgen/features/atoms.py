"""The one type that holds a molecular structure's atoms, and how it is built from a job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Kind(str, Enum):
    """What a chain is made of."""

    PROTEIN = "protein"
    RNA = "rna"
    DNA = "dna"
    LIGAND = "ligand"


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
