"""Reference conformers: what a residue's atoms look like on their own (SI 2.8, AF3_ALGORITHMS 5.4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from structgen.features import chemistry
from structgen.features.atoms import Structure
from structgen.features.batch import Batch
from structgen.features.molecules import conformer


def atom_reference(structure: Structure) -> np.ndarray:
    """[L, 3] reference coordinates (angstrom), every residue in a frame of its own, zero where there are none.

    Standard residues: the dictionary's ideal coordinates. Others: RDKit's conformer of the component with a fixed seed, or what it
    falls back to (`molecules.conformer`).
    """
    residue_class = structure.residue_class[structure.atom_residue]
    positions = chemistry.IDEAL[residue_class, _slot(structure, residue_class)]
    starts = np.searchsorted(structure.atom_residue, np.arange(len(structure.residue_names) + 1))
    components = structure.component_of
    for r in np.flatnonzero(structure.atomised).tolist():
        own, component = slice(starts[r], starts[r + 1]), components[str(structure.residue_names[r])]
        index = component.index
        positions[own] = np.nan_to_num(conformer(component)[[index[str(name)] for name in structure.atom_names[own]]])
    return positions


def _slot(structure: Structure, residue_class: np.ndarray) -> np.ndarray:
    """[L] place of every atom in its class; 0 where the class has no such atom."""
    return (chemistry.ATOM_NAMES[residue_class] == structure.atom_names[:, None]).argmax(1)


def pose_conformers(batch: Batch, rng: torch.Generator) -> Batch:
    """Every conformer (one a `ref_space_uid`) centred, then rotated at random and moved by a normal of 1 angstrom.

    The draw belongs to the uid alone, so neither padding nor the order of atoms inside a residue changes it.
    """
    return replace(batch, ref_pos=posed(batch.ref_pos, batch.ref_space_uid, batch.ref_mask & batch.atom_mask, rng))


def posed(positions: Tensor, uid: Tensor, known: Tensor, rng: torch.Generator) -> Tensor:
    """The same of reference positions [b, l, 3], uids [b, l] and which atoms are there [b, l]; 0 where they are not."""
    mask = known[..., None].to(positions)
    conformers = int(uid.max()) + 1
    index = uid[..., None].expand(*uid.shape, 3)
    total = positions.new_zeros(len(uid), conformers, 3).scatter_add_(1, index, positions * mask)
    count = positions.new_zeros(len(uid), conformers, 1).scatter_add_(1, uid[..., None], mask)
    centred = positions - (total / count.clamp(min=1)).gather(1, index)
    draw = torch.randn(len(uid), conformers, 7, generator=rng, device=rng.device).to(positions)
    rotation, shift = rotations(draw[..., :4]), draw[..., 4:]
    own = rotation.flatten(2).gather(1, uid[..., None].expand(*uid.shape, 9)).unflatten(2, (3, 3))
    return (torch.einsum("blij,blj->bli", own, centred) + shift.gather(1, index)) * mask


def rotations(normal: Tensor) -> Tensor:
    """[..., 4] independent normals to [..., 3, 3] rotations, uniform over SO(3): the matrix of the unit quaternion."""
    w, x, y, z = (normal / normal.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
