"""Samples held to their templates: how far a backbone may lie from where a template puts it.

A network that was trained briefly moves away from a template that was right to begin with. What a template is worth is known: cores of
two proteins of identity f differ by about 0.40 exp(1.87 (1 - f)) angstrom (Chothia & Lesk 1986). So at every step of a sampler the data
that the network predicts is moved to the nearest one whose N, CA and C lie within a radius of the template, which is laid on it by its
CA atoms first: the projection onto what is allowed (`generative.guidance.projected`). Where no template lies, and inside the radius, the
network decides. A job may also force a template and give the radius itself (Boltz's `force` and `threshold`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from structgen.alphafold3.labels import PROTEIN
from structgen.alphafold3.losses import weighted_rigid_align
from structgen.features.batch import Batch
from structgen.typing import Bool, Float, Int, Tensor

Forced = Mapping[tuple[int, int], float]
"""(chain, slot), both from 0 -> angstrom: templates that a job forces, and how near backbones must stay."""
NOTHING_FORCED: Forced = MappingProxyType({})

CA = 1  # of a template's N, CA, C
FEWEST = 8  # residues of a template that hold anything: fewer can be laid on anything
SETTLING = 5  # projections of a finished sample
TWILIGHT = 0.25  # identity below which alignments are often wrong (Rost 1999): such templates hold nothing


def expected_deviation(identity: float) -> float:
    """Angstrom between the CA atoms of two structures' common core, by the share of identical residues (Chothia & Lesk 1986)."""
    return 0.40 * math.exp(1.87 * (1 - identity))


@dataclass(frozen=True)
class Hold:
    """One template of a job (b = 1) on k residues, and how near their backbones stay."""

    token: Int[Tensor, " k"]
    place: Float[Tensor, "k 3 3"]  # N, CA, C of the template
    radius: float  # angstrom


@dataclass(frozen=True)
class Holds:
    """The templates of a job; no residue is held by two."""

    holds: tuple[Hold, ...]
    atom_to_token: Int[Tensor, " l"]
    frame_atoms: Int[Tensor, "n 3"]  # N, CA, C

    def __call__(self, atoms: Float[Tensor, "s l 3"]) -> Float[Tensor, "s l 3"]:
        """The samples with N, CA and C of every held residue at most the radius from their places; its other atoms move as CA does."""
        of_tokens, own = torch.zeros_like(atoms[:, self.frame_atoms[:, CA]]), torch.zeros_like(atoms)
        for hold in self.holds:
            backbone = self.frame_atoms[hold.token]
            here, weight = atoms[:, backbone], torch.zeros(len(atoms), *backbone.shape, dtype=atoms.dtype, device=atoms.device)
            weight[..., CA] = 1
            laid = weighted_rigid_align(hold.place.expand_as(here).flatten(1, 2), here.flatten(1, 2), weight.flatten(1, 2)).view_as(here)
            distance = (laid - here).norm(dim=-1, keepdim=True)
            moves = (laid - here) * (1 - hold.radius / distance.clamp_min(1e-6)).clamp_min(0)
            of_tokens[:, hold.token], own[:, backbone] = moves[:, :, CA], moves - moves[:, :, CA, None]
        return atoms + of_tokens[:, self.atom_to_token] + own

    def settled(self, atoms: Float[Tensor, "s l 3"]) -> Float[Tensor, "s l 3"]:
        """The same again and again: a template lies a little otherwise on what was moved."""
        for _ in range(SETTLING):
            atoms = self(atoms)
        return atoms


def holds_of(batch: Batch, scale: float, forced: Forced = NOTHING_FORCED) -> Holds | None:
    """What the templates of a job (b = 1) hold: the forced ones within their radius, and where `scale` is above 0 the others within so many
    times their expected deviation.

    A residue is held by the first template that has it, forced ones before all others. What is not forced holds nothing where less than a
    quarter of its residues are the same, or few are left of it. None where nothing is held.
    """
    slots = [(chain, slot) for slot in range(batch.template_restype.shape[1]) for chain in range(int(batch.asym_id.max()))]
    whole = torch.bincount(batch.atom_to_token[0], minlength=batch.tokens) > 1  # atoms of modified residues are tokens without a CA
    held, free = list[Hold](), (batch.kind[0] == PROTEIN) & batch.token_mask[0] & whole
    for chain, slot in sorted(slots, key=lambda at: at not in forced):
        own = batch.template_frame_mask[0, slot] & free & (batch.asym_id[0] == chain + 1)
        radius = forced.get((chain, slot)) or _radius(batch.template_restype[0, slot][own] == batch.restype[0][own], scale)
        if radius and own.any():
            free = free & ~own
            held.append(Hold(own.nonzero()[:, 0], batch.template_frame[0, slot][own], radius))
    return Holds(tuple(held), batch.atom_to_token[0], batch.frame_atoms[0]) if held else None


def _radius(same: Bool[Tensor, " k"], scale: float) -> float:
    """Of a template by which of its residues are those of the job; 0: it holds nothing."""
    if len(same) < FEWEST or same.double().mean() < TWILIGHT:
        return 0.0
    return scale * expected_deviation(same.double().mean().item())
