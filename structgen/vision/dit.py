"""The diffusion transformer and its four ways to hear a condition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.nn.linear import Init, Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Float, typed
from structgen.vision.attention import Attention, FeedForward
from structgen.vision.condition import Condition
from structgen.vision.patches import coordinates, grid_of, patchify, places, unpatchify
from structgen.vision.steering import Steer, Steering


class Conditioning(Enum):
    """How a block hears the condition (Peebles & Xie 2023, section 3.2)."""

    IN_CONTEXT = "in-context"
    CROSS_ATTENTION = "cross-attention"
    ADALN = "adaLN"
    ADALN_ZERO = "adaLN-Zero"


@dataclass(frozen=True)
class DiTConfig:
    """`patch` has one entry an axis: two for pictures, three (frame, row, column) for clips."""

    channels: int
    patch: tuple[int, ...] = (2, 2)
    width: int = 128
    depth: int = 6
    heads: int = 4
    conditioning: Conditioning = Conditioning.ADALN_ZERO
    qk_norm: bool = False
    c_image: int = 0
    c_tokens: int = 0  # tokens are heard in context or by cross-attention
    steering: Steering = field(default_factory=Steering)


class Norm(LayerNorm):
    """Without scale and offset: the condition gives them. DiT's epsilon."""

    eps = 1e-6

    def __init__(self, c: int) -> None:
        super().__init__(c, scale=False, offset=False)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift, shift and scale [b, c] over tokens [b, n, c]."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Modulation(nn.Module):
    """`count` vectors [b, c] from the steering vector: linear of its SiLU."""

    def __init__(self, c: int, count: int, init: Init) -> None:
        super().__init__()
        self.count = count
        self.linear = Linear(c, count * c, bias=True, init=init)

    def forward(self, vector: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(vector)).chunk(self.count, -1)


