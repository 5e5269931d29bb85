"""Tokens: the unit of the trunk (SI 2.6), and everything per token that the chemistry alone decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.features.atoms import Structure


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
