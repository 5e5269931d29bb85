"""Samples held to their templates: how far a CA atom may lie from where a template puts it.

A network that was trained briefly moves away from a template that was right to begin with. What a template is worth is known: cores of
two proteins of identity f differ by about 0.40 exp(1.87 (1 - f)) angstrom (Chothia & Lesk 1986). So at every step of a sampler the data
that the network predicts is moved to the nearest one whose CA atoms lie within a radius of the template, which is laid on it first: the
projection onto what is allowed, as in samplers of linear inverse problems. Where no template lies, and inside the radius, the network
decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from structgen.alphafold3.labels import PROTEIN
from structgen.alphafold3.losses import weighted_rigid_align
from structgen.features.batch import Batch
from structgen.generative.denoiser import Denoise
from structgen.generative.path import Endpoints, Path, Time, X
from structgen.typing import Float, Int, Tensor

CA = 1  # of a template's N, CA, C
FEWEST = 8  # residues of a template that hold anything: fewer can be laid on anything
TWILIGHT = 0.25  # identity below which alignments are often wrong (Rost 1999): such templates hold nothing


def expected_deviation(identity: float) -> float:
    """Angstrom between the CA atoms of two structures' common core, by the share of identical residues (Chothia & Lesk 1986)."""
    return 0.40 * math.exp(1.87 * (1 - identity))


@dataclass(frozen=True)
class Hold:
    """One template of a job (b = 1) and how near CA atoms stay."""

    atom: Int[Tensor, " k"]  # the CA atoms that are held
    place: Float[Tensor, "k 3"]  # where the template has them
    radius: float  # angstrom


@dataclass(frozen=True)
class Holds:
    """The templates of a job; no atom is held by two."""

    holds: tuple[Hold, ...]
    atom_to_token: Int[Tensor, " l"]
    centre_atom: Int[Tensor, " n"]

    def __call__(self, atoms: Float[Tensor, "s l 3"]) -> Float[Tensor, "s l 3"]:
        """The samples with every held CA atom at most its radius from its place, and the other atoms of its residue moved along."""
        moves = torch.zeros_like(atoms[:, self.centre_atom])
        token = self.atom_to_token
        for hold in self.holds:
            here = atoms[:, hold.atom]
            weight = torch.ones(here.shape[:2], dtype=here.dtype, device=here.device)
            away = weighted_rigid_align(hold.place.expand_as(here), here, weight) - here
            distance = away.norm(dim=-1, keepdim=True)
            moves[:, token[hold.atom]] = away * (1 - hold.radius / distance.clamp_min(1e-6)).clamp_min(0)
        return atoms + moves[:, token]


def holds_of(batch: Batch, scale: float) -> Holds | None:
    """What the templates of a job (b = 1) hold within `scale` times their expected deviation. A residue is held by the first that has it.

    Templates of less than a quarter of identical residues hold nothing. None where nothing is held.
    """
    held, free = [], (batch.kind[0] == PROTEIN) & batch.token_mask[0]
    for restype, frame, mask in zip(batch.template_restype[0], batch.template_frame[0], batch.template_frame_mask[0], strict=True):
        for chain in batch.asym_id[0].unique().tolist():
            own = mask & free & (batch.asym_id[0] == chain)
            if int(own.sum()) < FEWEST:
                continue
            identity = (restype[own] == batch.restype[0][own]).double().mean().item()
            if identity < TWILIGHT:
                continue
            free = free & ~own
            held.append(Hold(batch.centre_atom[0][own], frame[own, CA], scale * expected_deviation(identity)))
    return Holds(tuple(held), batch.atom_to_token[0], batch.centre_atom[0]) if held else None


def held(path: Path, denoise: Denoise, holds: Holds | None) -> Denoise:
    """A guidance: predicted data is moved to where it is allowed."""
    if holds is None:
        return denoise

    def guided(x: X, t: Time, s: Time) -> Endpoints:
        return path.from_data(holds(denoise(x, t, s).data), x, t)

    return guided