class Block(nn.Module, ABC):
    """x [b, n, c], the parts of the condition [b, m, c] and which of them are there -> x. `seen` [b, n]: which of x are no padding."""

    @abstractmethod
    def forward(self, x: Tensor, parts: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor: ...


class AdaLNZero(Block):
    """Scale, shift and gate both halves by the sum of the parts; the gates begin at 0, so a new block is the identity."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(config.width), Norm(config.width)
        self.modulation = Modulation(config.width, 6, "zero")
        self.attention = Attention(config.width, c_context=config.width, heads=config.heads, qk_norm=config.qk_norm)
        self.feed_forward = FeedForward(config.width)

    def forward(self, x: Tensor, parts: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(parts.sum(1))
        x = x + gate_1[:, None] * self.attention(modulated(self.norm1(x), shift_1, scale_1), None, seen)
        return x + gate_2[:, None] * self.feed_forward(modulated(self.norm2(x), shift_2, scale_2))


class AdaLN(Block):
    """Scale and shift both halves by the sum of the parts."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(config.width), Norm(config.width)
        self.modulation = Modulation(config.width, 4, "default")
        self.attention = Attention(config.width, c_context=config.width, heads=config.heads, qk_norm=config.qk_norm)
        self.feed_forward = FeedForward(config.width)

    def forward(self, x: Tensor, parts: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor:
        shift_1, scale_1, shift_2, scale_2 = self.modulation(parts.sum(1))
        x = x + self.attention(modulated(self.norm1(x), shift_1, scale_1), None, seen)
        return x + self.feed_forward(modulated(self.norm2(x), shift_2, scale_2))


class CrossAttention(Block):
    """Self-attention, attention to the parts, feed-forward."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm(config.width) for _ in range(3))
        self.attention = Attention(config.width, c_context=config.width, heads=config.heads, qk_norm=config.qk_norm)
        self.cross = Attention(config.width, c_context=config.width, heads=config.heads, qk_norm=config.qk_norm)
        self.feed_forward = FeedForward(config.width)

    def forward(self, x: Tensor, parts: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), None, seen)
        x = x + self.cross(self.norm2(x), parts, mask)
        return x + self.feed_forward(self.norm3(x))


class InContext(Block):
    """A plain transformer block: the parts stand among the tokens (`DiT` puts them there)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(config.width), LayerNorm(config.width)
        self.attention = Attention(config.width, c_context=config.width, heads=config.heads, qk_norm=config.qk_norm)
        self.feed_forward = FeedForward(config.width)

    def forward(self, x: Tensor, parts: Tensor, mask: Tensor | None, seen: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), None, seen)
        return x + self.feed_forward(self.norm2(x))


BLOCKS: Mapping[Conditioning, type[Block]] = MappingProxyType(
    {
        Conditioning.IN_CONTEXT: InContext,
        Conditioning.CROSS_ATTENTION: CrossAttention,
        Conditioning.ADALN: AdaLN,
        Conditioning.ADALN_ZERO: AdaLNZero,
    }
)


class Final(nn.Module):
    """Tokens to patches: norm, scale and shift by the vector, linear. A new one returns zeros."""

    def __init__(self, width: int, c_out: int) -> None:
        super().__init__()
        self.norm = Norm(width)
        self.modulation = Modulation(width, 2, "zero")
        self.linear = Linear(width, c_out, bias=True, init="zero")

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale = self.modulation(vector)
        return self.linear(modulated(self.norm(x), shift, scale))


class TokenTransformer(nn.Module):
    """A DiT of patches [b, n, c_in] at places [b or 1, n, axes]: what pictures, clips and packed batches of both share.

    Raises `ConfigError` if the condition has tokens and the blocks cannot hear them.
    """

    def __init__(self, config: DiTConfig, c_in: int, c_out: int) -> None:
        super().__init__()
        if config.c_tokens and config.conditioning in (Conditioning.ADALN, Conditioning.ADALN_ZERO):
            raise ConfigError(f"{config.conditioning.value} hears a vector and no tokens: use in-context or cross-attention, or an MM-DiT")
        self.in_context = config.conditioning is Conditioning.IN_CONTEXT
        self.width = config.width
        self.first = Linear(c_in, config.width, bias=True)
        self.steer = Steer(config.steering, config.width)
        self.tokens = Linear(config.c_tokens, config.width, bias=True) if config.c_tokens else None
        self.blocks = nn.ModuleList(BLOCKS[config.conditioning](config) for _ in range(config.depth))
        self.final = Final(config.width, c_out)

    def forward(self, patches: Tensor, where: Tensor, times: Tensor, cond: Condition, seen: Tensor | None = None) -> Tensor:
        x = self.first(patches) + places(where, self.width).to(patches.dtype)
        parts = self.steer(times, cond)
        vector, (parts, mask) = parts.sum(1), self._with_tokens(parts, cond)
        if self.in_context:
            x = torch.cat([parts, x], 1)
            seen = _joined(mask, seen, parts, x)
        for block in self.blocks:
            x = block(x, parts, mask, seen)
        return self.final(x[:, parts.shape[1] :] if self.in_context else x, vector)

    def _with_tokens(self, parts: Tensor, cond: Condition) -> tuple[Tensor, Tensor | None]:
        """The parts and the words after them; which of both are there."""
        if self.tokens is None:
            return parts, None
        words = self.tokens(cond.require("tokens"))
        mask = None if cond.mask is None else torch.cat([cond.mask.new_ones(parts.shape[:2]), cond.mask], 1)
        return torch.cat([parts, words], 1), mask


def _joined(mask: Tensor | None, seen: Tensor | None, parts: Tensor, x: Tensor) -> Tensor | None:
    """Which tokens are there when the parts stand before the patches."""
    if mask is None and seen is None:
        return None
    everywhere = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    count = parts.shape[1]
    first = everywhere[:, :count] if mask is None else mask
    return torch.cat([first, everywhere[:, count:] if seen is None else seen], 1)


@typed
class DiT(nn.Module):
    """The diffusion transformer (Peebles & Xie 2023): a `Network` of `Condition` for any size that patches tile.

    (I / p)^2 tokens for a picture of side I. [b, channels, *size] -> the same. A new one returns zeros.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        volume = int(torch.tensor(config.patch).prod())
        self.transformer = TokenTransformer(config, (config.channels + config.c_image) * volume, config.channels * volume)

    def forward(self, x: Float[Tensor, "b c *size"], times: Float[Tensor, "b k"], cond: Condition) -> Float[Tensor, "b c *size"]:
        patch, size = self.config.patch, x.shape[2:]
        where = coordinates(grid_of(size, patch)).to(x.device)[None]
        joined = torch.cat([x, cond.require("image")], 1) if self.config.c_image else x
        return unpatchify(self.transformer(patchify(joined, patch), where, times, cond), patch, size)
