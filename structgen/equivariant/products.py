"""Features of neighbours times the spherical harmonics of their directions, added up over the neighbours.

e3nn's depthwise tensor product (`uvu`, `o3.TensorProduct`) gives, on every edge and for every path (l1, l2) -> l3 of channel u,

    m[k, u, c] = sqrt(2 l3 + 1) w[k, u] sum_ab C[a, b, c] x[k, u, a] Y[k, b]

with the Clebsch-Gordan coefficients C (Wigner 3j, of norm 1). Only sum_k s[k] m[k] is asked for, and the sums over neighbours and over a, b
can be exchanged: first [u a, k] @ [k, b] for all nodes at once, then C. Nothing larger than w x is made, where that product makes every m.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from structgen.equivariant.e3 import o3
from structgen.typing import Float, Tensor


@dataclass(frozen=True)
class Path:
    """The input's part of order l1 times the harmonic l2, as a part that turns as `ir`: places, channels, the channels' weights."""

    feature: int
    harmonic: int
    channels: int
    ir: o3.Irrep
    weights: slice


class NeighbourProduct(nn.Module):
    """sum_k s[k] (x[k] (x) Y[k]) over all paths whose result has an order that the features have. It has no weights of its own.

    `kind`: the features, one part an order, as scalars, vectors, l = 2. `harmonics`: one of each order.
    `out`: the result's parts, sorted by order; `weight_numel`: weights of an edge, one for each path and channel.
    """

    def __init__(self, kind: o3.Irreps, harmonics: o3.Irreps) -> None:
        super().__init__()
        self.kind, self.harmonics = kind, harmonics
        self.paths = list(_paths(kind, harmonics))
        self.out = o3.Irreps([(path.channels, path.ir) for path in self.paths])
        self.weight_numel = sum(path.channels for path in self.paths)
        for k, path in enumerate(self.paths):
            orders = (kind[path.feature].ir.l, harmonics[path.harmonic].ir.l, path.ir.l)
            coefficients = o3.wigner_3j(*orders).flatten(0, 1) * math.sqrt(path.ir.dim)
            self.register_buffer(f"coefficients{k}", coefficients, persistent=False)

    def forward(
        self,
        x: Float[Tensor, "S n k c"],
        harmonics: Float[Tensor, "S n k 9"],
        weights: Float[Tensor, "S n k weight_numel"],
        share: Float[Tensor, "S n k"],
    ) -> Float[Tensor, "S n out"]:
        x, y, w = x.flatten(0, 1), harmonics.flatten(0, 1), (weights * share[..., None]).flatten(0, 1)
        features = [x[..., where].unflatten(-1, (part.mul, part.ir.dim)) for part, where in zip(self.kind, self.kind.slices(), strict=True)]
        directions = [y[..., where] for where in self.harmonics.slices()]
        parts = []
        for k, path in enumerate(self.paths):
            weighed = (features[path.feature] * w[..., path.weights, None]).flatten(2)
            products = weighed.mT @ directions[path.harmonic]  # [S n, u a, b]
            parts.append((products.unflatten(1, (path.channels, -1)).flatten(2) @ self.get_buffer(f"coefficients{k}")).flatten(1))
        return torch.cat(parts, -1).unflatten(0, share.shape[:2])


def _paths(kind: o3.Irreps, harmonics: o3.Irreps) -> Iterator[Path]:
    """Every product of a feature and a harmonic that gives a kind of feature that there is, by the order of what it gives."""
    found = [(i, j, part.mul, ir) for i, part in enumerate(kind) for j, (_, y) in enumerate(harmonics) for ir in part.ir * y if ir in kind]
    first = 0
    for i, j, channels, ir in sorted(found, key=lambda one: one[3]):
        yield Path(i, j, channels, ir, slice(first, first + channels))
        first += channels
