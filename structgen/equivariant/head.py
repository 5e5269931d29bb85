"""The equivariant head: noisy atoms to their updates, with what the trunk knows on nodes and edges.

A node is a token at its centre atom (CA, C1', the atom itself); its other atoms are vectors from there. So a residue is one node whatever
its size, and the network never sees a coordinate, only differences: shifts change nothing, rotations turn the updates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from structgen.equivariant.e3 import o3
from structgen.equivariant.graph import Graph, along_chain, connect
from structgen.equivariant.layers import HARMONICS, Attention, Convolution, Norm, Radial, Transition, irreps
from structgen.equivariant.sizes import Sizes
from structgen.features.batch import Batch
from structgen.nn.embeddings import RandomFourier
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Bool, Float, Int, Tensor

SLOTS = 24  # atoms of a token at most
FOURIER_SEED = 42


class Trunk(Protocol):
    """What the trunk says of b examples."""

    s_inputs: Float[Tensor, "b n c_s_inputs"]
    s: Float[Tensor, "b n c_s"]
    z: Float[Tensor, "b n n c_z"]


@dataclass(frozen=True)
class Nodes:
    """What every noise level and sample shares."""

    centre: Int[Tensor, "b n"]
    token: Int[Tensor, "b l"]
    slot: Int[Tensor, "b l"]
    atom_mask: Bool[Tensor, "b l"]
    token_mask: Bool[Tensor, "b n"]
    near: Bool[Tensor, "b n n"]
    single: Float[Tensor, "b n scalars"]
    pair: Float[Tensor, "b n n c_edge"]
    bias: Float[Tensor, "b layers_heads n n"]


class Block(nn.Module):
    """Messages of neighbours, attention over all, a transition of every token by itself; each is added."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        kind = irreps(sizes.scalars, sizes.vectors, sizes.tensors)
        self.norms = nn.ModuleList(Norm(kind, sizes.scalars) for _ in range(3))
        self.convolution = Convolution(kind, sizes.c_edge)
        self.attention = Attention(kind, sizes.heads)
        self.transition = Transition(kind, sizes.scalars)

    def forward(self, x: Tensor, around: Around, bias: Tensor) -> Tensor:
        x = x + self.convolution(self.norms[0](x, around.single), around.graph, around.harmonics, around.edge)
        x = x + self.attention(self.norms[1](x, around.single), around.positions, bias, around.mask)
        return x + self.transition(self.norms[2](x, around.single), around.single)


@dataclass(frozen=True)
class Around:
    """What blocks read beside features: the graph of this noise level's positions, its edges, and the nodes' conditions."""

    graph: Graph
    positions: Float[Tensor, "S n 3"]
    mask: Bool[Tensor, "S n"]
    harmonics: Float[Tensor, "S n k 9"]
    edge: Float[Tensor, "S n k c_edge"]
    single: Float[Tensor, "S n scalars"]


