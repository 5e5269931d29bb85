"""Which of two mirror images a protein is: helices and turns of L-amino acids wind to the right.

A network that was trained for minutes knows distances long before it knows left from right, and draws a fold and its mirror image at
nearly even odds. Four consecutive CA atoms tell the two apart: of 2,076 experimental chains of at least 40 residues, 22 have more turns to
the left than to the right (`docs/model.md`). Where a chain has a template, the hand that lies nearer to that is right, even of strands
alone, whose few turns say little. A model that knows its left is not touched: its helices are right already.
"""

from __future__ import annotations

import torch

from structgen.alphafold3.labels import PROTEIN
from structgen.alphafold3.losses import weighted_rigid_align
from structgen.features.batch import Batch
from structgen.typing import Bool, Float, Int, Tensor

FEWEST = 8  # residues of a template that tell a hand
CA = 1  # of a template's N, CA, C
TURN = (30.0, 80.0)  # degrees: dihedral angles of four CA atoms in helices (50) and turns; strands are near 180


def right_handed(atoms: Float[Tensor, "s l 3"], batch: Batch) -> Float[Tensor, "s l 3"]:
    """The samples of one job (b = 1), mirrored where the mirror image lies nearer to the templates, or, without any, winds to the right."""
    mirrored = atoms * torch.tensor([-1.0, 1.0, 1.0]).to(atoms)
    own, other = off_templates(atoms, batch), off_templates(mirrored, batch)
    wrong = left_handed(atoms, batch) if own is None or other is None else other < own
    return torch.where(wrong[:, None, None], mirrored, atoms)


def off_templates(atoms: Float[Tensor, "s l 3"], batch: Batch) -> Float[Tensor, " s"] | None:
    """Squared deviation in angstrom^2 of CA atoms from the first template of every chain of one job (b = 1), each laid on its chain, in
    all; None where no chain has one of `FEWEST` residues."""
    trace = atoms[:, batch.centre_atom[0]]
    total, found = torch.zeros(len(atoms), dtype=atoms.dtype, device=atoms.device), False
    for chain in batch.asym_id[0][batch.token_mask[0]].unique():
        on = batch.template_frame_mask[0] & (batch.asym_id[0] == chain) & batch.token_mask[0] & (batch.kind[0] == PROTEIN)
        enough = (on.sum(1) >= FEWEST).nonzero()[:, 0].tolist()
        if enough:
            slot, found = enough[0], True
            here, place = trace[:, on[slot]], batch.template_frame[0, slot][on[slot]][:, CA].to(trace)
            laid = weighted_rigid_align(place.expand_as(here), here, torch.ones_like(here[..., 0]))
            total = total + (laid - here).square().sum((1, 2)).to(total)
    return total if found else None


def left_handed(atoms: Float[Tensor, "s l 3"], batch: Batch) -> Bool[Tensor, " s"]:
    """Whether more turns of the protein chains of one job wind to the left than to the right; false where there are none."""
    angle = dihedrals(atoms[:, batch.centre_atom[0]][:, stretches(batch)])
    low, high = TURN
    turns = [((sign * angle > low) & (sign * angle < high)).sum(1) for sign in (1.0, -1.0)]
    return turns[1] > turns[0]


def stretches(batch: Batch) -> Int[Tensor, "k 4"]:
    """Tokens of every four consecutive residues of a protein chain of one job."""
    at = torch.arange(batch.tokens - 3, device=batch.token_mask.device)[:, None] + torch.arange(4, device=batch.token_mask.device)
    polymer = (batch.kind[0] == PROTEIN) & batch.token_mask[0]
    number, chain = batch.residue_index[0][at], batch.asym_id[0][at]
    whole = polymer[at].all(1) & (number.diff(dim=1) == 1).all(1) & (chain == chain[:, :1]).all(1)
    return at[whole]


def dihedrals(points: Float[Tensor, "s k 4 3"]) -> Float[Tensor, "s k"]:
    """Angle in degrees about the middle of three bonds, positive where the last turns clockwise from the first (IUPAC)."""
    first, axis, last = points.diff(dim=-2).unbind(-2)
    left, right = torch.linalg.cross(first, axis), torch.linalg.cross(axis, last)
    return torch.rad2deg(torch.atan2((first * right).sum(-1) * axis.norm(dim=-1), (left * right).sum(-1)))
