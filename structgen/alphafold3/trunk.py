"""SI Algorithm 1, lines 1 to 14: everything before the diffusion, and the distogram of line 17."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from structgen.alphafold3.config import Config
from structgen.alphafold3.inputs import InputFeatureEmbedder, RelativePositionEncoding
from structgen.alphafold3.msa import MsaModule, draw_rows
from structgen.alphafold3.pairformer import PairformerStack
from structgen.alphafold3.template import TemplateEmbedder
from structgen.alphafold3.transition import accumulate, blocks, collect
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.precision import in_autocast
from structgen.typing import Float, Tensor, typed


@dataclass(frozen=True)
class TrunkOutput:
    """What the trunk says of a job, in the data type of its weights."""

    s_inputs: Float[Tensor, "b n c_s_inputs"]
    s: Float[Tensor, "b n c_s"]
    z: Float[Tensor, "b n n c_z"]


@typed
class Trunk(nn.Module):
    """SI Algorithm 1. Input features to single and pair representations in a number of cycles; the last one alone has gradients."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c_u = config.inputs.c_s_inputs if config.z_init_from == "s_inputs" else config.c_s
        self.inputs = InputFeatureEmbedder(config)
        self.relative = RelativePositionEncoding(config.inputs, config.c_z)
        self.s_init = Linear(config.inputs.c_s_inputs, config.c_s)
        self.z_rows = Linear(c_u, config.c_z)
        self.z_columns = Linear(c_u, config.c_z)
        self.bonds = Linear(1, config.c_z)
        self.s_norm = LayerNorm(config.c_s)
        self.s_recycle = Linear(config.c_s, config.c_s, init="zero")
        self.z_norm = LayerNorm(config.c_z)
        self.z_recycle = Linear(config.c_z, config.c_z, init="zero")
        self.template = TemplateEmbedder(config)
        self.msa = MsaModule(config)
        former = config.pairformer
        self.pairformer = PairformerStack(former.blocks, c_s=config.c_s, heads=former.heads, transition=former.transition, pair=former.pair)

    def forward(self, batch: Batch, *, cycles: int, rng: torch.Generator) -> TrunkOutput:
        """Lines 1 to 14. `rng` draws the rows of the alignment of every cycle; dropout uses torch's own generator."""
        start = self._start(batch)
        s, z = torch.zeros_like(start.s), torch.zeros_like(start.z)
        gradients = torch.is_grad_enabled()
        for cycle in range(cycles):
            with torch.set_grad_enabled(gradients and cycle == cycles - 1):
                s, z = self._cycle(batch, start, s, z, rng)
        return TrunkOutput(start.s_inputs, s, z)

    def _start(self, batch: Batch) -> TrunkOutput:
        """Lines 1 to 5: s_inputs, s_init and z_init."""
        s_inputs = self.inputs(batch).to(self.s_init.weight.dtype)
        s_init = self.s_init(s_inputs)
        u = s_inputs if self.config.z_init_from == "s_inputs" else s_init
        relative = self.relative(batch).to(u.dtype)
        row, column, bonds = self.z_rows(u)[:, :, None], self.z_columns(u)[:, None], batch.token_bonds.to(u.dtype)[..., None]
        updates = ((i, row[:, i] + column + self.bonds(bonds[:, i])) for i in _rows(relative))
        return TrunkOutput(s_inputs, s_init, accumulate(relative, updates))

    def _cycle(self, batch: Batch, start: TrunkOutput, s: Tensor, z: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Lines 8 to 13."""
        whole = not torch.is_grad_enabled() and bool(batch.token_mask.all())  # asking would make a GPU wait, and a second graph of blocks
        token_mask = None if whole else batch.token_mask
        z = in_autocast(collect(((i, start.z[:, i] + self.z_recycle(self.z_norm(z[:, i]))) for i in _rows(z)), z.shape[1]))
        z = z + self.template(batch, z, token_mask)
        z = self.msa(draw_rows(batch, self.config.msa, rng), z, start.s_inputs, token_mask)
        refined, z = self.pairformer.overwrite(start.s + self.s_recycle(self.s_norm(s)), z, token_mask)
        return cast(Tensor, refined), z


def _rows(z: Tensor) -> Iterator[slice]:
    return blocks(z.shape[1], z.shape[0] * z.shape[2])


@typed
class DistogramHead(nn.Module):
    """SI Algorithm 1, line 17. Symmetric logits of the distance between representative atoms; a bias counts twice."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.project = Linear(config.c_z, config.distogram.bins, bias=config.distogram.bias, init="zero")

    def forward(self, z: Float[Tensor, "b n n c_z"]) -> Float[Tensor, "b n n bins"]:
        half = self.project(z)
        return half + half.transpose(1, 2)