class EquivariantHead(nn.Module):
    """A `Network` of the generative core: atoms r of unit variance at times [S, 1] to their updates, 0 for atoms that do not exist.

    b examples of S / b samples each, ordered by example, as SI Algorithm 20 has them. It computes in float32 also under autocast.
    """

    def __init__(self, sizes: Sizes, *, c_s: int, c_s_inputs: int, c_z: int) -> None:
        super().__init__()
        self.sizes = sizes
        scalars = sizes.scalars
        self.single_norm, self.pair_norm = LayerNorm(c_s + c_s_inputs, offset=False), LayerNorm(c_z, offset=False)
        self.single, self.pair = Linear(c_s + c_s_inputs, scalars), Linear(c_z, sizes.c_edge)
        self.bias = Linear(c_z, sizes.layers * sizes.heads)
        self.fourier = RandomFourier(sizes.c_fourier, bandwidth=6.0, rng=torch.Generator().manual_seed(FOURIER_SEED))
        self.noise = nn.Sequential(Linear(sizes.c_fourier, scalars, bias=True), nn.SiLU(), Linear(scalars, scalars))
        self.normed = LayerNorm(scalars)
        self.radial = Radial(sizes.radial)
        self.edge = Linear(sizes.radial + sizes.c_edge, sizes.c_edge, bias=True)
        self.ends = Linear(scalars, 2 * sizes.c_edge)
        self.arms_in = Linear(scalars, (SLOTS + 1) * sizes.vectors)  # and from the middle of all tokens to this one
        self.lengths = Linear(sizes.vectors, scalars)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = Norm(irreps(scalars, sizes.vectors, sizes.tensors), scalars)
        self.arms_out = Linear(2 * scalars, SLOTS * sizes.vectors, init="zero")

    def condition(self, batch: Batch, trunk: Trunk) -> Nodes:
        """Everything that depends on neither noise level nor sample."""
        z = self.pair_norm(trunk.z)
        return Nodes(
            centre=batch.centre_atom,
            token=batch.atom_to_token,
            slot=batch.atom_slot,
            atom_mask=batch.atom_mask,
            token_mask=batch.token_mask,
            near=along_chain(batch.residue_index, batch.asym_id, self.sizes.window),
            single=self.single(self.single_norm(torch.cat([trunk.s, trunk.s_inputs], -1))).float(),
            pair=self.pair(z).float(),
            bias=self.bias(z).float().permute(0, 3, 1, 2),
        )

    def forward(self, r: Float[Tensor, "S l 3"], times: Float[Tensor, "S 1"], cond: Nodes) -> Float[Tensor, "S l 3"]:
        samples = len(r) // len(cond.single)
        with torch.autocast(r.device.type, enabled=False):
            return self._update(r.float(), times.float(), cond, samples)

    def _update(self, r: Tensor, times: Tensor, cond: Nodes, samples: int) -> Tensor:
        mask, token = _each(cond.atom_mask, samples)[..., None], _each(cond.token, samples)
        slot = _each(cond.slot, samples)
        positions = r.gather(1, _each(cond.centre, samples)[..., None].expand(-1, -1, 3))
        around = self._around(positions, times, cond, samples)
        arms = torch.where(mask, r - positions.gather(1, token[..., None].expand(-1, -1, 3)), 0.0)
        count = around.mask.sum(1).clamp_min(1)[:, None, None]
        middle = torch.where(around.mask[..., None], positions, 0.0).sum(1, keepdim=True) / count
        x = self._features(arms, positions - middle, token, slot, around.single)
        for block, bias in zip(self.blocks, cond.bias.chunk(self.sizes.layers, 1), strict=True):
            x = block(x, around, _each(bias, samples))
        return self._moved(self.norm(x, around.single), around.single, token, slot) * mask

    def _around(self, positions: Tensor, times: Tensor, cond: Nodes, samples: int) -> Around:
        """The graph and its edges at these positions."""
        mask = _each(cond.token_mask, samples)
        graph = connect(positions, mask, _each(cond.near, samples), self.sizes.nearest, self.sizes.window)
        between = graph.of(positions) - positions[:, :, None]
        distance = (between.square().sum(-1) + 1e-12).sqrt()
        harmonics = o3.spherical_harmonics(HARMONICS, between, normalize=True, normalization="component")
        single = self.normed(_each(cond.single, samples) + self.noise(self.fourier(times[:, 0]))[:, None])
        here, there = self.ends(single).chunk(2, -1)
        edge = self.edge(torch.cat([self.radial(distance), graph.of_pairs(cond.pair)], -1)) + here[:, :, None] + graph.of(there)
        return Around(graph, positions, mask, harmonics, F.silu(edge), single)

    def _features(self, arms: Tensor, place: Tensor, token: Tensor, slot: Tensor, single: Tensor) -> Tensor:
        """[S, n, c]: vectors are mixtures of a token's atoms and its place, scalars know the vectors' lengths.

        A sum over tokens of their places, each weighed as the trunk says, turns with the whole molecule: attention makes such sums, and so
        has the directions along which a known fold lies in the noise.
        """
        n, width = single.shape[1], self.sizes.vectors
        table = arms.new_zeros(len(arms), n * SLOTS, 3).scatter_add(1, (token * SLOTS + slot)[..., None].expand(-1, -1, 3), arms)
        table = torch.cat([table.unflatten(1, (n, SLOTS)), place[:, :, None]], 2)
        mixed = torch.einsum("snav,snax->snvx", self.arms_in(single).unflatten(-1, (SLOTS + 1, width)), table)
        scalars = single + self.lengths((mixed.square().sum(-1) + 1e-8).sqrt())
        tensors = arms.new_zeros(len(arms), n, 5 * self.sizes.tensors)
        return torch.cat([scalars, mixed.flatten(2), tensors], -1)

    def _moved(self, x: Tensor, single: Tensor, token: Tensor, slot: Tensor) -> Tensor:
        """[S, l, 3]: every atom's update is a mixture of its token's vectors."""
        scalars, width = self.sizes.scalars, self.sizes.vectors
        vectors = x[..., scalars : scalars + 3 * width].unflatten(-1, (width, 3))
        mixture = self.arms_out(torch.cat([x[..., :scalars], single], -1)).unflatten(-1, (SLOTS, width))
        updates = torch.einsum("snav,snvx->snax", mixture, vectors).flatten(1, 2)
        return updates.gather(1, (token * SLOTS + slot)[..., None].expand(-1, -1, 3))


def _each(x: Tensor, samples: int) -> Tensor:
    """[b, ...] to [b * samples, ...]."""
    return x.repeat_interleave(samples, dim=0)
