"""A transformer in which no token sees a later one, and what it remembers between steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from structgen.nn.attention import MASKED, attention
from structgen.nn.norms import LayerNorm
from structgen.typing import Bool, Float, typed
from structgen.vision.attention import Attention, FeedForward, merged


@dataclass(frozen=True)
class CausalConfig:
    """Sizes of the transformer."""

    width: int = 96
    depth: int = 3
    heads: int = 4


class Seen(NamedTuple):
    """Keys and values of a block, each [b, h, n, c], of all tokens so far."""

    keys: Tensor
    values: Tensor


Memory: TypeAlias = tuple[Seen, ...]
"""One a block; () before the first token."""


class CausalBlock(nn.Module):
    """Self-attention and feed-forward, each after a norm and added to x."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(config.width), LayerNorm(config.width)
        self.attention = Attention(config.width, c_context=config.width, heads=config.heads, qk_norm=False)
        self.feed_forward = FeedForward(config.width)

    def forward(self, x: Tensor, bias: Tensor, past: Seen | None) -> tuple[Tensor, Seen]:
        own = self.norm1(x)
        q, k, v = self.attention.heads_of(own, own)
        if past is not None:
            k, v = torch.cat([past.keys, k], 2), torch.cat([past.values, v], 2)
        x = x + self.attention.out(merged(attention(q, k, v, bias)))
        return x + self.feed_forward(self.norm2(x)), Seen(k, v)


@typed
class Causal(nn.Module):
    """Tokens [b, n, width], which come after those of the memory, to [b, n, width] and the memory with them.

    All at once (teacher forcing) and token by token with the memory are the same.
    """

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.depth))
        self.norm = LayerNorm(config.width)

    def forward(
        self, x: Float[Tensor, "b n c"], there: Bool[Tensor, "b m"] | None = None, memory: Memory = ()
    ) -> tuple[Float[Tensor, "b n c"], Memory]:
        """`there` is False for padding among all m tokens, those of the memory first; None: there is none."""
        n, m = x.shape[1], x.shape[1] + (memory[0].keys.shape[2] if memory else 0)
        hidden = torch.ones(n, m, dtype=torch.bool, device=x.device).triu(m - n + 1)[None]
        hidden = hidden if there is None else hidden | ~there[:, None]
        bias = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill(hidden, MASKED)[:, None]
        found = []
        for k, block in enumerate(self.blocks):
            x, seen = block(x, bias, memory[k] if memory else None)
            found.append(seen)
        return self.norm(x), tuple(found)
