"""Times as vectors."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn


class Sinusoidal(nn.Module):
    """[cos(w t), sin(w t)] for frequencies w in geometric steps from 1 down to 1 / longest (Vaswani et al. 2017; Ho et al. 2020).

    Inner products depend on the difference of two times alone. Times that run from 0 to 1 want `scale` = 1000 or so.
    """

    frequencies: Tensor

    def __init__(self, width: int, *, longest: float, scale: float) -> None:
        super().__init__()
        half = width // 2
        steps = torch.arange(half, dtype=torch.float32) / max(half - 1, 1)
        self.register_buffer("frequencies", scale * torch.exp(-math.log(longest) * steps), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """[...] -> [..., width]."""
        return _waves(t, self.frequencies)


class RandomFourier(nn.Module):
    """[cos(w t), sin(w t)] / sqrt(width / 2) for frequencies w ~ N(0, bandwidth^2), kept with the weights (Rahimi & Recht 2007).

    The inner product of two times is exp(-(bandwidth (t - t'))^2 / 2) in expectation.
    """

    frequencies: Tensor

    def __init__(self, width: int, *, bandwidth: float, rng: Generator) -> None:
        super().__init__()
        self.register_buffer("frequencies", bandwidth * torch.randn(width // 2, generator=rng))

    def forward(self, t: Tensor) -> Tensor:
        """[...] -> [..., width]."""
        return _waves(t, self.frequencies) / math.sqrt(len(self.frequencies))


def _waves(t: Tensor, frequencies: Tensor) -> Tensor:
    """The product is made in float32 or better: a time in bfloat16 times a high frequency has no phase left."""
    phase = t[..., None] * frequencies.to(torch.promote_types(t.dtype, torch.float32))
    return torch.cat([phase.cos(), phase.sin()], -1)
