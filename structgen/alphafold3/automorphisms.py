"""Atoms of a residue or ligand that cannot be told apart: the orders of its atoms that keep elements, bonds and handedness.

Bonds and handedness are read from the reference conformer, so one rule serves amino acids, nucleotides and every ligand. Orders that swap
two equal neighbours of a tetrahedral centre (CD1 and CD2 of LEU) would turn its handedness over and are left out, as those names have a
meaning; the two sides of the ring of PHE, the oxygens of a carboxylate and a turn of three equal oxygens about a phosphorus stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from structgen.features.batch import Batch
from structgen.typing import Int, Tensor

MOST = 64  # orders of one residue: more would be tried in vain
STEPS = 200_000  # of the search, after which what was found must do
RADII = {1: 0.31, 5: 0.84, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11, 15: 1.07, 16: 1.05, 17: 1.02, 34: 1.20, 35: 1.20, 53: 1.39}
OTHER = 1.5  # angstrom: metals
SLACK = 0.35  # angstrom beyond the sum of covalent radii
FLAT = 0.5  # angstrom^3: neighbours of a flat centre span less, of a tetrahedral one about 2 to 5

Sort = tuple[tuple[int, ...], ...]


def equal_orders(batch: Batch) -> Iterator[tuple[Int[Tensor, "r a"], Int[Tensor, "k a"]]]:
    """For every sort of residue in a crop (b = 1) with more than one order: the atoms of its residues, and the orders, the first as it is.

    Atoms that are bound to another residue keep their place: those of ligands by the batch's bonds, N and C of residues by their own.
    """
    held = _held(batch)
    uid, real = batch.ref_space_uid[0], batch.atom_mask[0]
    device = uid.device
    groups: dict[Sort, list[Tensor]] = {}
    for residue in torch.unique(uid[real]).tolist():
        atoms = torch.nonzero((uid == residue) & real)[:, 0]
        if len(atoms) > 1:
            groups.setdefault(_sort(batch, atoms, held), []).append(atoms)
    for sort, members in groups.items():
        elements, fixed = [atom[0] for atom in sort], [k for k, atom in enumerate(sort) if atom[1]]
        found = orders(elements, batch.ref_pos[0][members[0]].double().cpu().numpy(), fixed)
        if len(found) > 1:
            yield torch.stack(members), torch.tensor(found, device=device)


def _held(batch: Batch) -> Tensor:
    """[l] bool: the only atom of its token, which has a bond to a token of another residue."""
    token, uid = batch.atom_to_token[0], batch.ref_space_uid[0]
    own = torch.zeros_like(batch.kind[0]).scatter_(0, token, uid)
    count = torch.zeros_like(batch.kind[0]).scatter_add_(0, token, batch.atom_mask[0].to(torch.int64))
    bonds = (batch.token_bonds[0] > 0) | (batch.token_bonds[0].T > 0)
    return ((bonds & (own[:, None] != own)).any(1) & (count == 1))[token]


def _sort(batch: Batch, atoms: Tensor, held: Tensor) -> Sort:
    """What two residues must share to be of one sort: elements, which atoms are held, and names, atom by atom."""
    columns = (batch.ref_element[0][atoms].tolist(), held[atoms].tolist(), batch.ref_atom_name_chars[0][atoms].tolist())
    return tuple((element, int(fixed), *name) for element, fixed, name in zip(*columns, strict=True))


def orders(elements: Sequence[int], positions: np.ndarray, fixed: Sequence[int] = ()) -> list[list[int]]:
    """The orders of the atoms of one molecule, at most `MOST`, the first the one that is given. Without a conformer there is no other.

    `fixed` atoms keep their place.
    """
    bonds = bonded(elements, positions)
    start = list(range(len(elements)))
    if not bonds.any():
        return [start]
    colours = _refined([-1 - fixed.index(k) if k in fixed else element for k, element in enumerate(elements)], bonds)
    found = [order for order in _search(colours, bonds) if _keeps_hands(order, bonds, positions)]
    return [start, *(order for order in found if order != start)][:MOST]


def bonded(elements: Sequence[int], positions: np.ndarray) -> np.ndarray:
    """[a, a] bool: atoms as near as the sum of their covalent radii allows."""
    radius = np.array([RADII.get(e, OTHER) for e in elements])
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return (distance < radius[:, None] + radius + SLACK) & (distance > 0.5)


def _refined(colours: list[int], bonds: np.ndarray) -> list[int]:
    """Colours that differ wherever the surroundings do: what an order may map on each other (Weisfeiler and Leman)."""
    while True:
        seen = [(c, tuple(sorted(colours[j] for j in np.flatnonzero(bonds[i])))) for i, c in enumerate(colours)]
        names = {s: k for k, s in enumerate(sorted(set(seen)))}
        finer = [names[s] for s in seen]
        if len(names) == len(set(colours)):
            return finer
        colours = finer


def _search(colours: list[int], bonds: np.ndarray) -> Iterator[list[int]]:
    """Every order that keeps colours and bonds, atom after atom along the bonds, until `STEPS` are used up."""
    sequence = _walk(bonds)
    budget = [STEPS]

    def extend(placed: dict[int, int]) -> Iterator[list[int]]:
        budget[0] -= 1
        if budget[0] < 0:
            return
        if len(placed) == len(sequence):
            yield [placed[i] for i in range(len(colours))]
            return
        atom = sequence[len(placed)]
        used = set(placed.values())
        for image in range(len(colours)):
            if image in used or colours[image] != colours[atom]:
                continue
            if all(bonds[atom, a] == bonds[image, b] for a, b in placed.items()):
                yield from extend(placed | {atom: image})

    yield from extend({})


def _walk(bonds: np.ndarray) -> list[int]:
    """All atoms, each after one that it is bound to where there is one."""
    order: list[int] = []
    for start in range(len(bonds)):
        waiting = [start]
        while waiting:
            atom = waiting.pop(0)
            if atom not in order:
                order.append(atom)
                waiting += np.flatnonzero(bonds[atom]).tolist()
    return order


def _keeps_hands(order: Sequence[int], bonds: np.ndarray, positions: np.ndarray) -> bool:
    """Whether the neighbours of every centre that is not flat keep their sense of turning."""
    for atom in range(len(order)):
        around = np.flatnonzero(bonds[atom])[:3]
        if len(around) < 3:
            continue
        here = np.linalg.det(positions[around] - positions[atom])
        there = np.linalg.det(positions[[order[j] for j in around]] - positions[order[atom]])
        if abs(here) > FLAT and here * there < 0:
            return False
    return True
