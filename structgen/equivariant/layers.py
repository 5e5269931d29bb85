"""Layers whose features turn with the molecule: messages of neighbours (e3nn), attention over all tokens, a norm.

Features are e3nn's: scalars, then vectors, then l = 2, flat in the last dimension. All are of even parity, so cross products are allowed
and a molecule is told from its mirror image: the symmetry is that of proper rotations, SE(3), not E(3).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from structgen.equivariant.e3 import Gate, o3
from structgen.equivariant.graph import Graph
from structgen.equivariant.products import NeighbourProduct
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Bool, Float, Tensor

HARMONICS = o3.Irreps("1x0e + 1x1e + 1x2e")


def irreps(scalars: int, vectors: int, tensors: int) -> o3.Irreps:
    """Features of these widths."""
    return o3.Irreps(f"{scalars}x0e + {vectors}x1e + {tensors}x2e")


class Radial(nn.Module):
    """Gaussians of log distance: neighbours on a chain and noise of a hundred times that are told apart equally well."""

    centres: Tensor

    def __init__(self, count: int, first: float = 0.02, last: float = 20.0) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(math.log(first), math.log(last), count), persistent=False)
        self.width = (math.log(last) - math.log(first)) / (count - 1)

    def forward(self, distance: Float[Tensor, "*any"]) -> Float[Tensor, "*any count"]:
        return torch.exp(-0.5 * ((distance.clamp_min(1e-6).log()[..., None] - self.centres) / self.width).square())


class Norm(nn.Module):
    """Layer norm of the scalars; vectors and l = 2 are divided by the root mean square of their lengths over the channels.

    Every channel is then multiplied by 1 + what a token's conditions say of it, and scalars are shifted (SI Algorithm 26's adaptive norm,
    for features that turn: factors are scalars, and only scalars can be shifted).
    """

    def __init__(self, kind: o3.Irreps, c_condition: int) -> None:
        super().__init__()
        self.kind = kind
        self.scalars = LayerNorm(kind[0].mul)
        self.scale = nn.ParameterList(nn.Parameter(torch.ones(part.mul, 1)) for part in kind[1:])
        self.adapt = Linear(c_condition, kind[0].mul + sum(part.mul for part in kind), bias=True, init="zero")

    def forward(self, x: Float[Tensor, "*any c"], condition: Float[Tensor, "*any c_condition"]) -> Float[Tensor, "*any c"]:
        shift, first, *rest = self.adapt(condition).split([self.kind[0].mul, *(part.mul for part in self.kind)], -1)
        parts = [self.scalars(x[..., self.kind.slices()[0]]) * (1.0 + first) + shift]
        for part, where, scale, factor in zip(self.kind[1:], self.kind.slices()[1:], self.scale, rest, strict=True):
            own = x[..., where].unflatten(-1, (part.mul, part.ir.dim))
            size = own.square().sum(-1, keepdim=True).mean(-2, keepdim=True)
            parts.append((own * scale * (1.0 + factor[..., None]) * (size + 1e-5).rsqrt()).flatten(-2))
        return torch.cat(parts, -1)


class Mix(nn.Module):
    """Channels of each order mixed among themselves: e3nn's `o3.Linear`. Parts of an order that does not come in are zero.

    There weights are of variance 1 and products are scaled; here weights are of variance 1 / fan-in, as in all other layers of the network,
    for Adam moves every weight by the same length.
    """

    def __init__(self, given: o3.Irreps, made: o3.Irreps) -> None:
        super().__init__()
        self.made = made
        self.places = [next((where for part, where in zip(given, given.slices(), strict=True) if part.ir == ir), None) for _, ir in made]
        self.linears = nn.ModuleList(Linear(given.count(ir), channels) for channels, ir in made if given.count(ir))

    def forward(self, x: Float[Tensor, "*any c"]) -> Float[Tensor, "*any d"]:
        parts, linears = [], iter(self.linears)
        for part, where in zip(self.made, self.places, strict=True):
            if where is None:
                parts.append(x.new_zeros(*x.shape[:-1], part.dim))
            else:
                parts.append(next(linears)(x[..., where].unflatten(-1, (-1, part.ir.dim)).mT).mT.flatten(-2))
        return torch.cat(parts, -1)


class Convolution(nn.Module):
    """Mean over the neighbours of their features times the spherical harmonics of the direction, with weights made of what the edge says.

    A depthwise tensor product, mixed by a linear layer and gated: scalars decide how much of every vector passes.
    """

    def __init__(self, kind: o3.Irreps, c_edge: int) -> None:
        super().__init__()
        self.product = NeighbourProduct(kind, HARMONICS)
        self.weights = nn.Sequential(Linear(c_edge, c_edge, bias=True, init="relu"), nn.SiLU(), Linear(c_edge, self.product.weight_numel))
        gates = sum(part.mul for part in kind[1:])
        self.gate = Gate(o3.Irreps([kind[0]]), [F.silu], o3.Irreps(f"{gates}x0e"), [torch.sigmoid], o3.Irreps(list(kind[1:])))
        self.mix = Mix(self.product.out.simplify(), self.gate.irreps_in)
        self.out = Mix(kind, kind)

    def forward(
        self, x: Float[Tensor, "S n c"], graph: Graph, harmonics: Float[Tensor, "S n k 9"], edge: Float[Tensor, "S n k c_edge"]
    ) -> Float[Tensor, "S n c"]:
        share = graph.mask.to(x.dtype) / graph.mask.sum(-1, keepdim=True).clamp_min(1)
        return self.out(self.gate(self.mix(self.product(graph.of(x), harmonics, self.weights(edge), share))))


class Attention(nn.Module):
    """Every token looks at all others. Weights come from scalars, trunk pairs and distances; what is gathered are scalars, vectors and the
    direction to where the weights point. Where noise hides who is near, this is what carries the trunk's knowledge."""

    def __init__(self, kind: o3.Irreps, heads: int) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        scalars, vectors = kind[0].mul, kind[1].mul
        self.c, self.v = scalars // heads, max(1, vectors // heads)
        self.qkv = Linear(scalars, 3 * heads * self.c)
        self.vectors = Mix(o3.Irreps([kind[1]]), o3.Irreps(f"{heads * self.v}x1e"))
        self.reach = nn.Parameter(torch.zeros(heads))
        gathered = o3.Irreps(f"{heads * (self.c + self.v + 1)}x0e + {heads * (self.v + 1)}x1e")
        self.out = Mix(gathered, kind)

    def forward(
        self,
        x: Float[Tensor, "S n c"],
        positions: Float[Tensor, "S n 3"],
        bias: Float[Tensor, "S heads n n"],
        mask: Bool[Tensor, "S n"],
    ) -> Float[Tensor, "S n c"]:
        scalars, vectors = x[..., self.kind.slices()[0]], x[..., self.kind.slices()[1]]
        q, k, v = self.qkv(scalars).unflatten(-1, (3, self.heads, self.c)).permute(2, 0, 3, 1, 4)
        far = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist").square()[:, None]
        logits = q @ k.mT / math.sqrt(self.c) + bias - F.softplus(self.reach)[:, None, None] * far
        weight = logits.masked_fill(~mask[:, None, None], -1e9).softmax(-1)
        own = self.vectors(vectors).unflatten(-1, (self.heads, self.v * 3)).transpose(1, 2)
        direction = weight @ positions[:, None] - positions[:, None]
        turned = torch.cat([weight @ own, direction], -1).transpose(1, 2).unflatten(-1, (self.v + 1, 3))
        sizes = (turned.square().sum(-1) + 1e-8).sqrt().flatten(2)
        return self.out(torch.cat([(weight @ v).transpose(1, 2).flatten(2), sizes, turned.flatten(2)], -1))


