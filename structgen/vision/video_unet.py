"""A U-Net of clips: that of pictures, frame by frame, with attention through time between its stages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from structgen.typing import Float, typed
from structgen.vision.attention import Attention
from structgen.vision.condition import Condition
from structgen.vision.patches import places
from structgen.vision.unet import UNet, UNetConfig, stage_widths


@dataclass(frozen=True)
class VideoUNetConfig:
    """The U-Net of a frame; `every`: attention through time after each that many stages."""

    frame: UNetConfig
    every: int = 1


class TimeAttention(nn.Module):
    """Every pixel attends to itself at all frames (Ho et al. 2022, section 3); added to x.

    [b, t, c, h, w] -> the same. Nothing passes between pixels. A single frame has no time and is left as it is, so that pictures train and
    sample the layers of pictures alone. A new one is the identity.
    """

    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c)
        self.attention = Attention(c, c_context=c, heads=heads, qk_norm=False)
        nn.init.zeros_(self.attention.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c, h, w = x.shape
        if t == 1:
            return x
        lines = x.permute(0, 3, 4, 1, 2).reshape(b * h * w, t, c)
        frames = places(torch.arange(t, dtype=x.dtype, device=x.device)[:, None], c)
        lines = self.attention(self.norm(lines) + frames)
        return x + lines.reshape(b, h, w, t, c).permute(0, 3, 4, 1, 2)


@typed
class VideoUNet(nn.Module):
    """The space-time separable U-Net (Ho et al. 2022; Singer et al. 2022): a `Network` of `Condition`. [b, c_in, t, h, w] -> [b, c_out, t,
    h, w] for any number of frames.

    `frame` is a `UNet`: weights trained on pictures load there, and give the same frames until the layers of time are trained.
    """

    def __init__(self, config: VideoUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.frame = UNet(config.frame)
        widths = stage_widths(config.frame)
        self.through_time = nn.ModuleDict(
            {
                str(stage): TimeAttention(width, max(1, width // config.frame.head_width))
                for stage, width in enumerate(widths)
                if stage % config.every == 0
            }
        )

    def forward(self, x: Float[Tensor, "b c_in t h w"], times: Float[Tensor, "b k"], cond: Condition) -> Float[Tensor, "b c_out t h w"]:
        b, t = x.shape[0], x.shape[2]

        def between(stage: int, h: Tensor) -> Tensor:
            if str(stage) not in self.through_time:
                return h
            return self.through_time[str(stage)](h.unflatten(0, (b, t))).flatten(0, 1)

        frames = self.frame(as_frames(x), times.repeat_interleave(t, 0), _of_frames(cond, t), between)
        return frames.unflatten(0, (b, t)).transpose(1, 2)


def as_frames(x: Tensor) -> Tensor:
    """[b, c, t, h, w] -> [b t, c, h, w]."""
    return x.transpose(1, 2).flatten(0, 1)


def _of_frames(cond: Condition, t: int) -> Condition:
    """The condition of every frame: what is a clip is split, what is of the whole clip is repeated."""
    return cond.each(lambda value: as_frames(value) if value.ndim == 5 else value.repeat_interleave(t, 0))
