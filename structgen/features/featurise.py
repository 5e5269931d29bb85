"""Tokens and alignments to the network's input, and batches made larger or put together. Everything here is free of chance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from structgen.features import chemistry
from structgen.features.atoms import Structure
from structgen.features.batch import Batch
from structgen.features.job import Kind
from structgen.features.msa import AlignmentFeatures, Msa, RowLimits, alignment_features
from structgen.features.templates import Templates, template_arrays
from structgen.features.tokens import Tokens

DEFAULT_LIMITS = RowLimits()
_KINDS = {kind: index for index, kind in enumerate(Kind)}
AXES = {f.name: re.findall(r"[\"'](.*)[\"']", str(f.type))[0].split() for f in fields(Batch)}


def featurise(
    tokens: Tokens, msas: Sequence[Msa | None], limits: RowLimits = DEFAULT_LIMITS, templates: Sequence[Templates | None] = ()
) -> Batch:
    """The features of one job (b = 1, no padding). `msas` holds one alignment or None a chain, `templates` too or is empty.

    Conformers are in the dictionary's frame: `pose_conformers` turns them by a seed, so this result can be cached.
    """
    columns = _alignment_arrays(alignment_features(tokens.structure, msas, limits), tokens.residue)
    arrays = _token_features(tokens) | _atom_features(tokens) | columns | template_arrays(tokens, templates)
    return Batch(**{name: torch.from_numpy(np.ascontiguousarray(array))[None] for name, array in arrays.items()})


def pad(batch: Batch, *, tokens: int = 0, atoms: int = 0, rows: int = 0, templates: int = 0) -> Batch:
    """Zeros, with false masks, behind the real entries up to the sizes given; 0 leaves a size as it is.

    Raises ValueError for a size below the batch's own.
    """
    t, s = batch.template_restype.shape[1], batch.msa.shape[1]
    sizes = {"n": tokens or batch.tokens, "l": atoms or batch.atoms, "s": rows or s, "t": templates or t}
    return Batch(**{name: _padded(name, tensor, sizes) for name, tensor in batch.tensors().items()})


def collate(batches: Sequence[Batch]) -> Batch:
    """Examples put together along b, each padded to the largest."""
    sizes = [(b.tokens, b.atoms, b.msa.shape[1], b.template_restype.shape[1]) for b in batches]
    tokens, atoms, rows, templates = (max(column) for column in zip(*sizes, strict=True))
    padded = [pad(b, tokens=tokens, atoms=atoms, rows=rows, templates=templates).tensors() for b in batches]
    return Batch(**{name: torch.cat([p[name] for p in padded]) for name in padded[0]})


def _padded(name: str, tensor: Tensor, sizes: dict[str, int]) -> Tensor:
    grow = [sizes.get(axis, size) - size for axis, size in zip(AXES[name], tensor.shape, strict=True)]
    if min(grow) < 0:
        raise ValueError(f"{name} of shape {tuple(tensor.shape)} cannot be padded to {sizes}")
    return F.pad(tensor, [amount for extra in reversed(grow) for amount in (0, extra)]) if any(grow) else tensor


def _token_features(tokens: Tokens) -> dict[str, np.ndarray]:
    """AF3_ALGORITHMS 5.2, 5.5 and 5.7."""
    structure, chain, n = tokens.structure, tokens.chain, len(tokens.residue)
    return {
        "token_index": np.arange(1, n + 1),
        "residue_index": structure.residue_numbers[tokens.residue],
        "asym_id": chain + 1,
        "entity_id": structure.chain_entity[chain],
        "sym_id": structure.chain_copy[chain],
        "kind": np.array([_KINDS[kind] for kind in structure.chain_kinds])[chain],
        "restype": tokens.restype,
        "token_bonds": token_bonds(tokens),
        "token_mask": np.ones(n, bool),
        "centre_atom": tokens.centre_atom,
        "representative_atom": tokens.representative_atom,
        "frame_atoms": tokens.frame_atoms,
        "frame_mask": tokens.frame_mask,
    }


def token_bonds(tokens: Tokens) -> np.ndarray:
    """[N, N] float32, symmetric: 1 between the tokens of a bond inside a ligand or an atomised residue, or of one that a job names (5.5).

    Bonds of a modified residue to its neighbours in the chain are no entries, like those between standard residues.
    """
    structure, n = tokens.structure, len(tokens.residue)
    bonds = structure.bonds[~along_chain(structure)]
    first, second = tokens.atom_token[bonds].T
    matrix = np.zeros((n, n), np.float32)
    matrix[first, second] = matrix[second, first] = first != second
    return matrix


def along_chain(structure: Structure) -> np.ndarray:
    """[B] bool: the bond joins neighbouring residues of a polymer."""
    ends = structure.atom_residue[structure.bonds]
    polymer = np.array([kind is not Kind.LIGAND for kind in structure.chain_kinds], bool)[structure.residue_chain]
    same = structure.residue_chain[ends[:, 0]] == structure.residue_chain[ends[:, 1]]
    return same & polymer[ends[:, 0]] & (np.abs(ends[:, 0] - ends[:, 1]) == 1)


def _atom_features(tokens: Tokens) -> dict[str, np.ndarray]:
    """AF3_ALGORITHMS 5.4."""
    structure, present = tokens.structure, np.ones(len(tokens.atom_token), bool)
    return {
        "atom_to_token": tokens.atom_token,
        "atom_slot": tokens.atom_slot,
        "ref_pos": tokens.reference,
        "ref_charge": structure.charges.astype(np.float32),
        "ref_mask": present,
        "ref_element": chemistry.atomic_numbers(structure.elements),
        "ref_atom_name_chars": name_characters(structure.atom_names),
        "ref_space_uid": structure.atom_residue,
        "atom_mask": present,
    }


def name_characters(names: np.ndarray) -> np.ndarray:
    """[L, 4] ASCII code - 32 of atom names, left-justified and filled with blanks (0)."""
    codes = np.ascontiguousarray(names.astype("<U4")).view(np.uint32).reshape(-1, 4).astype(np.int64)
    return np.clip(codes - 32, 0, 63)


def _alignment_arrays(features: AlignmentFeatures, residue: np.ndarray) -> dict[str, np.ndarray]:
    """AF3_ALGORITHMS 5.6. `residue` [N] is the column of every token."""
    deletions = features.deletions[:, residue].astype(np.float32)
    return {
        "profile": features.profile[residue],
        "deletion_mean": features.deletion_mean[residue],
        "msa": features.rows[:, residue].astype(np.int64),
        "has_deletion": np.minimum(deletions, 1),
        "deletion_value": np.arctan(deletions / 3) * np.float32(2 / np.pi),
        "msa_mask": np.ones(deletions.shape, bool),
    }
