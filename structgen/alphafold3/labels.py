"""What a training example says the answer is, and everything of it that no prediction changes, made once per crop."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from structgen.features.batch import Batch
from structgen.typing import Bool, Float, Int, Tensor, typed

PROTEIN, RNA, DNA, LIGAND = range(4)  # Batch.kind
RADIUS, NUCLEIC_RADIUS = 15.0, 30.0  # angstrom: the environment that lDDT looks at
LONGEST_BOND = 2.4  # angstrom: longer "bonds" of the archive are errors (SI 2.8)


@dataclass(frozen=True)
class Pairs:
    """The p atom pairs of b crops that smooth lDDT compares (SI Algorithm 27, line 3), each once; atoms are numbered through the batch.

    The environment is the row's, so a pair of two atoms of the same kind counts twice: that is its weight.
    """

    first: Int[Tensor, " p"]  # atom a of crop k of l atoms is k l + a
    second: Int[Tensor, " p"]
    distance: Float[Tensor, " p"]  # in the truth, angstrom
    weight: Float[Tensor, " p"]  # 1 or 2: how many of (l, m), (m, l) lie inside the row's radius
    total: Float[Tensor, " b"]  # weight of every crop

    def to(self, device: torch.device | str) -> Pairs:
        return Pairs(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class Labels:
    """True coordinates of b crops of l atoms in angstrom, in any frame, with what the losses derive from them and from the batch."""

    positions: Float[Tensor, "b l 3"]  # 0 where unresolved
    resolved: Bool[Tensor, "b l"]
    weight: Float[Tensor, "b l"]  # w_l of SI section 3.7.1: 1, nucleotide 6, ligand 11; 0 where unresolved
    nucleic: Bool[Tensor, "b l"]
    reference: Bool[Tensor, "b l"]  # CA or C1' of a standard residue: the atoms that pLDDT measures distances to
    pairs: Pairs
    bonds: tuple[Int[Tensor, "_ 2"], ...]  # [b] polymer-ligand bonds

    def to(self, device: torch.device | str) -> Labels:
        """The same labels on another device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name not in ("pairs", "bonds")}
        return replace(self, **moved, pairs=self.pairs.to(device), bonds=tuple(p.to(device) for p in self.bonds))


def atom_kind(batch: Batch) -> Int[Tensor, "b l"]:
    """Kind of the chain of every atom."""
    return batch.kind.gather(1, batch.atom_to_token)


def make_labels(batch: Batch, positions: Float[Tensor, "b l 3"], resolved: Bool[Tensor, "b l"]) -> Labels:
    """Labels of true coordinates in the atom order of the batch; unresolved and padded atoms may hold anything, NaN included."""
    resolved = resolved & batch.atom_mask
    positions = torch.where(resolved[..., None], positions, 0.0)
    kind = atom_kind(batch)
    nucleic = (kind == RNA) | (kind == DNA)
    weight = (1.0 + 5.0 * nucleic + 10.0 * (kind == LIGAND)) * resolved
    return Labels(
        positions=positions,
        resolved=resolved,
        weight=weight,
        nucleic=nucleic,
        reference=_reference(batch) & resolved,
        pairs=neighbour_pairs(positions, resolved, nucleic),
        bonds=_polymer_ligand_bonds(batch, positions, resolved),
    )


def _reference(batch: Batch) -> Bool[Tensor, "b l"]:
    """Centre atoms of standard residues, which are the tokens of several atoms: an atomised token has one."""
    atoms = torch.zeros_like(batch.kind).scatter_add_(1, batch.atom_to_token, batch.atom_mask.to(torch.int64))
    standard = batch.token_mask & (atoms > 1) & (batch.kind != LIGAND)
    centre = batch.centre_atom.gather(1, batch.atom_to_token) == torch.arange(batch.atoms, device=atoms.device)
    return centre & standard.gather(1, batch.atom_to_token) & batch.atom_mask


@typed
def neighbour_pairs(
    positions: Float[Tensor, "b l 3"], resolved: Bool[Tensor, "b l"], nucleic: Bool[Tensor, "b l"], rows: int = 512
) -> Pairs:
    """Pairs within the row's radius in the truth, found `rows` rows of all crops at a time: a dense [l, l] is never held.

    All crops together and only atoms that are resolved, often half of them: on a GPU every count of what was found waits for it.
    """
    crops, length = resolved.shape
    atoms = torch.argsort(~resolved, dim=1, stable=True)[:, : int(resolved.sum(1).max()) if crops else 0]  # the resolved ones first
    real, most = resolved.gather(1, atoms), torch.arange(atoms.shape[1], device=atoms.device)
    points = positions.gather(1, atoms[..., None].expand(-1, -1, 3))
    radius = torch.where(nucleic.gather(1, atoms), NUCLEIC_RADIUS, RADIUS).to(positions.dtype)
    found = [(atoms.new_zeros(0), atoms.new_zeros(0), points.new_zeros(0), points.new_zeros(0))]
    for start in range(0, len(most), rows):
        own, rest = slice(start, start + rows), slice(start, None)
        distance = (points[:, own, None] - points[:, None, rest]).square().sum(-1).sqrt()
        later = real[:, own, None] & real[:, None, rest] & (most[rest] > most[own, None])
        weight = ((distance < radius[:, own, None]).to(positions.dtype) + (distance < radius[:, None, rest])) * later
        at = torch.nonzero(weight, as_tuple=True)
        crop, i, j = at
        found.append((crop * length + atoms[crop, start + i], crop * length + atoms[crop, start + j], distance[at], weight[at]))
    first, second, distances, weights = (torch.cat(column) for column in zip(*found, strict=True))
    total = positions.new_zeros(crops).index_add(0, first.div(max(1, length), rounding_mode="floor"), weights)
    return Pairs(first, second, distances, weights, total)


def _polymer_ligand_bonds(batch: Batch, positions: Float[Tensor, "b l 3"], resolved: Bool[Tensor, "b l"]) -> tuple[Int[Tensor, "_ 2"], ...]:
    """One atom pair per bonded polymer and ligand token: the nearest in the truth, as tokens of several atoms do not name the atom."""
    bonded = (batch.token_bonds > 0) | (batch.token_bonds.mT > 0)
    ligand, real = batch.kind == LIGAND, batch.token_mask
    tokens = torch.nonzero(bonded & (ligand[:, :, None] != ligand[:, None]) & real[:, :, None] & real[:, None])
    none = batch.atom_to_token.new_zeros(0, 2)
    found = [[none] for _ in range(len(positions))]
    for k, i, j in tokens.tolist():
        if i < j:
            found[k].append(_nearest(batch.atom_to_token[k], positions[k], resolved[k], i, j))
    return tuple(torch.cat(own) if len(own) > 1 else none for own in found)


def _nearest(tokens: Tensor, positions: Tensor, resolved: Tensor, i: int, j: int) -> Int[Tensor, "_ 2"]:
    """The nearest resolved atoms of two tokens as one row; no row where there are none or they are too far apart for a bond."""
    first, second = (torch.nonzero((tokens == token) & resolved)[:, 0] for token in (i, j))
    distance = torch.cdist(positions[first], positions[second])
    if distance.numel() == 0 or distance.min() > LONGEST_BOND:
        return tokens.new_zeros(0, 2)
    at = int(distance.argmin())
    return torch.stack([first[at // len(second)], second[at % len(second)]])[None]
