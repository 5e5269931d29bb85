"""A loss that knows left from right: how far atoms are from their place as every residue's own backbone sees them.

lDDT and distograms cannot tell a fold from its mirror image, and the aligned error of a mirrored domain is that of any wrong domain. Seen
from the frame of a left-handed amino acid (Jumper et al. 2021, Algorithm 28; frames are SI Algorithm 29's), a mirrored surrounding is wrong
nearly everywhere, so a step away from the mirror image always pays.
"""

from __future__ import annotations

import torch

from structgen.alphafold3.confidence_losses import pae_masks
from structgen.alphafold3.frames import express_in_frames
from structgen.alphafold3.labels import Labels
from structgen.alphafold3.losses import wide
from structgen.features.batch import Batch
from structgen.typing import Float, Tensor, typed

CLAMP = 10.0  # angstrom
FRAMES = 64  # of a crop at most, evenly spread: the cost grows with frames times tokens


@typed
def frame_aligned_loss(
    x: Float[Tensor, "B l 3"], batch: Batch, labels: Labels, clamp: float = CLAMP, most: int = FRAMES
) -> Float[Tensor, " B"]:
    """Mean over frames i and tokens j of min(|x_j - truth_j| seen from frame i, `clamp`) / `clamp`; 0 without any frame.

    B = b k samples of b crops, those of one crop next to each other. Frames and centre atoms must be resolved in the truth.
    """
    frames, chosen, points = _choice(batch, labels, most)
    samples = wide(x).unflatten(0, (len(points), -1))
    here, true = (_seen(y, batch, frames) for y in (samples, wide(labels.positions)[:, None]))
    error = ((here - true).square().sum(-1) + 1e-8).sqrt().clamp_max(clamp)
    pairs = (chosen[:, :, None] & points[:, None])[:, None]
    return ((error * pairs).sum((2, 3)) / pairs.sum((2, 3)).clamp_min(1) / clamp).flatten()


def _choice(batch: Batch, labels: Labels, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """[b, f] tokens whose frames are used and [b, f] which of these count, for crops with fewer; [b, n] tokens that are looked at."""
    frames, points = pae_masks(batch, labels)
    count = frames.sum(1, keepdim=True)
    place = torch.arange(min(most, frames.shape[1]), device=frames.device).expand(len(frames), -1)
    spread = (place * ((count - 1) / max(1, most - 1))).round().to(torch.int64)
    at = torch.where(count > most, spread, place)
    return torch.argsort(~frames, dim=1, stable=True).gather(1, at), place < count, points


def _seen(x: Tensor, batch: Batch, frames: Tensor) -> Tensor:
    """Of x [b, k, l, 3] the coordinates [b, k, frames, n, 3] of centre atoms in frames [b, f]."""
    of = batch.frame_atoms.gather(1, frames[..., None].expand(-1, -1, 3)).flatten(1)
    centres, corners = (x.gather(2, at[:, None, :, None].expand(-1, x.shape[1], -1, 3)) for at in (batch.centre_atom, of))
    return express_in_frames(centres.flatten(0, 1), corners.flatten(0, 1).unflatten(1, (-1, 3))).unflatten(0, x.shape[:2])
