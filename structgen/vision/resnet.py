"""Convolutional blocks of U-Nets and codecs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.nn.linear import Linear
from structgen.vision.attention import Attention

EPS = 1e-5


def silu(fresh: Tensor) -> Tensor:
    """SiLU of what nobody else reads: in place where no gradients are kept, which spares a pass of memory."""
    return F.silu(fresh, inplace=not torch.is_grad_enabled())


class Conv2d(nn.Conv2d):
    """A convolution whose weights, and so what it gives, lie with the channels last: no kernel has to reorder them, and attention reads
    pixels as they lie."""

    def __init__(self, c_in: int, c_out: int, size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(c_in, c_out, size, stride=stride, padding=padding)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs


class ResnetBlock(nn.Module):
    """Norm, SiLU, convolution, twice, beside a shortcut. [b, c_in, h, w] -> [b, c_out, h, w].

    A vector of width `c_vector` scales and shifts the second norm (Dhariwal & Nichol 2021, section 3); 0: there is none.
    """

    def __init__(self, c_in: int, c_out: int, *, c_vector: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=EPS)
        self.conv1 = Conv2d(c_in, c_out, 3, padding=1)
        self.scale_shift = Linear(c_vector, 2 * c_out, bias=True) if c_vector else None
        self.norm2 = nn.GroupNorm(groups, c_out, eps=EPS)
        self.conv2 = Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(silu(self.norm1(x))))
        if self.scale_shift is not None and vector is not None:
            scale, shift = self.scale_shift(F.silu(vector))[..., None, None].chunk(2, 1)
            h = torch.addcmul(shift, h, 1 + scale)
        return self.shortcut(x) + self.conv2(silu(h))


class Halve(nn.Module):
    """Half the size, rounded up, by a convolution of stride 2."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = Conv2d(c, c, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Enlarge(nn.Module):
    """To a given size by the nearest pixel, then a convolution."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class PixelAttention(nn.Module):
    """Every pixel attends to every pixel, and then to the tokens of the condition (Rombach et al. 2022, section 3.3); added to x.

    `c_tokens` is the width of those tokens; 0: there are none.
    """

    def __init__(self, c: int, *, c_tokens: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, c, eps=EPS)
        self.own = Attention(c, c_context=c, heads=heads, qk_norm=False)
        self.norm_cross = nn.LayerNorm(c) if c_tokens else None
        self.cross = Attention(c, c_context=c_tokens, heads=heads, qk_norm=False) if c_tokens else None

    def forward(self, x: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)
        pixels = pixels + self.own(self.norm(x).flatten(2).transpose(1, 2).contiguous())  # one copy for queries, keys and values
        if self.cross is not None and self.norm_cross is not None:
            pixels = pixels + self.cross(self.norm_cross(pixels), tokens, mask)
        return pixels.transpose(1, 2).reshape(x.shape)
