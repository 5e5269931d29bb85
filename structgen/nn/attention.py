"""Attention with an additive bias that never needs its logits in memory unless a gradient flows through the bias."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MASKED = -1e9  # bias of a key that must not be seen; finite, so that a query without any key gets a mean and not NaN


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax_j(q_i . k_j / sqrt(c) + bias_ij) v_j, the softmax in float32 whatever the inputs are held in.

    `q` [..., h, i, c], `k` and `v` [..., h, j, c], `bias` broadcastable to [..., h, i, j]; returns [..., h, i, c]. A bias of size 1 in a
    leading dimension is shared and not copied. torch's fused kernels give no gradient to a shared bias on the CPU and an expanded
    one on a GPU, so such a bias is added to explicit logits.
    """
    if bias is not None and bias.requires_grad and torch.is_grad_enabled():
        return _explicit(q, k, v, bias)
    if q.ndim == 4:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
    if q.ndim == 3:
        return attention(q[None], k[None], v[None], bias)[0]
    if bias is None or all(size == 1 for size in bias.shape[:-3]):
        fused = attention(q.flatten(0, -4), k.flatten(0, -4), v.flatten(0, -4), bias if bias is None else bias.reshape(-1, *bias.shape[-3:]))
        return fused.unflatten(0, q.shape[:-3])
    rows = bias if bias.ndim == q.ndim else bias.reshape((1,) * (q.ndim - bias.ndim) + bias.shape)
    return torch.stack([attention(q[x], k[x], v[x], rows[x if len(rows) > 1 else 0]) for x in range(len(q))])


def _explicit(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    logits = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    return torch.matmul(torch.softmax(logits + bias, dim=-1, dtype=_at_least_float32(q.dtype)).to(v.dtype), v)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
