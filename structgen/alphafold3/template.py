"""SI Algorithm 16: known structures become part of the pair representation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from structgen.alphafold3.config import Config, Template
from structgen.alphafold3.inputs import classes
from structgen.alphafold3.pairformer import PairformerStack
from structgen.alphafold3.transition import Parts, blocks, collect
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.precision import in_autocast
from structgen.typing import Bool, Float, Tensor, typed

GAP = 31  # class of no residue in the 32 letters of a batch


@dataclass(frozen=True)
class Geometry:
    """One template in the numbering of the job, in angstrom: the pair features of SI Table 5 are made of it block by block."""

    restype: Tensor  # [b, n]
    pseudo_beta: Tensor  # [b, n, 3]
    pseudo_beta_mask: Tensor  # [b, n]
    origin: Tensor  # [b, n, 3], CA
    axes: Tensor  # [b, n, 3, 3], the frame's unit vectors as rows
    frame_mask: Tensor  # [b, n]

    @property
    def given(self) -> Tensor:
        """[b], whether the slot holds a template at all."""
        return (self.frame_mask | self.pseudo_beta_mask).any(-1)


def templates(batch: Batch) -> Iterator[Geometry]:
    """The slots of a batch, one at a time."""
    for t in range(batch.template_restype.shape[1]):
        frame = batch.template_frame[:, t]
        yield Geometry(
            restype=batch.template_restype[:, t],
            pseudo_beta=batch.template_pseudo_beta[:, t],
            pseudo_beta_mask=batch.template_pseudo_beta_mask[:, t],
            origin=frame[:, :, 1],
            axes=axes(frame),
            frame_mask=batch.template_frame_mask[:, t],
        )


def empty(batch: Batch) -> Geometry:
    """A slot without a template: residue class 0 and no geometry."""
    zeros = batch.template_frame.new_zeros(*batch.token_mask.shape, 3, 3)
    nowhere = torch.zeros_like(batch.token_mask)
    return Geometry(torch.zeros_like(batch.restype), zeros[..., 0], nowhere, zeros[..., 0], zeros, nowhere)


def filled(geometry: Geometry, asym_id: Tensor, residue: int) -> Geometry:
    """The same geometry with class `residue` for every residue of a chain that has no template in this slot."""
    known = ((geometry.frame_mask | geometry.pseudo_beta_mask)[:, None] & (asym_id[:, :, None] == asym_id[:, None])).any(-1)
    return replace(geometry, restype=torch.where(known, geometry.restype, residue))


def axes(frame: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """Unit vectors (rows) of the frame of N, CA, C: along C - CA, the part of N - CA orthogonal to it (Gram-Schmidt), their cross product.

    Zeros where the three atoms are the same.
    """
    n, ca, c = frame.unbind(-2)
    e1 = F.normalize(c - ca, dim=-1)
    side = n - ca
    e2 = F.normalize(side - (side * e1).sum(-1, keepdim=True) * e1, dim=-1)
    return torch.stack([e1, e2, torch.linalg.cross(e1, e2)], dim=-2)


def unit_vectors(geometry: Geometry, rows: slice) -> Float[Tensor, "b i n 3"]:
    """R_i^T (CA_j - CA_i), normalised; zero for i = j."""
    towards = geometry.origin[:, None] - geometry.origin[:, rows, None]
    return F.normalize(towards @ geometry.axes[:, rows].transpose(-1, -2), dim=-1)


@typed
class TemplateEmbedder(nn.Module):
    """SI Algorithm 16. Mean over the templates of a small pair track that has seen their geometry."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.template: Template = config.template
        self.inputs = config.inputs
        c = config.template.c
        self.norm_z = LayerNorm(config.c_z)
        self.z = Linear(config.c_z, c)
        # distogram, mask, class of j, class of i, unit vector, mask
        self.features = Linear(config.template.bins + 2 * config.inputs.restypes + 5, c)
        self.stack = PairformerStack(config.template.blocks, c_s=None, heads=0, transition=0, pair=config.template.pair)
        self.norm = LayerNorm(c)
        self.out = Linear(c, config.c_z)

    def forward(self, batch: Batch, z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n n c_z"]:
        """What is added to z."""
        total = z.new_zeros(*z.shape[:3], self.template.c)
        weight = z.new_zeros(len(z))
        for geometry, count in self._slots(batch):
            if bool((count > 0).any()):
                total = total + count.to(z.dtype)[:, None, None, None] * self._one(geometry, batch.asym_id, z, token_mask)
                weight = weight + count.to(z.dtype)
        return self.out(F.relu(total / weight.clamp(min=1)[:, None, None, None]))

    def _slots(self, batch: Batch) -> Iterator[tuple[Geometry, Tensor]]:
        """Every template and how often each example counts it: once where it is given, or every slot (`mean_over`)."""
        ones = torch.ones(len(batch.token_mask), device=batch.token_mask.device)
        slots = self.template.mean_over == "slots"
        for t, geometry in enumerate(templates(batch)):
            yield filled(geometry, batch.asym_id, self._no_residue(t)), ones if slots else geometry.given.to(ones)
        if slots:
            rest = Counter(self._no_residue(t) for t in range(batch.template_restype.shape[1], self.template.slots))
            for residue, count in rest.items():
                yield filled(empty(batch), batch.asym_id, residue), ones * count

    def _no_residue(self, slot: int) -> int:
        """Class of the residues of a chain without a template in this slot."""
        gap = self.template.no_residue == "gap" or (self.template.no_residue == "gap_first" and slot == 0)
        return GAP if gap else 0

    def _one(self, geometry: Geometry, asym_id: Tensor, z: Tensor, token_mask: Tensor | None) -> Tensor:
        """Lines 2 to 9 for one template: [b, n, n, c]."""
        v = in_autocast(collect(self._embed(geometry, asym_id, z), z.shape[1]))
        start = v.clone() if self.template.outer_residual else None
        _, v = self.stack.overwrite(None, v, token_mask)
        return self.norm(v if start is None else v + start)

    def _embed(self, geometry: Geometry, asym_id: Tensor, z: Tensor) -> Parts:
        """Lin(LN(z)) + Lin(features) for blocks of rows; the product with a one-hot vector is a column of the weight."""
        restypes = self.inputs.restypes
        sizes = [self.template.bins, 1, restypes, restypes, 3, 1]
        bins, w_beta, w_j, w_i, w_unit, w_frame = self.features.weight.split(sizes, dim=1)
        w_bins = torch.cat([torch.zeros_like(bins[:, :1]), bins], dim=1).T
        w_geometry = torch.cat([w_unit, w_beta, w_frame], dim=1)
        restype = classes(self.inputs, z.device)[geometry.restype]
        classes_j, classes_i = (F.embedding(restype, w.T) for w in (w_j, w_i))
        for rows in blocks(z.shape[1], z.shape[0] * z.shape[2]):
            same = asym_id[:, rows, None] == asym_id[:, None]
            beta, frame = (same & mask[:, rows, None] & mask[:, None] for mask in (geometry.pseudo_beta_mask, geometry.frame_mask))
            unit = unit_vectors(geometry, rows) * frame[..., None]
            numbers = torch.cat([unit, beta[..., None], frame[..., None]], dim=-1).to(z.dtype)
            v = self.z(self.norm_z(z[:, rows])) + F.linear(numbers, w_geometry)
            yield rows, v + F.embedding(self._bins(geometry, rows) * beta, w_bins) + classes_j[:, None] + classes_i[:, rows, None]

    def _bins(self, geometry: Geometry, rows: slice) -> Tensor:
        """1 + the bin that holds the distance strictly between its edges; 0 below the first edge and exactly on an edge."""
        between = torch.linalg.vector_norm(geometry.pseudo_beta[:, rows, None] - geometry.pseudo_beta[:, None], dim=-1)
        first, last = self.template.first_bin, self.template.last_bin
        edges = torch.linspace(first, last, self.template.bins, dtype=between.dtype, device=between.device)
        index = torch.bucketize(between, edges)
        return index * (between != edges[index.clamp(max=len(edges) - 1)])
