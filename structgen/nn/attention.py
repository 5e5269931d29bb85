"""Attention with an additive bias that never needs its logits in memory unless a gradient flows through the bias."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MASKED = -1e9  # bias of a key that must not be seen; finite, so that a query without any key gets a mean and not NaN


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax_j(q_i . k_j / sqrt(c) + bias_ij) v_j, the softmax in float32 whatever the inputs are held in.

    `q` [..., h, i, c], `k` and `v` [..., h, j, c], `bias` broadcastable to [..., h, i, j]; returns [..., h, i, c]. A bias of size 1 in a
    leading dimension is shared and not copied, unless a gradient flows through it: torch's fused kernels give none to a shared bias. Then
    it is added to explicit logits on a CPU, and expanded on a GPU, which takes less memory than logits and their softmax.
    """
    if bias is None:
        return F.scaled_dot_product_attention(_four(q), _four(k), _four(v)).view(q.shape)
    if bias.requires_grad and torch.is_grad_enabled():
        return _expanded(q, k, v, bias) if q.device.type == "cuda" else _explicit(q, k, v, bias)
    bias = bias.to(q.dtype).reshape((1,) * (q.ndim - bias.ndim) + bias.shape)
    if q.ndim <= 4 or all(size == 1 for size in bias.shape[:-3]):
        return F.scaled_dot_product_attention(_four(q), _four(k), _four(v), attn_mask=_four(bias)).view(q.shape)
    return torch.stack([attention(q[x], k[x], v[x], bias[min(x, len(bias) - 1)]) for x in range(len(q))])


def _four(x: Tensor) -> Tensor:
    """[..., h, i, c] as [b, h, i, c], the only shape that torch's fused kernels take."""
    return x.reshape(-1, *x.shape[-3:])


def _expanded(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    whole = bias.to(q.dtype).expand(*q.shape[:-1], bias.shape[-1])
    return F.scaled_dot_product_attention(_four(q), _four(k), _four(v), attn_mask=_four(whole)).view(q.shape)


def _explicit(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    logits = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    weights = torch.softmax(logits + bias, dim=-1, dtype=torch.promote_types(q.dtype, torch.float32))
    return torch.matmul(weights.to(v.dtype), v)
