"""Labels of chains and atoms that cannot be told apart, renamed so that they fit a prediction best (SI 4.2; AF3_ALGORITHMS 6.4).

Chains of equal molecules may be exchanged, and equal atoms of a residue or ligand (CD1 and CD2 of PHE, the oxygens of a phosphate). What
says which is which is the prediction: a rolled-out structure. All of it works on one crop, without gradients.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from structgen.alphafold3.automorphisms import equal_orders
from structgen.alphafold3.losses import weighted_rigid_align, wide
from structgen.alphafold3.units import Units, units_of
from structgen.features.batch import Batch
from structgen.features.examples import Example
from structgen.typing import Bool, Float, Int, Tensor

FEWEST = 3  # points that a superposition needs


@torch.no_grad()
def fitted(example: Example, predicted: Float[Tensor, "b l 3"]) -> Example:
    """The example with its labels renamed to fit one prediction of every crop, in any frame."""
    rows = [_fitted(_row(example.batch, k), example.positions[k], example.resolved[k], predicted[k]) for k in range(len(predicted))]
    return replace(example, positions=torch.stack([x for x, _ in rows]), resolved=torch.stack([known for _, known in rows]))


def _fitted(batch: Batch, truth: Tensor, resolved: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
    truth, predicted = torch.where(resolved[:, None], wide(truth), 0.0), wide(predicted)
    order = exchange_chains(batch, truth, resolved, predicted)
    truth, resolved = take(truth, order), take(resolved, order) & (order >= 0)
    order = exchange_atoms(batch, truth, resolved, predicted)
    return take(truth, order), take(resolved, order)


def take(x: Tensor, order: Int[Tensor, " l"]) -> Tensor:
    """x[order]; anything where the order says -1."""
    return x[order.clamp_min(0)]


def _row(batch: Batch, k: int) -> Batch:
    """Crop k alone (b = 1)."""
    return Batch(**{name: tensor[k : k + 1] for name, tensor in batch.tensors().items()})


def exchange_chains(
    batch: Batch, truth: Float[Tensor, "l 3"], resolved: Bool[Tensor, " l"], predicted: Float[Tensor, "l 3"]
) -> Int[Tensor, " l"]:
    """For every atom of a crop (b = 1) the atom whose label it gets, -1 where the copy that was chosen was cropped there.

    An anchor, a unit of the fewest copies, is superposed on each of its copies in turn; the other units then take, one after the other, the
    free copy whose centre is nearest. The naming with the least RMSD of centre atoms wins; the given one where it is as good.
    """
    units = units_of(batch)
    identity = torch.arange(len(truth), device=truth.device)
    if all(len(copies) == 1 for copies in units.copies):
        return identity
    known = resolved & units.centre
    best, least = identity, _rmsd(units, identity, truth, known, predicted)
    for chosen in _candidates(units, known):
        naming = _greedy(units, chosen, truth, known, predicted)
        value = _rmsd(units, naming, truth, known, predicted)
        if value < least - 1e-4:
            best, least = naming, value
    return best


def _candidates(units: Units, known: Tensor) -> list[tuple[int, int]]:
    """(anchor, copy of it) for every copy; the anchor has the fewest copies, and of these the most resolved centre atoms."""
    sizes = [int(known[atoms].sum()) for atoms in units.atoms]
    usable = [u for u in range(len(units.atoms)) if sizes[u] >= FEWEST]
    if not usable:
        return []
    anchor = min(usable, key=lambda u: (len(units.copies[units.kind[u]]), -sizes[u]))
    return [(anchor, copy) for copy in units.copies[units.kind[anchor]]]


def _greedy(units: Units, chosen: tuple[int, int], truth: Tensor, known: Tensor, predicted: Tensor) -> Tensor:
    """The naming that follows from one choice for the anchor."""
    order = units.match(*chosen)
    both = order >= 0
    both[both.clone()] = known[order[both]] & units.centre[both]
    if both.sum() < FEWEST:
        return torch.arange(len(truth), device=truth.device)
    # truth moved onto the prediction by the anchor's atoms alone
    moved = weighted_rigid_align(_around(truth, order, both)[None], predicted[None], both[None].to(predicted.dtype))[0]
    placed = _carried(truth, _around(truth, order, both), moved, both)
    taken, naming = {chosen[0]: chosen[1]}, units.naming(chosen)
    for unit in range(len(units.atoms)):
        if unit == chosen[0]:
            continue
        free = [copy for copy in units.copies[units.kind[unit]] if copy not in taken.values()]
        copy = min(free, key=lambda other: _apart(units, unit, other, placed, known, predicted))
        taken[unit] = copy
        naming = torch.where(units.inside(unit), units.match(unit, copy), naming)
    return naming


def _around(truth: Tensor, order: Tensor, both: Tensor) -> Tensor:
    return torch.where(both[:, None], take(truth, order), 0.0)


def _carried(truth: Tensor, before: Tensor, after: Tensor, both: Tensor) -> Tensor:
    """All of the truth after the motion that took `before` to `after`, found again by superposing one on the other."""
    weight = both.to(truth.dtype)[None]
    joined = torch.cat([before, truth])[None]
    target = torch.cat([after, truth])[None]
    return weighted_rigid_align(joined, target, torch.cat([weight, torch.zeros_like(weight)], 1))[0, len(truth) :]


def _apart(units: Units, unit: int, copy: int, placed: Tensor, known: Tensor, predicted: Tensor) -> float:
    """Distance of the centres of a unit and a copy of its truth, over the atoms that the copy has; infinite where there is none."""
    order = units.match(unit, copy)
    both = (order >= 0) & units.centre
    both[both.clone()] = known[order[both]]
    return (predicted[both].mean(0) - placed[order[both]].mean(0)).norm().item() if both.any() else torch.inf


def _rmsd(units: Units, order: Tensor, truth: Tensor, known: Tensor, predicted: Tensor) -> float:
    """Of the centre atoms that have a label, after superposition; atoms that lost theirs count as 1,000 angstrom off."""
    here = units.centre & (order >= 0)
    here[here.clone()] = known[order[here]]
    lost = max(0, int(known.sum()) - int(here.sum()))
    weight = here.to(predicted.dtype)[None]
    named = torch.where(here[:, None], take(truth, order), 0.0)
    moved = weighted_rigid_align(named[None], predicted[None], weight)[0]
    square = (moved - predicted).square().sum(-1)[here].sum()
    return float(((square + 1e6 * lost) / max(1, int(here.sum()) + lost)).sqrt())


def exchange_atoms(
    batch: Batch, truth: Float[Tensor, "l 3"], resolved: Bool[Tensor, " l"], predicted: Float[Tensor, "l 3"]
) -> Int[Tensor, " l"]:
    """The same within every residue and ligand of a crop (b = 1), once the whole is superposed: of all orders the one with the least error.

    Where a residue's atoms are not resolved in the same places, only the pairs that are count, and an order with fewer pairs never wins.
    """
    moved = weighted_rigid_align(truth[None], predicted[None], resolved[None].to(predicted.dtype))[0]
    best = torch.arange(len(truth), device=truth.device)
    for atoms, orders in equal_orders(batch):  # atoms [r, a] of r residues of one sort, orders [k, a]
        named = atoms[:, orders]  # [r, k, a]
        known = resolved[named]
        square = ((moved[named] - predicted[atoms][:, None]).square().sum(-1) * known).sum(-1) - 1e6 * known.sum(-1)
        chosen = square.argmin(1)
        better = square.gather(1, chosen[:, None])[:, 0] < square[:, 0] - 1e-4
        rows = torch.where(better[:, None], named[torch.arange(len(named), device=named.device), chosen], atoms)
        best[atoms] = rows
    return best
