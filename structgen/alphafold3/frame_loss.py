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
    samples = len(x) // batch.token_mask.shape[0]
    losses = [
        _of_crop(wide(own), _crop(batch, k), wide(labels.positions[k : k + 1]), _masks(batch, labels, k, most), clamp)
        for k, own in enumerate(x.split(samples))
    ]
    return torch.cat(losses)


def _crop(batch: Batch, k: int) -> Batch:
    return Batch(**{name: tensor[k : k + 1] for name, tensor in batch.tensors().items()})


def _masks(batch: Batch, labels: Labels, k: int, most: int) -> tuple[Tensor, Tensor]:
    """Indices of the frames that are used, and of the tokens that are looked at."""
    frames, points = (mask[k].nonzero()[:, 0] for mask in pae_masks(batch, labels))
    if len(frames) > most:
        frames = frames[torch.linspace(0, len(frames) - 1, most, device=frames.device).round().to(torch.int64)]
    return frames, points


def _of_crop(x: Tensor, batch: Batch, truth: Tensor, chosen: tuple[Tensor, Tensor], clamp: float) -> Tensor:
    frames, points = chosen
    if not len(frames) or not len(points):
        return x.sum((1, 2)) * 0.0
    here, true = _seen(x, batch, frames, points), _seen(truth, batch, frames, points)
    error = ((here - true).square().sum(-1) + 1e-8).sqrt()
    return error.clamp_max(clamp).mean((1, 2)) / clamp


def _seen(x: Tensor, batch: Batch, frames: Tensor, points: Tensor) -> Tensor:
    """[samples, frames, points, 3] coordinates of centre atoms in frames."""
    samples = len(x)
    at = batch.centre_atom[0, points]
    of = batch.frame_atoms[0, frames]
    return express_in_frames(x[:, at], x[:, of.flatten()].view(samples, len(frames), 3, 3))