class Transition(nn.Module):
    """What a token makes of its own features: scalars hear of the vectors by their lengths and products, and say how much of each to add.

    As in the update block of PaiNN (Schütt et al. 2021); features of l = 2 are left as they are.
    """

    def __init__(self, kind: o3.Irreps, c_condition: int) -> None:
        super().__init__()
        self.kind = kind
        scalars, vectors = kind[0].mul, kind[1].mul
        self.mixed = Mix(o3.Irreps([kind[1]]), o3.Irreps(f"{2 * vectors}x1e"))
        self.hidden = Linear(scalars + c_condition + 3 * vectors, 2 * scalars, bias=True, init="relu")
        self.out = Linear(2 * scalars, scalars + vectors, init="zero")

    def forward(self, x: Float[Tensor, "*any c"], condition: Float[Tensor, "*any c_condition"]) -> Float[Tensor, "*any c"]:
        scalars, vectors, tensors = (x[..., where] for where in self.kind.slices())
        mixed = self.mixed(vectors).unflatten(-1, (-1, 3))
        first, second = mixed.chunk(2, -2)
        lengths = (mixed.square().sum(-1) + 1e-8).sqrt()
        hidden = F.silu(self.hidden(torch.cat([scalars, condition, lengths, (first * second).sum(-1)], -1)))
        change, gates = self.out(hidden).split([scalars.shape[-1], first.shape[-2]], -1)
        return torch.cat([change, (gates[..., None] * first).flatten(-2), torch.zeros_like(tensors)], -1)
