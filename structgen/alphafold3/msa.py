"""SI Algorithms 8 to 10: the alignment becomes part of the pair representation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from structgen.alphafold3.config import Config, Msa
from structgen.alphafold3.inputs import classes
from structgen.alphafold3.transition import Parts, Transition, accumulate, blocks, collect
from structgen.alphafold3.triangle import PairTrack, pair_bias, shared_dropout
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Bool, Float, Int, Tensor, typed

ALPHABET = 32


@dataclass(frozen=True)
class MsaRows:
    """The rows of the alignment that enter one cycle."""

    msa: Int[Tensor, "b s n"]
    has_deletion: Float[Tensor, "b s n"]
    deletion_value: Float[Tensor, "b s n"]
    mask: Bool[Tensor, "b s n"]


def draw_rows(batch: Batch, config: Msa, rng: torch.Generator) -> MsaRows:
    """SI Algorithm 8, line 1: the rows of each example that `Msa.subset` chooses, at most `Msa.rows`; a shallower example is padded.

    random_depth: k uniform in 1..depth, then k random rows; shuffle_first: all rows in random order, cut; all: in the given order, cut.
    Padded rows are never drawn and cost no random number.
    """
    chosen = [_draw(present.nonzero()[:, 0].cpu(), config, rng) for present in batch.msa_mask.any(-1)]
    index = torch.stack([F.pad(rows, (0, max(map(len, chosen)) - len(rows)), value=-1) for rows in chosen]).to(batch.msa.device)
    at = index.clamp(min=0)[..., None].expand(-1, -1, batch.tokens)
    return MsaRows(
        msa=batch.msa.gather(1, at),
        has_deletion=batch.has_deletion.gather(1, at),
        deletion_value=batch.deletion_value.gather(1, at),
        mask=batch.msa_mask.gather(1, at) & (index >= 0)[..., None],
    )


def _draw(present: Tensor, config: Msa, rng: torch.Generator) -> Tensor:
    depth = len(present)
    if config.subset == "random_depth" and depth > 0:
        depth = int(torch.randint(1, depth + 1, (), generator=rng))
    if config.subset != "all":
        present = present[torch.randperm(len(present), generator=rng)]
    return present[: min(depth, config.rows)]


@typed
class OuterProductMean(nn.Module):
    """SI Algorithm 9. Mean over MSA rows of the outer product of two projections."""

    def __init__(self, msa: Msa, c_z: int) -> None:
        super().__init__()
        self.eps = msa.opm_eps
        self.norm = LayerNorm(msa.c_m)
        self.left = Linear(msa.c_m, msa.c_opm)
        self.right = Linear(msa.c_m, msa.c_opm)
        self.out = Linear(msa.c_opm**2, c_z, bias=True, init="zero")  # input 32 * (channel of left) + channel of right

    def forward(self, m: Float[Tensor, "b s n c_m"], mask: Bool[Tensor, "b s n"]) -> Float[Tensor, "b n n c_z"]:
        """The update, without the residual."""
        return collect(self._updates(m, mask), m.shape[2])

    def add_to(self, z: Tensor, m: Tensor, mask: Tensor) -> Tensor:
        """z plus the update; without gradients z itself is overwritten."""
        return accumulate(z, self._updates(m, mask))

    def _updates(self, m: Tensor, mask: Tensor) -> Parts:
        size, keep = m.shape[2], mask.to(m.dtype)
        m = self.norm(m)
        left, right = (layer(m).mul(keep[..., None]).transpose(1, 2) for layer in (self.left, self.right))  # [b, n, s, c]
        right = right.transpose(2, 3).flatten(1, 2).transpose(1, 2)  # [b, s, j d]
        counted = keep.transpose(1, 2) @ keep
        for rows in blocks(size, m.shape[0] * size):
            outer = left[:, rows].transpose(2, 3).flatten(1, 2) @ right  # [b, i c, j d]
            outer = outer.unflatten(2, (size, -1)).unflatten(1, (rows.stop - rows.start, -1)).transpose(2, 3).flatten(3)
            yield rows, self.out(outer) / (counted[:, rows, :, None] + self.eps)


@typed
class PairWeightedAveraging(nn.Module):
    """SI Algorithm 10. Every row of the alignment averaged over the tokens with weights from the pair representation."""

    def __init__(self, msa: Msa, c_z: int) -> None:
        super().__init__()
        self.heads, self.dropout = msa.pwa_heads, msa.dropout
        width = msa.pwa_heads * msa.pwa_channels
        self.norm = LayerNorm(msa.c_m)
        self.value = Linear(msa.c_m, width)
        self.norm_z = LayerNorm(c_z)
        self.bias = Linear(c_z, msa.pwa_heads)
        self.gate = Linear(msa.c_m, width, init="zero")
        self.out = Linear(width, msa.c_m, init="zero")

    def forward(
        self, m: Float[Tensor, "b s n c_m"], z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b s n c_m"]:
        """The update, without dropout and residual."""
        return collect(self._updates(m, z, token_mask), m.shape[1])

    def add_to(self, m: Tensor, z: Tensor, token_mask: Tensor | None) -> Tensor:
        """m plus the update, dropped with one mask for all rows; without gradients m itself is overwritten."""
        updates = self._updates(m, z, token_mask)
        if self.training and self.dropout > 0:
            factor = shared_dropout(m, self.dropout)
            updates = ((rows, update * factor) for rows, update in updates)
        return accumulate(m, updates)

    def _updates(self, m: Tensor, z: Tensor, token_mask: Tensor | None) -> Parts:
        bias = pair_bias(z, self.norm_z, self.bias, token_mask)
        weights = torch.softmax(bias, dim=-1, dtype=torch.promote_types(bias.dtype, torch.float32)).to(m.dtype)  # [b, h, i, j]
        for rows in blocks(m.shape[1], m.shape[0] * m.shape[2]):
            x = self.norm(m[:, rows])
            value = self.value(x).unflatten(-1, (self.heads, -1)).permute(0, 3, 2, 1, 4)  # [b, h, j, s, c]
            mean = (weights @ value.flatten(3)).unflatten(3, (-1, value.shape[4])).permute(0, 3, 2, 1, 4).flatten(3)
            yield rows, self.out(torch.sigmoid(self.gate(x)) * mean)


@typed
class MsaBlock(nn.Module):
    """SI Algorithm 8, lines 6 to 13. The last block may leave m as it is (`Msa.last_update`), because nothing reads it."""

    COMPILED = ("forward",)

    def __init__(self, config: Config, *, updates_m: bool) -> None:
        super().__init__()
        self.outer = OuterProductMean(config.msa, config.c_z)
        self.average = PairWeightedAveraging(config.msa, config.c_z) if updates_m else None
        self.transition = Transition(config.msa.c_m, config.msa.transition) if updates_m else None
        self.pair = PairTrack(config.pairformer.pair)

    def forward(
        self,
        m: Float[Tensor, "b s n c_m"],
        z: Float[Tensor, "b n n c_z"],
        mask: Bool[Tensor, "b s n"],
        token_mask: Bool[Tensor, "b n"] | None,
    ) -> tuple[Float[Tensor, "b s n c_m"], Float[Tensor, "b n n c_z"]]:
        """The new m and z; without gradients both are overwritten and returned."""
        z = self.outer.add_to(z, m, mask)
        if self.average is not None and self.transition is not None:
            m = self.transition.add_to(self.average.add_to(m, z, token_mask))
        return m, self.pair(z, token_mask)


@typed
class MsaModule(nn.Module):
    """SI Algorithm 8. The rows of one cycle written into the pair representation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.inputs, self.outer_residual = config.inputs, config.msa.outer_residual
        self.features = Linear(ALPHABET + 2, config.msa.c_m)  # residue classes, has_deletion, deletion_value
        self.s_inputs = Linear(config.inputs.c_s_inputs, config.msa.c_m)
        last = config.msa.blocks - 1
        self.blocks = nn.ModuleList(MsaBlock(config, updates_m=config.msa.last_update or i < last) for i in range(config.msa.blocks))

    def forward(
        self, rows: MsaRows, z: Float[Tensor, "b n n c_z"], s_inputs: Float[Tensor, "b n c"], token_mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n n c_z"]:
        """The new z; without gradients z itself is overwritten and returned."""
        start = z.clone() if self.outer_residual else None
        m = self._embed(rows, s_inputs)
        for block in self.blocks:
            m, z = block(m, z, rows.mask, token_mask)
        return z if start is None else z + start

    def _embed(self, rows: MsaRows, s_inputs: Tensor) -> Tensor:
        """Lines 2 to 4; the product with a one-hot vector is a column of the weight."""
        letters, deletions = self.features.weight.split([ALPHABET, 2], dim=1)
        numbers = torch.stack([rows.has_deletion, rows.deletion_value], dim=-1).to(deletions.dtype)
        known = classes(self.inputs, rows.msa.device)[rows.msa]
        return F.embedding(known, letters.T) + F.linear(numbers, deletions) + self.s_inputs(s_inputs)[:, None]
