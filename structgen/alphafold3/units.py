"""The molecules of a crop that move as one: chains, with what is bound to them by a bond; and which of them are copies of each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from structgen.features.batch import Batch
from structgen.typing import Bool, Int, Tensor


@dataclass(frozen=True)
class Units:
    """Units 0, 1, ... of one crop of l atoms."""

    atoms: tuple[Int[Tensor, " a"], ...]  # of every unit, ascending
    keys: tuple[tuple[tuple[int, int, int], ...], ...]  # of every atom: chain within the unit, residue, slot
    kind: tuple[int, ...]  # units of one kind are copies
    copies: tuple[tuple[int, ...], ...]  # the units of every kind
    centre: Bool[Tensor, " l"]  # centre atoms of tokens: what superpositions look at

    def match(self, unit: int, copy: int) -> Int[Tensor, " l"]:
        """For every atom of `unit` the same atom of its copy; -1 where the copy's was cropped, and everywhere else."""
        order = self.centre.new_full(self.centre.shape, -1, dtype=torch.int64)
        there = dict(zip(self.keys[copy], self.atoms[copy].tolist(), strict=True))
        order[self.atoms[unit]] = torch.tensor([there.get(key, -1) for key in self.keys[unit]], device=order.device)
        return order

    def inside(self, unit: int) -> Bool[Tensor, " l"]:
        """Which atoms are the unit's."""
        mask = torch.zeros_like(self.centre)
        mask[self.atoms[unit]] = True
        return mask

    def naming(self, chosen: tuple[int, int]) -> Int[Tensor, " l"]:
        """Every atom its own label, but those of the chosen unit, which get its copy's."""
        own = torch.arange(len(self.centre), device=self.centre.device)
        return torch.where(self.inside(chosen[0]), self.match(*chosen), own)


def units_of(batch: Batch) -> Units:
    """The units of a crop (b = 1)."""
    token = batch.atom_to_token[0]
    real = batch.atom_mask[0]
    chain, entity = batch.asym_id[0][token], batch.entity_id[0]
    groups = _joined(batch)
    atoms, keys, kinds = [], [], []
    for group in groups:
        own = torch.nonzero(real & torch.isin(chain, torch.tensor(group, device=chain.device)))[:, 0]
        place = {c: k for k, c in enumerate(group)}
        chains = [place[c] for c in chain[own].tolist()]
        residues, slots = batch.residue_index[0][token[own]].tolist(), batch.atom_slot[0][own].tolist()
        tokens = _within_residue(token[own].tolist(), chains, residues)
        keys.append(tuple(zip(chains, residues, [24 * t + s for t, s in zip(tokens, slots, strict=True)], strict=True)))
        atoms.append(own)
        kinds.append(tuple(int(entity[batch.asym_id[0] == c][0]) for c in group))
    names = sorted(set(kinds))
    kind = tuple(names.index(k) for k in kinds)
    copies = tuple(tuple(u for u in range(len(kind)) if kind[u] == k) for k in range(len(names)))
    centre = torch.zeros_like(real)
    centre[batch.centre_atom[0][batch.token_mask[0]]] = True
    return Units(tuple(atoms), tuple(keys), kind, copies, centre & real)


def _within_residue(token: list[int], chain: list[int], residue: list[int]) -> list[int]:
    """Number of every atom's token among those of its residue: an atomised residue has one for each atom."""
    first: dict[tuple[int, int], int] = {}
    return [t - first.setdefault((c, r), t) for t, c, r in zip(token, chain, residue, strict=True)]


def _joined(batch: Batch) -> list[list[int]]:
    """Chains that bonds between tokens join, by entity within a group: two sugars on two copies of a protein are not exchanged alone."""
    real, asym = batch.token_mask[0], batch.asym_id[0]
    chains = sorted(set(asym[real].tolist()))
    entity = {c: int(batch.entity_id[0][asym == c][0]) for c in chains}
    leader = {c: c for c in chains}
    first, second = torch.nonzero(batch.token_bonds[0] > 0, as_tuple=True)
    for a, b in zip(asym[first].tolist(), asym[second].tolist(), strict=True):
        old, new = leader[a], leader[b]
        leader = {c: new if group == old else group for c, group in leader.items()}
    groups = [[c for c in chains if leader[c] == group] for group in dict.fromkeys(leader.values())]
    return [sorted(group, key=lambda c: (entity[c], c)) for group in groups]
