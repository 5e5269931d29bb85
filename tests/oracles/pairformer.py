"""SI Algorithm 17 and the unconditioned Algorithm 24: one example, loops over i, j and heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structgen.alphafold3.pairformer import AttentionPairBias, PairformerStack
from tests.oracles.triangle import linear, norm, pair_track, project, sigmoid, softmax, transition


def attention_pair_bias(layer: AttentionPairBias, s: Tensor, z: Tensor, mask: Tensor) -> Tensor:
    """Algorithm 24 without conditioning: s [n, c_s], z [n, n, c_z], mask [n]."""
    n, width = s.shape
    c = width // layer.heads
    x = [norm(layer.norm, row) for row in s]
    out = torch.empty_like(s)
    for i in range(n):
        gathered = []
        for h in range(layer.heads):
            q = project(layer.q, x[i], h * c, c) + layer.q.bias[h * c : (h + 1) * c]
            logits = []
            for j in range(n):
                bias = project(layer.bias, norm(layer.norm_z, z[i, j]), h, 1)[0]
                logit = (q * project(layer.kv, x[j], h * c, c)).sum() / math.sqrt(c) + bias
                logits.append(logit if mask[j] else logit * 0 - 1e9)
            weights = softmax(logits)
            mean = sum(w * project(layer.kv, x[j], width + h * c, c) for j, w in enumerate(weights))
            gathered.append(sigmoid(project(layer.gate, x[i], h * c, c)) * mean)
        out[i] = linear(layer.out.weight, torch.cat(gathered))
    return out


def stack(layer: PairformerStack, s: Tensor | None, z: Tensor, mask: Tensor) -> tuple[Tensor | None, Tensor]:
    """Algorithm 17."""
    for block in layer.blocks:
        z = pair_track(block.pair, z, mask)
        if s is not None:
            s = s + attention_pair_bias(block.single.attention, s, z, mask)
            s = s + torch.stack([transition(block.single.transition, row) for row in s])
    return s, z
