"""Attention among tokens of pictures and texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from structgen.nn.attention import MASKED, attention
from structgen.nn.linear import Linear, gelu_of_affine
from structgen.typing import Bool, Float, typed


@typed
class Attention(nn.Module):
    """Multi-head attention of x to a context, or to itself where none is given: softmax(Q K^T / sqrt(d)) V (Rombach et al. 2022, eq. 4).

    With `qk_norm`, queries and keys of every head have a root mean square of 1 before their learned scales (SD3, section 5.3.2).
    """

    def __init__(self, c: int, *, c_context: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(c, c, bias=True)
        self.k = Linear(c_context, c, bias=True)
        self.v = Linear(c_context, c, bias=True)
        self.out = Linear(c, c, bias=True)
        self.norm_q = nn.RMSNorm(c // heads, eps=1e-6) if qk_norm else nn.Identity()
        self.norm_k = nn.RMSNorm(c // heads, eps=1e-6) if qk_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b n c"], context: Float[Tensor, "b m d"] | None = None, mask: Bool[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b n c"]:
        """`mask` is True for what may be seen of the context."""
        bias = None if mask is None else key_bias(mask, x)
        return self.out(merged(attention(*self.heads_of(x, x if context is None else context), bias)))

    def heads_of(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x, keys and values of the context, [b, h, n, c / h]."""
        q, k, v = self.q(x), self.k(context), self.v(context)
        q, k, v = (split(part, self.heads) for part in (q, k, v))
        return self.norm_q(q), self.norm_k(k), v


def split(x: Tensor, heads: int) -> Tensor:
    """[b, n, h d] -> [b, h, n, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """[b, h, n, d] -> [b, n, h d]."""
    return x.transpose(1, 2).flatten(-2)


def key_bias(mask: Tensor, like: Tensor) -> Tensor:
    """[b, m] bool -> additive bias [b, 1, 1, m]."""
    return torch.where(mask, 0.0, MASKED).to(like.dtype)[:, None, None]


class FeedForward(nn.Module):
    """Linear to four times the width, GELU (its tanh form, as in DiT and SD3), linear back."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.first = Linear(c, 4 * c, bias=True)
        self.second = Linear(4 * c, c, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(gelu_of_affine(x, self.first.weight, self.first.bias))
