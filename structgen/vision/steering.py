"""The vector that steers a network: times, class and embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.nn.embeddings import Sinusoidal
from structgen.nn.linear import Linear
from structgen.vision.condition import Condition

TIME_SCALE = 1000.0  # times run from 0 to 1, the frequencies are those of a thousand steps (Ho et al. 2020)


@dataclass(frozen=True)
class Steering:
    """Which conditions make the vector. 0: not this one."""

    times: int = 1  # 2 for networks that are read as a mean velocity
    classes: int = 0
    c_vector: int = 0
    level: bool = False  # the noise of `Condition.image`
    frequencies: int = 256
    longest: float = 10_000.0  # period of the slowest frequency over that of the fastest


class Steer(nn.Module):
    """(times [b, k], condition) -> [b, parts, width], one vector a condition; their sum is what adaptive norms see.

    The first part is that of all times. Widths and layers are those of DDPM's time embedding and DiT's label embedding (Peebles & Xie
    2023), and of SD3's pooled text.
    """

    def __init__(self, config: Steering, width: int) -> None:
        super().__init__()
        self.waves = Sinusoidal(config.frequencies, longest=config.longest, scale=TIME_SCALE)
        self.times = nn.ModuleList(TwoLayers(config.frequencies, width) for _ in range(config.times))
        self.level = TwoLayers(config.frequencies, width) if config.level else None
        self.label = nn.Embedding(config.classes + 1, width) if config.classes else None
        self.vector = TwoLayers(config.c_vector, width) if config.c_vector else None

    def forward(self, times: Tensor, cond: Condition) -> Tensor:
        waves = self.waves(times).to(times.dtype)
        parts = [torch.stack([layer(waves[:, k]) for k, layer in enumerate(self.times)]).sum(0)]
        if self.level is not None:
            parts.append(self.level(self.waves(cond.require("level")).to(times.dtype)))
        if self.label is not None:
            parts.append(self.label(cond.require("label").remainder(self.label.num_embeddings)))  # NO_CLASS is the last row
        if self.vector is not None:
            parts.append(self.vector(cond.require("vector")))
        return torch.stack(parts, 1)


class TwoLayers(nn.Module):
    """Linear, SiLU, linear."""

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.first = Linear(c_in, width, bias=True)
        self.second = Linear(width, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.silu(self.first(x)))
