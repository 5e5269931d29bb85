"""A causal autoencoder of clips: a frame's latent knows no later frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.vision.codec import Codec, CodecConfig, ImageCodec, Posterior
from structgen.vision.resnet import EPS


@dataclass(frozen=True)
class VideoCodecConfig:
    """The codec of a frame, and how often the number of frames is halved."""

    frame: CodecConfig
    halvings: int = 1


class CausalTime(nn.Module):
    """A convolution along frames that sees the frame and the two before; before the first there are copies of it. Added to x.

    Every frame is normed by itself: a norm over frames would look ahead. A new one is the identity.
    """

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, c, eps=EPS)
        self.conv = nn.Conv3d(c, c, (3, 1, 1))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(per_frame(self.norm, x))
        return x + self.conv(_behind(h, 2))


class HalveTime(nn.Module):
    """1 + 2 k frames to 1 + k: each but the first from itself and the two before."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(c, c, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(_behind(x, 2))


class DoubleTime(nn.Module):
    """1 + k frames to 1 + 2 k: each but the first becomes two."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(c, 2 * c, (3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        two = self.conv(_behind(x, 2)).unflatten(1, (2, x.shape[1]))  # [b, 2, c, t, h, w]
        return two.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)[:, :, 1:]


class VideoCodec(Codec):
    """Clips [b, c, 1 + k 2^halvings, h, w]: a picture is a clip of one frame (Yu et al. 2024, section 3.2; Brooks et al. 2024).

    Layers of space are those of `ImageCodec` on each frame; between code and latent, convolutions of time that never look ahead.
    """

    def __init__(self, config: VideoCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.frame = ImageCodec(config.frame)
        width, groups = config.frame.c_latent, 1
        width = 4 * config.frame.c_latent
        self.widen = nn.Conv3d(2 * config.frame.c_latent, width, 1)
        self.earlier = nn.ModuleList(_time(width, groups, HalveTime(width)) for _ in range(config.halvings))
        self.code = nn.Conv3d(width, 2 * config.frame.c_latent, 1)
        self.uncode = nn.Conv3d(config.frame.c_latent, width, 1)
        self.later = nn.ModuleList(_time(width, groups, DoubleTime(width)) for _ in range(config.halvings))
        self.narrow = nn.Conv3d(width, config.frame.c_latent, 1)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def posterior(self, x: Tensor) -> Posterior:
        if (x.shape[2] - 1) % 2**self.config.halvings:
            raise ConfigError(f"a clip of {x.shape[2]} frames: this codec needs 1 + a multiple of {2**self.config.halvings}")
        law = self.frame.posterior(_frames(x))
        h = self.widen(_clip(torch.cat([law.mean, law.log_variance], 1), x.shape[2]))
        for layer in self.earlier:
            h = layer(h)
        mean, log_variance = self.code(h).chunk(2, 1)
        return Posterior(mean, log_variance.clamp(-30, 20))

    def decode(self, z: Tensor) -> Tensor:
        h = self.uncode(z)
        for layer in self.later:
            h = layer(h)
        h = self.narrow(h)
        return _clip(self.frame.decode(_frames(h)), h.shape[2])


def per_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of pictures on every frame of [b, c, t, h, w]."""
    return _clip(layer(_frames(x)), x.shape[2])


def _frames(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _clip(x: Tensor, frames: int) -> Tensor:
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


def _behind(x: Tensor, count: int) -> Tensor:
    """With copies of the first frame before it."""
    return torch.cat([x[:, :, :1].expand(-1, -1, count, -1, -1), x], 2)


def _time(width: int, groups: int, change: nn.Module) -> nn.Sequential:
    return nn.Sequential(CausalTime(width, groups), change, CausalTime(width, groups))
