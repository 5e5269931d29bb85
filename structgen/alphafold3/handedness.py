"""Which of two mirror images a protein is: helices and turns of L-amino acids wind to the right.

A network that was trained for minutes knows distances long before it knows left from right, and draws a fold and its mirror image at
nearly even odds. Four consecutive CA atoms tell the two apart: of 2,076 experimental chains of at least 40 residues, 22 have more turns to
the left than to the right (`docs/model.md`). A model that knows its left is not touched: its helices are right already.
"""

from __future__ import annotations

import torch

from structgen.alphafold3.labels import PROTEIN
from structgen.features.batch import Batch
from structgen.typing import Bool, Float, Int, Tensor

TURN = (30.0, 80.0)  # degrees: dihedral angles of four CA atoms in helices (50) and turns; strands are near 180


def right_handed(atoms: Float[Tensor, "s l 3"], batch: Batch) -> Float[Tensor, "s l 3"]:
    """The samples of one job (b = 1), those that wind to the left mirrored."""
    mirrored = atoms * torch.tensor([-1.0, 1.0, 1.0]).to(atoms)
    return torch.where(left_handed(atoms, batch)[:, None, None], mirrored, atoms)


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
