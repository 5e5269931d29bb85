"""The confidence head: what the model thinks of a structure that it made (SI Algorithm 31)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from structgen.alphafold3.config import Confidence, Config
from structgen.alphafold3.pairformer import PairformerStack
from structgen.alphafold3.trunk import TrunkOutput
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Bool, Float, Int, Tensor, typed

ERROR_BIN = 0.5  # angstrom, of PAE and PDE; the last bin is open


@dataclass(frozen=True)
class ConfidenceLogits:
    """Logits of one sample of every example, float32."""

    plddt: Float[Tensor, "b l 50"]  # bins of lDDT on [0, 1]
    pae: Float[Tensor, "b n n 64"]  # frame i, token j; bins of ERROR_BIN
    pde: Float[Tensor, "b n n 64"]  # symmetric; bins of ERROR_BIN
    resolved: Float[Tensor, "b l 2"]  # class 1: the atom would be seen in an experiment


@typed
class ConfidenceHead(nn.Module):
    """SI Algorithm 31 for one sample of every example; nothing flows back into the trunk or the coordinates.

    Held and computed in the dtype of its own weights, whatever the trunk's; the stack (line 4) may have one of its own. Run samples
    one after the other: each is a pair representation of its own. Not the SI's: with `size` in the configuration a linear map of
    log(tokens) is added to all singles and pairs after line 3, since what a small model gets right falls with the length of a chain.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        own, c_s, c_z = config.confidence, config.c_s, config.c_z
        pair = replace(config.pairformer.pair, dropout=own.dropout)
        self.config = own
        self.s_norm = LayerNorm(c_s) if own.s_norm else nn.Identity()
        self.first = Linear(config.inputs.c_s_inputs, c_z)
        self.second = Linear(config.inputs.c_s_inputs, c_z)
        self.distance_bins = Linear(own.distance_bins, c_z)
        self.distance = Linear(1, c_z) if own.extra_distance else None
        self.size = Linear(1, c_s + c_z, init="zero") if own.size else None
        self.stack = PairformerStack(
            own.blocks, c_s=c_s, heads=config.pairformer.heads, transition=config.pairformer.transition, pair=pair
        )
        self.pae_norm, self.pde_norm = self._head_norm(c_z), self._head_norm(c_z)
        self.plddt_norm, self.resolved_norm = self._head_norm(c_s), self._head_norm(c_s)
        self.pae = Linear(c_z, own.bins_pae, init="zero")
        self.pde = Linear(c_z, own.bins_pde, init="zero")
        self.plddt = Linear(c_s, own.atoms_per_token * own.bins_plddt, init="zero")
        self.resolved = Linear(c_s, own.atoms_per_token * 2, init="zero")

    def _head_norm(self, c: int) -> nn.Module:
        return LayerNorm(c) if self.config.head_norm else nn.Identity()

    def forward(
        self, batch: Batch, trunk: TrunkOutput, positions: Float[Tensor, "b l 3"], token_mask: Bool[Tensor, "b n"] | None
    ) -> ConfidenceLogits:
        """`positions` in angstrom, in any frame; `token_mask` is None where nothing is padded."""
        dtype = self.first.weight.dtype
        s_inputs, s, z = (x.detach().to(dtype) for x in (trunk.s_inputs, trunk.s, trunk.z))
        if self.config.s_norm:
            s = self.s_norm(s.clamp(-512, 512))  # line 1
        z = self._pair(z, s_inputs, representative_distances(batch, positions.detach().to(dtype)))  # lines 2-3
        if self.size is not None:
            of_s, of_z = self.size(log_size(batch, dtype)).split((s.shape[-1], z.shape[-1]), -1)
            s = s + of_s[:, None]
            z += of_z[:, None, None]
        s, z = self._stack(s, z, token_mask)  # line 4
        return ConfidenceLogits(
            plddt=self._atoms(self.plddt(self.plddt_norm(s)), batch),
            pae=self.pae(self.pae_norm(z)),
            pde=self._pde(z),
            resolved=self._atoms(self.resolved(self.resolved_norm(s)), batch),
        )

    def _pair(self, z: Tensor, s_inputs: Tensor, distance: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n c_z"]:
        """Lines 2 and 3: the trunk's pairs with the inputs along rows and columns and the distances."""
        row, column = (self.first, self.second) if self.config.row == "first" else (self.second, self.first)
        z = z + row(s_inputs)[:, :, None]
        z += column(s_inputs)[:, None]
        table = F.pad(self.distance_bins.weight.T, (0, 0, 1, 0))  # row 0: no class
        z += F.embedding(distance_class(distance, self.config), table)
        return z if self.distance is None else z + self.distance(distance[..., None])

    def _stack(self, s: Tensor, z: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Line 4. Without gradients z is overwritten."""
        dtype = self.pae.weight.dtype
        low_s, low_z = (x.to(next(self.stack.parameters()).dtype) for x in (s, z))
        if not self.config.outer_residual:
            s, z = cast(tuple[Tensor, Tensor], self.stack.overwrite(low_s, low_z, token_mask))
            return s.to(dtype), z.to(dtype)
        update_s, update_z = cast(tuple[Tensor, Tensor], self.stack(low_s, low_z, token_mask))
        return s + update_s.to(dtype), z + update_z.to(dtype)

    def _pde(self, z: Float[Tensor, "b n n c_z"]) -> Float[Tensor, "b n n bins"]:
        """Line 5. Without a norm in between and without a bias, it is one whether pairs or logits are added."""
        if self.config.pde_symmetry == "pair_before_norm":
            return self.pde(self.pde_norm(z + z.transpose(1, 2)))
        half = self.pde(self.pde_norm(z))
        return half + half.transpose(1, 2)

    def _atoms(self, slots: Float[Tensor, "b n slots_bins"], batch: Batch) -> Float[Tensor, "b l bins"]:
        """Line 6: every atom reads the logits of its slot in its token."""
        slots = slots.unflatten(-1, (self.config.atoms_per_token, -1)).flatten(1, 2)
        place = batch.atom_slot if self.config.slots == "dictionary" else atom_ranks(batch)
        at = batch.atom_to_token * self.config.atoms_per_token + place
        return slots.gather(1, at[..., None].expand(-1, -1, slots.shape[-1]))


def log_size(batch: Batch, dtype: torch.dtype) -> Float[Tensor, "b 1"]:
    """log(tokens / 128). Attention averages and norms rescale, so a stack of both tells little of how many tokens it was given."""
    return (batch.token_mask.sum(1, keepdim=True).to(dtype) / 128).log()


def atom_ranks(batch: Batch) -> Int[Tensor, "b l"]:
    """How many atoms of its token stand before each atom."""
    token = batch.atom_to_token
    counts = torch.zeros_like(batch.token_index).scatter_add(1, token, batch.atom_mask.to(token.dtype))
    first = counts.cumsum(1) - counts
    return (torch.arange(batch.atoms, device=token.device) - first.gather(1, token)) * batch.atom_mask


def representative_distances(batch: Batch, positions: Float[Tensor, "b l 3"]) -> Float[Tensor, "b n n"]:
    """Distances in angstrom between the tokens' representative atoms."""
    x = positions.gather(1, batch.representative_atom[..., None].expand(-1, -1, 3))
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def distance_class(distance: Float[Tensor, "*any"], config: Confidence) -> Int[Tensor, "*any"]:
    """1 to `distance_bins`, the last one open; 0, no class, below the first edge and exactly on any edge."""
    edges = torch.linspace(config.first_bin, config.last_bin, config.distance_bins, dtype=distance.dtype, device=distance.device)
    below, up_to = torch.bucketize(distance, edges), torch.bucketize(distance, edges, right=True)
    return torch.where(below == up_to, below, 0)
