"""Autoencoders of pictures and clips: pixels to latents of variance 1, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.generative import Latent
from structgen.vision.resnet import EPS, Conv2d, Enlarge, Halve, PixelAttention, ResnetBlock


@dataclass(frozen=True)
class CodecConfig:
    """`patch` pixels a side become channels first, then every level but the first halves the size."""

    channels: int
    c_latent: int = 4
    patch: int = 2
    widths: tuple[int, ...] = (32, 64)
    blocks: int = 1
    groups: int = 8
    attend: bool = True  # pixels attend to each other at the smallest size
    kl: float = 1e-5  # weight of the Kullback-Leibler divergence to a standard normal, in nats an entry of the latent


@dataclass(frozen=True)
class Posterior:
    """The normal law of the latent of each example; `mean` and `log_variance` [b, c_latent, *size]."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        return self.mean + (self.log_variance / 2).exp() * noise

    def divergence(self) -> Tensor:
        """KL(posterior || standard normal) in nats, the mean over the entries of each example [b]."""
        return ((self.mean.square() + self.log_variance.exp() - 1 - self.log_variance) / 2).flatten(1).mean(1)


class Codec(nn.Module, ABC):
    """An autoencoder with a normal posterior (Kingma & Welling 2014; Rombach et al. 2022, section 3.1), and the mean and standard deviation
    of its latents, which `fit` measures and checkpoints keep."""

    shift: Tensor
    scale: Tensor

    @abstractmethod
    def posterior(self, x: Tensor) -> Posterior:
        """Of pixels in [-1, 1]."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Pixels of the codec's own latents."""

    def latent(self) -> Latent:
        """The codec as the core sees it: latents of mean 0 and variance 1."""
        return Latent(lambda x: self.posterior(x).mean, self.decode, self.shift, self.scale)

    def fit(self, x: Tensor) -> None:
        """Measure shift and scale on pixels of the training set. Raises `ConfigError` if the latents do not vary."""
        fitted = Latent.fitted(lambda x: self.posterior(x).mean, self.decode, x)
        self.shift.copy_(fitted.mean)
        self.scale.copy_(fitted.std)


def reconstruction_loss(codec: Codec, x: Tensor, noise: Tensor, kl: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean absolute plus mean square error of a decoded draw, and `kl` times the divergence; [b] each. No perceptual network."""
    law = codec.posterior(x)
    difference = (codec.decode(law.draw(noise)) - x).flatten(1)
    absolute, square, divergence = difference.abs().mean(1), difference.square().mean(1), law.divergence()
    return absolute + square + kl * divergence, {"absolute": absolute, "square": square, "kl": divergence}


class ImageCodec(Codec):
    """Pictures [b, c, h, w] with sides that are multiples of `patch` 2^(levels - 1)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        c_pixel, (first, last) = config.channels * config.patch**2, (config.widths[0], config.widths[-1])
        pairs = list(zip([first, *config.widths[:-1]], config.widths, strict=True))
        self.entry = Conv2d(c_pixel, first, 3, padding=1)
        self.down = nn.ModuleList(_level(a, b, config) for a, b in pairs)
        self.halves = nn.ModuleList(Halve(width) for width in config.widths[:-1])
        self.code = nn.Sequential(
            _middle(config), nn.GroupNorm(config.groups, last, eps=EPS), nn.SiLU(), Conv2d(last, 2 * config.c_latent, 1)
        )
        self.uncode = nn.Sequential(Conv2d(config.c_latent, last, 3, padding=1), _middle(config))
        self.up = nn.ModuleList(_level(b, a, config) for a, b in reversed(pairs))
        self.enlarge = nn.ModuleList(Enlarge(width) for width in reversed(config.widths[:-1]))
        self.exit = nn.Sequential(nn.GroupNorm(config.groups, first, eps=EPS), nn.SiLU(), Conv2d(first, c_pixel, 3, padding=1))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def posterior(self, x: Tensor) -> Posterior:
        require_multiples(x.shape[-2:], self.config)
        h = self.entry(F.pixel_unshuffle(x, self.config.patch))
        for n, level in enumerate(self.down):
            h = level(h if n == 0 else self.halves[n - 1](h))
        mean, log_variance = self.code(h).chunk(2, 1)
        return Posterior(mean, log_variance.clamp(-30, 20))

    def decode(self, z: Tensor) -> Tensor:
        h = self.uncode(z)
        for n, level in enumerate(self.up):
            h = level(h)
            if n < len(self.enlarge):
                h = self.enlarge[n](h, (2 * h.shape[-2], 2 * h.shape[-1]))
        return F.pixel_shuffle(self.exit(h), self.config.patch)


def require_multiples(size: torch.Size, config: CodecConfig) -> None:
    """Raises `ConfigError` for sides that do not come back from the codec as they were."""
    factor = config.patch * 2 ** (len(config.widths) - 1)
    if any(side % factor for side in size):
        raise ConfigError(f"pictures of {tuple(size)} pixels: this codec needs sides that are multiples of {factor}")


class _Middle(nn.Module):
    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.block = ResnetBlock(width, width, c_vector=0, groups=config.groups)
        heads = max(1, width // 32)
        self.attention = PixelAttention(width, c_tokens=0, heads=heads, groups=config.groups) if config.attend else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.block(x))


def _middle(config: CodecConfig) -> nn.Module:
    return _Middle(config)


def _level(c_in: int, c_out: int, config: CodecConfig) -> nn.Sequential:
    blocks = [ResnetBlock(c_in if k == 0 else c_out, c_out, c_vector=0, groups=config.groups) for k in range(config.blocks)]
    return nn.Sequential(*blocks)
