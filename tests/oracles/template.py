"""SI Algorithm 16 with the features of SI Table 5: the first example of a batch, loops over templates, i and j."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structgen.alphafold3.template import TemplateEmbedder
from structgen.features.batch import Batch
from tests.oracles.pairformer import stack
from tests.oracles.triangle import linear, norm


def unit(x: Tensor) -> Tensor:
    length = math.sqrt(float((x * x).sum()))
    return x / length if length > 0 else x


def cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def unit_vector(frame: Tensor, i: int, j: int) -> Tensor:
    """R_i^T (CA_j - CA_i), normalised; frames are N, CA, C."""
    n, ca, c = frame[i]
    e1 = unit(c - ca)
    e2 = unit((n - ca) - ((n - ca) * e1).sum() * e1)
    towards = frame[j, 1] - ca
    return unit(torch.stack([(towards * e).sum() for e in (e1, e2, cross(e1, e2))]))


def residue(batch: Batch, t: int, i: int, absent: int) -> int:
    """Class of residue i in slot t, `absent` where no residue of its chain has a place there."""
    for j in range(batch.tokens):
        if batch.asym_id[0, i] == batch.asym_id[0, j] and (batch.template_frame_mask[0, t, j] or batch.template_pseudo_beta_mask[0, t, j]):
            return int(batch.template_restype[0, t, i])
    return absent


def features(batch: Batch, t: int, i: int, j: int, absent: int, dtype: torch.dtype) -> Tensor:
    """Line 1 to 5: [distogram 39, pseudo-beta mask, class of j 32, class of i 32, unit vector 3, frame mask]."""
    distogram, classes_j, classes_i = (torch.zeros(size, dtype=dtype) for size in (39, 32, 32))
    same = batch.asym_id[0, i] == batch.asym_id[0, j]
    beta = same & batch.template_pseudo_beta_mask[0, t, i] & batch.template_pseudo_beta_mask[0, t, j]
    frame = same & batch.template_frame_mask[0, t, i] & batch.template_frame_mask[0, t, j]
    d = math.sqrt(float(((batch.template_pseudo_beta[0, t, i] - batch.template_pseudo_beta[0, t, j]) ** 2).sum()))
    for bin_ in range(39):
        lower = 3.25 + 1.25 * bin_
        upper = lower + 1.25 if bin_ < 38 else math.inf
        distogram[bin_] = float(beta) * (lower < d < upper)
    classes_j[residue(batch, t, j, absent)] = 1
    classes_i[residue(batch, t, i, absent)] = 1
    vector = unit_vector(batch.template_frame[0, t].to(dtype), i, j) * float(frame)
    return torch.cat([distogram, torch.tensor([float(beta)]), classes_j, classes_i, vector, torch.tensor([float(frame)])])


def template_embedder(layer: TemplateEmbedder, batch: Batch, z: Tensor, mask: Tensor, *, absent: list[int], count: int) -> Tensor:
    """Algorithm 16 divided by `count`, over one slot for each of `absent`, the class of residues of chains without a template there."""
    n, slots = len(z), batch.template_restype.shape[1]
    total = torch.zeros(n, n, layer.template.c, dtype=z.dtype)
    for t, fill in enumerate(absent):
        nothing = torch.zeros(108, dtype=z.dtype)
        nothing[40 + fill] = nothing[72 + fill] = 1
        v = torch.empty_like(total)
        for i in range(n):
            for j in range(n):
                known = features(batch, t, i, j, fill, z.dtype) if t < slots else nothing
                v[i, j] = linear(layer.z.weight, norm(layer.norm_z, z[i, j])) + linear(layer.features.weight, known)
        refined = stack(layer.stack, None, v, mask)[1]
        refined = refined + v if layer.template.outer_residual else refined
        total = total + torch.stack([torch.stack([norm(layer.norm, x) for x in row]) for row in refined])
    return torch.stack([torch.stack([linear(layer.out.weight, torch.relu(x / max(count, 1))) for x in row]) for row in total])
