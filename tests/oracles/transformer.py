"""SI Algorithms 11 and 23-26 written out row by row and head by head, in the data type of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Pair = Callable[[int, int], Tensor]  # z_ij


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Float64 and no weight left at 0 or 1: a layer that starts at zero must not hide its errors."""
    rng = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64) * (0.5 / math.sqrt(parameter.shape[-1])))
            parameter.add_(0.7 if parameter.ndim == 1 else 0.0)
    return module


def linear(module: nn.Module, x: Tensor) -> Tensor:
    out = (module.weight * x).sum(dim=1)
    return out if module.bias is None else out + module.bias


def layer_norm(module: nn.Module, x: Tensor) -> Tensor:
    out = (x - x.mean()) / torch.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
    if module.weight is not None:
        out = out * module.weight
    return out if module.bias is None else out + module.bias


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def swiglu(module: nn.Module, x: Tensor) -> Tensor:
    both = linear(module.wide, x)
    half = len(both) // 2
    return linear(module.out, swish(both[:half]) * both[half:])


def transition(module: nn.Module, x: Tensor) -> Tensor:
    """Algorithm 11."""
    return swiglu(module, layer_norm(module.norm, x))


def adaln(module: nn.Module, a: Tensor, s: Tensor) -> Tensor:
    """Algorithm 26."""
    s = layer_norm(module.norm_s, s)
    return sigmoid(linear(module.scale, s)) * layer_norm(module.norm_a, a) + linear(module.shift, s)


def attention_pair_bias(
    module: nn.Module, a: Sequence[Tensor], s: Sequence[Tensor], bias: Pair, keys: Callable[[int], Sequence[int]]
) -> list[Tensor]:
    """Algorithm 24; `bias` gives all heads, `keys` the rows that row i attends to."""
    heads = module.heads
    x = [adaln(module.norm, row, cond) for row, cond in zip(a, s, strict=True)]
    y = x
    if module.kv_norm == "separate":
        y = [adaln(module.norm_kv, row, cond) for row, cond in zip(a, s, strict=True)]
    if module.kv_norm == "chained":
        y = [adaln(module.norm_kv, row, cond) for row, cond in zip(x, s, strict=True)]
    width = len(a[0]) // heads
    q = [linear(module.q, row) for row in x]
    kv = [linear(module.kv, row) for row in y]
    gate = [sigmoid(linear(module.gate, row)) for row in x]
    out = []
    for i in range(len(a)):
        parts = []
        for h in range(heads):
            mine = slice(h * width, (h + 1) * width)
            logits = torch.stack([(q[i][mine] * kv[j][: len(a[0])][mine]).sum() / math.sqrt(width) + bias(i, j)[h] for j in keys(i)])
            weights = torch.exp(logits - logits.max())
            weights = weights / weights.sum()
            values = [weight * kv[j][len(a[0]) :][mine] for weight, j in zip(weights, keys(i), strict=True)]
            parts.append(gate[i][mine] * torch.stack(values).sum(dim=0))
        out.append(sigmoid(linear(module.s_gate, s[i])) * linear(module.out, torch.cat(parts)))
    return out


def conditioned_transition(module: nn.Module, a: Tensor, s: Tensor) -> Tensor:
    """Algorithm 25."""
    return sigmoid(linear(module.s_gate, s)) * swiglu(module, adaln(module.norm, a, s))


def diffusion_transformer(
    module: nn.Module, a: Sequence[Tensor], s: Sequence[Tensor], z: Pair, keys: Callable[[int], Sequence[int]]
) -> list[Tensor]:
    """Algorithm 23. One pair norm for all blocks (per_stack) if the module has only one."""
    a = list(a)
    for block in range(len(module.attentions)):
        norm, project = module.pair_norms[block if len(module.pair_norms) > 1 else 0], module.pair_biases[block]
        table = {(i, j): linear(project, layer_norm(norm, z(i, j))) for i in range(len(a)) for j in keys(i)}
        update = attention_pair_bias(module.attentions[block], a, s, lambda i, j, table=table: table[i, j], keys)
        a = [row + more for row, more in zip(a, update, strict=True)]
        a = [row + conditioned_transition(module.transitions[block], row, cond) for row, cond in zip(a, s, strict=True)]
    return a
