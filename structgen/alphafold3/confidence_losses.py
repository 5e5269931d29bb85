"""What the confidence head learns: its own errors on a structure that the model rolled out (SI section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from structgen.alphafold3.confidence import ERROR_BIN, ConfidenceLogits
from structgen.alphafold3.frames import alignment_error, gather_frames
from structgen.alphafold3.labels import NUCLEIC_RADIUS, RADIUS, Labels
from structgen.alphafold3.losses import THRESHOLDS, representatives, wide
from structgen.features.batch import Batch
from structgen.typing import Bool, Float, Int, Tensor, typed


@dataclass(frozen=True)
class ConfidenceLosses:
    """Cross-entropies, one number per crop; 0 where a crop has nothing to compare."""

    plddt: Float[Tensor, " b"]
    pae: Float[Tensor, " b"]
    pde: Float[Tensor, " b"]
    resolved: Float[Tensor, " b"]


def confidence_losses(logits: ConfidenceLogits, positions: Float[Tensor, "b l 3"], batch: Batch, labels: Labels) -> ConfidenceLosses:
    """SI section 4.3 for one rolled-out sample of every crop; `positions` in angstrom, in any frame."""
    positions = wide(positions.detach())
    frames, points = pae_masks(batch, labels)
    known = representatives(batch, labels.positions, labels.resolved)[1]
    return ConfidenceLosses(
        plddt=_cross_entropy(logits.plddt, plddt_classes(positions, batch, labels, logits.plddt.shape[-1]), labels.resolved),
        pae=_cross_entropy(logits.pae, pae_classes(positions, batch, labels, logits.pae.shape[-1]), frames[:, :, None] & points[:, None]),
        pde=_cross_entropy(logits.pde, pde_classes(positions, batch, labels, logits.pde.shape[-1]), known[:, :, None] & known[:, None]),
        resolved=_cross_entropy(logits.resolved, labels.resolved.to(torch.int64), batch.atom_mask),
    )


def _cross_entropy(logits: Tensor, classes: Tensor, mask: Tensor) -> Float[Tensor, " b"]:
    """Mean over the masked entries of every crop."""
    entropy = F.cross_entropy(wide(logits).flatten(0, -2), classes.flatten(), reduction="none").view(len(mask), -1)
    mask = mask.flatten(1)
    return (entropy * mask).sum(1) / mask.sum(1).clamp_min(1)


@typed
def plddt_classes(positions: Float[Tensor, "b l 3"], batch: Batch, labels: Labels, bins: int) -> Int[Tensor, "b l"]:
    """Class of every atom's lDDT to the reference atoms around it in the truth, in whole numbers, so that no rounding moves a bin.

    The radius is the reference atom's. An atom without any around it has lDDT 0.
    """
    centre = batch.centre_atom
    at = centre[..., None].expand(-1, -1, 3)
    true = _distance(labels.positions, labels.positions.gather(1, at))
    change = (_distance(positions, positions.gather(1, at)) - true).abs()
    radius = torch.where(labels.nucleic.gather(1, centre), NUCLEIC_RADIUS, RADIUS)
    reference = labels.reference.gather(1, centre) & batch.token_mask
    other = torch.arange(batch.atoms, device=centre.device)[:, None] != centre[:, None]
    near = (true < radius[:, None]) & reference[:, None] & other
    kept = torch.stack([((change < tau) & near).sum(-1) for tau in THRESHOLDS]).sum(0)
    total = len(THRESHOLDS) * near.sum(-1)
    return (bins * kept // total.clamp_min(1)).clamp_max(bins - 1)


def pae_masks(batch: Batch, labels: Labels) -> tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Which tokens have a frame, valid and resolved as a whole, and which a resolved centre atom."""
    resolved = labels.resolved.gather(1, batch.frame_atoms.flatten(1)).unflatten(1, (-1, 3)).all(-1)
    return batch.frame_mask & batch.token_mask & resolved, labels.resolved.gather(1, batch.centre_atom) & batch.token_mask


@typed
def pae_classes(positions: Float[Tensor, "b l 3"], batch: Batch, labels: Labels, bins: int) -> Int[Tensor, "b n n"]:
    """Class of the error (SI Algorithm 30) of centre atom j in frame i."""
    at = batch.centre_atom[..., None].expand(-1, -1, 3)
    points = [x.gather(1, at) for x in (positions, labels.positions.to(positions))]
    frames = [gather_frames(batch, x) for x in (positions, labels.positions.to(positions))]
    return _error_class(alignment_error(points[0], points[1], frames[0], frames[1]), bins)


@typed
def pde_classes(positions: Float[Tensor, "b l 3"], batch: Batch, labels: Labels, bins: int) -> Int[Tensor, "b n n"]:
    """Class of the error of the distance between two representative atoms."""
    here, true = (representatives(batch, x, labels.resolved)[0] for x in (positions, labels.positions.to(positions)))
    return _error_class((_distance(here, here) - _distance(true, true)).abs(), bins)


def _error_class(error: Tensor, bins: int) -> Tensor:
    """Bins of half an angstrom from 0, the last one open."""
    return (error / ERROR_BIN).clamp_max(bins - 1).to(torch.int64)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
