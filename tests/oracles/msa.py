"""SI Algorithms 8 to 10: one example, loops over rows s, tokens i, j, channels and heads."""

from __future__ import annotations

import torch
from torch import Tensor

from structgen.alphafold3.msa import MsaModule, MsaRows, OuterProductMean, PairWeightedAveraging
from tests.oracles.triangle import linear, norm, pair_track, project, sigmoid, softmax, transition


def outer_product_mean(layer: OuterProductMean, m: Tensor, mask: Tensor) -> Tensor:
    """Algorithm 9: m [s, n, c_m], mask [s, n]."""
    rows, n, _ = m.shape
    c = layer.left.weight.shape[0]
    out = torch.empty(n, n, layer.out.weight.shape[0], dtype=m.dtype)
    for i in range(n):
        for j in range(n):
            o, count = torch.zeros(c * c, dtype=m.dtype), 0
            for s in range(rows):
                if mask[s, i] and mask[s, j]:
                    a = linear(layer.left.weight, norm(layer.norm, m[s, i]))
                    b = linear(layer.right.weight, norm(layer.norm, m[s, j]))
                    o = o + torch.stack([a[x] * b[y] for x in range(c) for y in range(c)])
                    count += 1
            out[i, j] = (linear(layer.out.weight, o) + layer.out.bias) / (layer.eps + count)
    return out


def pair_weighted_averaging(layer: PairWeightedAveraging, m: Tensor, z: Tensor, mask: Tensor) -> Tensor:
    """Algorithm 10: m [s, n, c_m], z [n, n, c_z], mask [n]."""
    rows, n, _ = m.shape
    c = layer.gate.weight.shape[0] // layer.heads
    out = torch.empty_like(m)
    for s in range(rows):
        x = [norm(layer.norm, m[s, i]) for i in range(n)]
        for i in range(n):
            gathered = []
            for h in range(layer.heads):
                logits = [project(layer.bias, norm(layer.norm_z, z[i, j]), h, 1)[0] for j in range(n)]
                weights = softmax([b if mask[j] else b * 0 - 1e9 for j, b in enumerate(logits)])
                mean = sum(w * project(layer.value, x[j], h * c, c) for j, w in enumerate(weights))
                gathered.append(sigmoid(project(layer.gate, x[i], h * c, c)) * mean)
            out[s, i] = linear(layer.out.weight, torch.cat(gathered))
    return out


def msa_module(layer: MsaModule, rows: MsaRows, z: Tensor, s_inputs: Tensor, mask: Tensor) -> Tensor:
    """Algorithm 8 for the first example of `rows`."""
    depth, n = rows.msa.shape[1:]
    m = torch.empty(depth, n, layer.features.weight.shape[0], dtype=z.dtype)
    for s in range(depth):
        for i in range(n):
            feature = torch.zeros(34, dtype=z.dtype)
            feature[rows.msa[0, s, i]] = 1
            feature[32], feature[33] = rows.has_deletion[0, s, i], rows.deletion_value[0, s, i]
            m[s, i] = linear(layer.features.weight, feature) + linear(layer.s_inputs.weight, s_inputs[i])
    start = z
    for block in layer.blocks:
        z = z + outer_product_mean(block.outer, m, rows.mask[0])
        if block.average is not None:
            m = m + pair_weighted_averaging(block.average, m, z, mask)
            m = m + torch.stack([torch.stack([transition(block.transition, x) for x in row]) for row in m])
        z = pair_track(block.pair, z, mask)
    return z + start if layer.outer_residual else z
