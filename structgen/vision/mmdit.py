"""The multimodal diffusion transformer of Stable Diffusion 3."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from structgen.nn.attention import MASKED, attention
from structgen.nn.linear import Linear
from structgen.typing import Float, typed
from structgen.vision.attention import Attention, FeedForward, merged
from structgen.vision.condition import Condition
from structgen.vision.dit import Final, Modulation, Norm, modulated
from structgen.vision.patches import coordinates, grid_of, patchify, places, unpatchify
from structgen.vision.steering import Steer, Steering

SD3_LONGEST = 10_000.0 ** (127 / 128)  # SD3's frequencies stop one step short of 1 / 10,000


@dataclass(frozen=True)
class MMDiTConfig:
    """Pictures (`patch` of two axes) or clips (three), with a text of tokens [b, n, c_tokens] and a pooled vector."""

    channels: int
    c_tokens: int
    patch: tuple[int, ...] = (2, 2)
    width: int = 128
    depth: int = 6
    heads: int = 4
    qk_norm: bool = True
    c_image: int = 0
    steering: Steering = field(default_factory=lambda: Steering(longest=SD3_LONGEST))


class Stream(nn.Module):
    """The weights of one kind of token in a block. The last block's text is read and not written: it has no way out."""

    def __init__(self, width: int, heads: int, qk_norm: bool, *, written: bool) -> None:
        super().__init__()
        self.norm1 = Norm(width)
        self.modulation = Modulation(width, 6 if written else 2, "zero")
        self.attention = Attention(width, c_context=width, heads=heads, qk_norm=qk_norm)
        self.norm2 = Norm(width) if written else nn.Identity()
        self.feed_forward = FeedForward(width) if written else nn.Identity()
        if not written:
            self.attention.out = nn.Identity()  # type: ignore[assignment]

    def entered(self, x: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        shift, scale = parts[0], parts[1]
        x = modulated(self.norm1(x), shift, scale)
        return self.attention.heads_of(x, x)

    def left(self, x: Tensor, attended: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        """The stream after attention and feed-forward."""
        _, _, gate_1, shift, scale, gate_2 = parts
        x = x + gate_1[:, None] * self.attention.out(merged(attended))
        return x + gate_2[:, None] * self.feed_forward(modulated(self.norm2(x), shift, scale))


class JointBlock(nn.Module):
    """Two streams with weights of their own and one attention over both (SD3, figure 2b). With equal weights it is one stream, a block of
    DiT's adaLN-Zero."""

    def __init__(self, width: int, heads: int, qk_norm: bool, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.picture = Stream(width, heads, qk_norm, written=True)
        self.text = Stream(width, heads, qk_norm, written=not last)

    def forward(self, x: Tensor, words: Tensor, vector: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """x [b, n, c], words [b, m, c], the steering vector [b, c] and the bias of the n + m keys -> both."""
        of_x, of_words = self.picture.modulation(vector), self.text.modulation(vector)
        pairs = zip(self.picture.entered(x, of_x), self.text.entered(words, of_words), strict=True)
        q, k, v = (torch.cat(pair, 2) for pair in pairs)
        attended = attention(q, k, v, bias)
        own, others = attended.split([x.shape[1], words.shape[1]], 2)
        x = self.picture.left(x, own, of_x)
        return x, words if self.last else self.text.left(words, others, of_words)


@typed
class MMDiT(nn.Module):
    """MM-DiT (Esser et al. 2024, section 4): a `Network` of `Condition` with tokens. [b, channels, *size] -> the same; a new one returns
    zeros."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
        volume = int(torch.tensor(config.patch).prod())
        self.first = Linear((config.channels + config.c_image) * volume, config.width, bias=True)
        self.words = Linear(config.c_tokens, config.width, bias=True)
        self.steer = Steer(config.steering, config.width)
        last = config.depth - 1
        self.blocks = nn.ModuleList(JointBlock(config.width, config.heads, config.qk_norm, last=n == last) for n in range(config.depth))
        self.final = Final(config.width, config.channels * volume)

    def forward(self, x: Float[Tensor, "b c *size"], times: Float[Tensor, "b k"], cond: Condition) -> Float[Tensor, "b c *size"]:
        patch, size = self.config.patch, x.shape[2:]
        joined = torch.cat([x, cond.require("image")], 1) if self.config.c_image else x
        tokens = self.first(patchify(joined, patch))
        tokens = tokens + places(coordinates(grid_of(size, patch)).to(x.device), self.config.width).to(x.dtype)
        words, vector = self.words(cond.require("tokens")), self.steer(times, cond).sum(1)
        bias = _bias(cond.mask, tokens)
        for block in self.blocks:
            tokens, words = block(tokens, words, vector, bias)
        return unpatchify(self.final(tokens, vector), patch, size)


def _bias(mask: Tensor | None, tokens: Tensor) -> Tensor | None:
    """Hides the words that are padding from all."""
    if mask is None:
        return None
    words = torch.where(mask, 0.0, MASKED).to(tokens.dtype)
    return torch.cat([words.new_zeros(tokens.shape[:2]), words], 1)[:, None, None]
