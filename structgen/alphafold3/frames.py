"""Local frames of tokens and the error of one token seen from another (SI Algorithms 29 and 30, section 4.3.2)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from structgen.features.batch import Batch
from structgen.typing import Bool, Float, Tensor, typed

COLLINEAR = 0.9063077870366499  # cosine of 25 degrees


@typed
def gather_frames(batch: Batch, positions: Float[Tensor, "b l 3"]) -> Float[Tensor, "b n 3 3"]:
    """The three points (a, b, c) of every token's frame."""
    at = batch.frame_atoms.flatten(1)[..., None].expand(-1, -1, 3)
    return positions.gather(1, at).unflatten(1, (-1, 3))


def not_collinear(frames: Float[Tensor, "*batch 3 3"]) -> Bool[Tensor, "*batch"]:
    """Whether the angle at b is between 25 and 155 degrees (SI 4.3.2). Coinciding points count as collinear."""
    a, b, c = frames.unbind(-2)
    left, right = a - b, c - b
    length = left.norm(dim=-1) * right.norm(dim=-1)
    return ((left * right).sum(-1).abs() <= COLLINEAR * length) & (length > 0)


@typed
def express_in_frames(points: Float[Tensor, "b n 3"], frames: Float[Tensor, "b f 3 3"]) -> Float[Tensor, "b f n 3"]:
    """SI Algorithm 29: coordinates of every point in every frame.

    e1 halves the angle at b, so exchanging a and c flips e2 and e3. Of collinear frames the result is finite and meaningless.
    """
    a, b, c = frames.unbind(-2)
    w1, w2 = F.normalize(a - b, dim=-1, eps=1e-8), F.normalize(c - b, dim=-1, eps=1e-8)  # lines 2-3
    e1, e2 = F.normalize(w1 + w2, dim=-1, eps=1e-8), F.normalize(w2 - w1, dim=-1, eps=1e-8)  # lines 4-5
    axes = torch.stack([e1, e2, torch.linalg.cross(e1, e2)], -1)  # line 6
    return (points[:, None] - b[:, :, None]) @ axes  # lines 7-8


@typed
def alignment_error(
    points: Float[Tensor, "b n 3"],
    true_points: Float[Tensor, "b n 3"],
    frames: Float[Tensor, "b f 3 3"],
    true_frames: Float[Tensor, "b f 3 3"],
    rows: int = 512,
) -> Float[Tensor, "b f n"]:
    """SI Algorithm 30: how far (angstrom) point j lies from its true place once frame i is superposed; `rows` frames at a time."""
    blocks = zip(frames.split(rows, 1), true_frames.split(rows, 1), strict=True)
    return torch.cat([_error(express_in_frames(points, f) - express_in_frames(true_points, t)) for f, t in blocks], 1)


def _error(difference: Tensor) -> Tensor:
    return (difference.square().sum(-1) + 1e-8).sqrt()
