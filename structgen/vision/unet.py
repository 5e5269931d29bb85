"""The U-Net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.typing import Float, typed
from structgen.vision.condition import Condition
from structgen.vision.resnet import EPS, Conv2d, Enlarge, Halve, PixelAttention, ResnetBlock
from structgen.vision.steering import Steer, Steering

Between: TypeAlias = Callable[[int, Tensor], Tensor]
"""(number of the stage, its output [b, c, h, w]) -> what the next one sees."""


@dataclass(frozen=True)
class UNetConfig:
    """Widths of the levels from the largest picture to the smallest, and which of them attend."""

    c_in: int
    c_out: int
    widths: tuple[int, ...] = (64, 128)
    attend: tuple[bool, ...] = (False, True)
    blocks: int = 2
    head_width: int = 32
    groups: int = 8
    c_image: int = 0  # channels of `Condition.image`
    c_tokens: int = 0  # width of `Condition.tokens`: 0 for no cross-attention
    steering: Steering = field(default_factory=Steering)


class Stage(nn.Module):
    """A convolutional block and, on levels that attend, attention."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig, attend: bool) -> None:
        super().__init__()
        self.block = ResnetBlock(c_in, c_out, c_vector=4 * config.widths[0], groups=config.groups)
        heads = max(1, c_out // config.head_width)
        self.attention = PixelAttention(c_out, c_tokens=config.c_tokens, heads=heads, groups=config.groups) if attend else None

    def forward(self, x: Tensor, vector: Tensor, cond: Condition) -> Tensor:
        x = self.block(x, vector)
        return x if self.attention is None else self.attention(x, cond.tokens, cond.mask)


class Descent(nn.Module):
    """The half of a U-Net that goes down, to the middle; a ControlNet is made of a second one."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.c_image = config.c_image
        self.first = Conv2d(config.c_in + config.c_image, config.widths[0], 3, padding=1)
        widths = [config.widths[0], *config.widths]
        self.levels = nn.ModuleList(
            nn.ModuleList(Stage(widths[n + (k > 0)], widths[n + 1], config, config.attend[n]) for k in range(config.blocks))
            for n in range(len(config.widths))
        )
        self.halves = nn.ModuleList(Halve(width) for width in config.widths[:-1])
        self.middle = nn.ModuleList(Stage(config.widths[-1], config.widths[-1], config, attend) for attend in (True, False))

    def entered(self, x: Tensor, cond: Condition) -> Tensor:
        """The first convolution of the state and of the picture beside it."""
        return self.first(torch.cat([x, cond.require("image")], 1) if self.c_image else x)

    def forward(self, x: Tensor, vector: Tensor, cond: Condition, between: Between) -> tuple[Tensor, list[Tensor]]:
        """The middle, and what is kept on the way for the way up. x comes from `entered`."""
        kept, stage = [x], 0
        for n, level in enumerate(self.levels):
            for block in level:  # type: ignore[attr-defined]
                x = between(stage, block(x, vector, cond))
                kept.append(x)
                stage += 1
            if n < len(self.halves):
                x = self.halves[n](x)
                kept.append(x)
        for k, block in enumerate(self.middle):
            x = between(stage + k, block(x, vector, cond))
        return x, kept


@typed
class UNet(nn.Module):
    """The U-Net of DDPM and ADM (Ho et al. 2020, appendix B; Dhariwal & Nichol 2021): a `Network` of `Condition` for any size of picture.

    [b, c_in, h, w] -> [b, c_out, h, w]; odd sizes are halved to (n + 1) / 2 and enlarged back to what was there. A new one returns zeros.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.steer = Steer(config.steering, 4 * config.widths[0])
        self.descent = Descent(config)
        ups, width = [], config.widths[-1]
        skips = skip_widths(config)
        for n in reversed(range(len(config.widths))):
            level = nn.ModuleList()
            for _ in range(config.blocks + 1):
                level.append(Stage(width + skips.pop(), config.widths[n], config, config.attend[n]))
                width = config.widths[n]
            ups.append(level)
        self.ups = nn.ModuleList(ups)
        self.enlarge = nn.ModuleList(Enlarge(width) for width in reversed(config.widths[1:]))
        self.norm = nn.GroupNorm(config.groups, config.widths[0], eps=EPS)
        self.last = Conv2d(config.widths[0], config.c_out, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Float[Tensor, "b c_in h w"], times: Float[Tensor, "b k"], cond: Condition, between: Between = lambda _, x: x
    ) -> Float[Tensor, "b c_out h w"]:
        """`between` acts on the output of every stage: temporal layers of clips."""
        vector = self.steer(times, cond).sum(1)
        middle, kept = self.descent(self.descent.entered(x, cond), vector, cond, between)
        return self.ascend(middle, kept, vector, cond, between)

    def ascend(self, x: Tensor, kept: list[Tensor], vector: Tensor, cond: Condition, between: Between) -> Tensor:
        """From the middle to the output."""
        stage, kept = self.config.blocks * len(self.config.widths) + 2, list(kept)
        for n, level in enumerate(self.ups):
            for block in level:  # type: ignore[attr-defined]
                x = between(stage, block(torch.cat([x, kept.pop()], 1), vector, cond))
                stage += 1
            if n < len(self.enlarge):
                x = self.enlarge[n](x, tuple(kept[-1].shape[-2:]))
        return self.last(F.silu(self.norm(x)))


def skip_widths(config: UNetConfig) -> list[int]:
    """Channels of all that is kept on the way down, in order."""
    widths = [config.widths[0]]
    for n, width in enumerate(config.widths):
        widths += [width] * (config.blocks + (n < len(config.widths) - 1))
    return widths


def stage_widths(config: UNetConfig) -> list[int]:
    """Channels of the output of every stage, as `Between` counts them."""
    down = [width for width in config.widths for _ in range(config.blocks)]
    up = [width for width in reversed(config.widths) for _ in range(config.blocks + 1)]
    return down + [config.widths[-1]] * 2 + up
