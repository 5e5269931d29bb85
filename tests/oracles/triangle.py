"""SI Algorithms 11 to 15 as they are printed: one example z [n, n, c], loops over i, j, k and heads, padding given by a mask [n]."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structgen.alphafold3.transition import Transition
from structgen.alphafold3.triangle import PairTrack, TriangleAttention, TriangleMultiplication
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm


def norm(layer: LayerNorm, x: Tensor) -> Tensor:
    """Layer norm of one vector."""
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-5) * layer.weight + layer.bias


def linear(weight: Tensor, x: Tensor) -> Tensor:
    """W x for one vector."""
    return torch.stack([(row * x).sum() for row in weight])


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def softmax(logits: list[Tensor]) -> list[Tensor]:
    largest = max(logits)
    weights = [torch.exp(x - largest) for x in logits]
    return [w / sum(weights) for w in weights]


def project(layer: Linear, x: Tensor, first: int, size: int) -> Tensor:
    """The rows first .. first + size of a matrix that holds several projections, applied to one vector."""
    return linear(layer.weight[first : first + size], x)


def transition(layer: Transition, x: Tensor) -> Tensor:
    """Algorithm 11 for one vector."""
    x = norm(layer.norm, x)
    wide = layer.out.weight.shape[1]
    a, b = project(layer.wide, x, 0, wide), project(layer.wide, x, wide, wide)
    return linear(layer.out.weight, a * sigmoid(a) * b)


def multiplication(layer: TriangleMultiplication, z: Tensor, mask: Tensor, *, incoming: bool) -> Tensor:
    """Algorithms 12 and 13."""
    n, c = len(z), layer.hidden
    out = torch.empty_like(z)
    a, b = torch.zeros(n, n, c, dtype=z.dtype), torch.zeros(n, n, c, dtype=z.dtype)
    for i in range(n):
        for j in range(n):
            x = norm(layer.norm, z[i, j])
            if mask[i] and mask[j]:
                a[i, j] = sigmoid(project(layer.gates, x, 0, c)) * project(layer.projections, x, 0, c)
                b[i, j] = sigmoid(project(layer.gates, x, c, c)) * project(layer.projections, x, c, c)
    for i in range(n):
        for j in range(n):
            o = torch.zeros(c, dtype=z.dtype)
            for k in range(n):
                o = o + (a[k, i] * b[k, j] if incoming else a[i, k] * b[j, k])
            gate = sigmoid(linear(layer.gate_out.weight, norm(layer.norm, z[i, j])))
            out[i, j] = gate * linear(layer.out.weight, norm(layer.norm_out, o))
    return out


def attention(layer: TriangleAttention, z: Tensor, mask: Tensor, *, ending: bool, bias: str = "ki") -> Tensor:
    """Algorithms 14 and 15; `bias` is the index of b in Algorithm 15."""
    n, heads = len(z), layer.heads
    c = layer.gate.weight.shape[0] // heads
    x = [[norm(layer.norm, z[i, j]) for j in range(n)] for i in range(n)]
    out = torch.empty_like(z)
    for i in range(n):
        for j in range(n):
            gathered = []
            for h in range(heads):
                q = project(layer.qkv, x[i][j], h * c, c)
                logits, values = [], []
                for k in range(n):
                    key = x[k][j] if ending else x[i][k]
                    where = (x[k][i] if bias == "ki" else x[i][k]) if ending else x[j][k]
                    logit = (q * project(layer.qkv, key, (heads + h) * c, c)).sum() / math.sqrt(c)
                    logit = logit + project(layer.bias, where, h, 1)[0]
                    logits.append(logit if mask[k] else logit * 0 - 1e9)
                    values.append(project(layer.qkv, key, (2 * heads + h) * c, c))
                mean = sum(w * v for w, v in zip(softmax(logits), values, strict=True))
                gathered.append(sigmoid(project(layer.gate, x[i][j], h * c, c)) * mean)
            out[i, j] = linear(layer.out.weight, torch.cat(gathered))
    return out


def pair_track(layer: PairTrack, z: Tensor, mask: Tensor) -> Tensor:
    """Algorithm 17, lines 2 to 6."""
    z = z + multiplication(layer.outgoing, z, mask, incoming=False)
    z = z + multiplication(layer.incoming, z, mask, incoming=True)
    z = z + attention(layer.starting, z, mask, ending=False)
    z = z + attention(layer.ending, z, mask, ending=True, bias=layer.ending.end_node_bias)
    return z + torch.stack([torch.stack([transition(layer.transition, x) for x in row]) for row in z])
