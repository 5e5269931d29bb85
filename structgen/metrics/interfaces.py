"""Scores of a prediction by pair of chains and by residue."""

from __future__ import annotations

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.job import Kind
from structgen.features.tokens import Tokens


def interface_scores(structure: Structure, chain_iptm: np.ndarray) -> np.ndarray:
    """[C, C] what ranks samples by one interface (SI 5.9.3): the mean ipTM of the two chains, or of a ligand and a polymer the ligand's.

    Symmetric, NaN on the diagonal.
    """
    ligand = np.array([kind is Kind.LIGAND for kind in structure.chain_kinds])
    row = np.broadcast_to(chain_iptm[:, None], (len(ligand), len(ligand)))
    scores = np.where(ligand[:, None] == ligand, (row + row.T) / 2, np.where(ligand[:, None], row, row.T))
    np.fill_diagonal(scores, np.nan)
    return scores


def chain_pair_pde(tokens: Tokens, pde: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[C, C] mean and least PDE in angstrom over the pairs of tokens of two chains."""
    chains = np.arange(len(tokens.structure.chain_ids))
    starts = np.searchsorted(tokens.chain, chains)
    sizes = np.bincount(tokens.chain, minlength=len(chains))
    total = np.add.reduceat(np.add.reduceat(pde.astype(np.float64), starts, 0), starts, 1)
    return total / (sizes[:, None] * sizes), np.minimum.reduceat(np.minimum.reduceat(pde, starts, 0), starts, 1)


def residue_plddt(structure: Structure, atom_plddt: np.ndarray) -> np.ndarray:
    """[R] mean over the atoms of every residue, 0-100; for a modified residue it stands for the whole (SI 5.9.3)."""
    size = len(structure.residue_names)
    return np.bincount(structure.atom_residue, atom_plddt, size) / np.maximum(np.bincount(structure.atom_residue, minlength=size), 1)
