"""Pictures and captions in one space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.nn.linear import Linear
from structgen.vision.dit import DiTConfig, InContext
from structgen.vision.resnet import EPS, Conv2d, Halve, ResnetBlock
from structgen.vision.words import PADDING

LARGEST_SCALE = 100.0  # of logits (Radford et al. 2021, section 2.5)


@dataclass(frozen=True)
class ClipConfig:
    """Channels of a picture (of a clip: channels times frames), words of the vocabulary and tokens of a caption; then widths."""

    channels: int
    words: int
    length: int
    width: int = 96  # of the tokens of a text
    depth: int = 2
    heads: int = 4
    widths: tuple[int, ...] = (32, 64, 96)  # of the levels of the picture's tower
    c_shared: int = 64
    groups: int = 8


class TextTower(nn.Module):
    """Tokens [b, n] -> a vector a token [b, n, width] and one for the whole, that of the last token."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(config.words, config.width)
        self.place = nn.Parameter(0.02 * torch.randn(config.length, config.width))
        like = DiTConfig(channels=1, width=config.width, heads=config.heads)
        self.blocks = nn.ModuleList(InContext(like) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen = tokens != PADDING
        x = self.table(tokens) + self.place
        for block in self.blocks:
            x = block(x, x, None, seen)
        x = self.norm(x)
        return x, x[torch.arange(len(x)), seen.sum(1) - 1]


class PictureTower(nn.Module):
    """Pictures [b, c, h, w], or clips with their frames as channels, to [b, widths[-1]]."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        widths = config.widths
        self.first = Conv2d(config.channels, widths[0], 3, padding=1)
        self.halves = nn.ModuleList(Halve(width) for width in [widths[0], *widths[:-1]])
        self.blocks = nn.ModuleList(
            ResnetBlock(a, b, c_vector=0, groups=config.groups) for a, b in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.norm = nn.GroupNorm(config.groups, widths[-1], eps=EPS)

    def places(self, x: Tensor) -> Tensor:
        """[b, widths[-1], h', w']: before the mean over places."""
        h = self.first(x.flatten(1, 2) if x.ndim == 5 else x)
        for halve, block in zip(self.halves, self.blocks, strict=True):
            h = block(halve(h))
        return F.silu(self.norm(h))

    def forward(self, x: Tensor) -> Tensor:
        return self.places(x).mean((2, 3))


class Clip(nn.Module):
    """Two towers whose vectors point the same way for a picture and its caption (Radford et al. 2021)."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text, self.picture = TextTower(config), PictureTower(config)
        self.of_text = Linear(config.width, config.c_shared)
        self.of_picture = Linear(config.widths[-1], config.c_shared)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def texts(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of the tokens [b, n, width] and of the whole [b, c_shared], of length 1."""
        words, whole = self.text(tokens)
        return words, F.normalize(self.of_text(whole), dim=-1)

    def pictures(self, x: Tensor) -> Tensor:
        """[b, c_shared], of length 1."""
        return F.normalize(self.of_picture(self.picture(x)), dim=-1)

    def scale(self) -> Tensor:
        """1 / temperature, at most 100."""
        return self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()


def contrastive_loss(of_pictures: Tensor, of_texts: Tensor, scale: Tensor, same: Tensor | None = None) -> Tensor:
    """The mean of both N-way cross-entropies, pictures among texts and texts among pictures.

    Vectors [n, c] of length 1. `same` [n, n] is true where picture i has caption j; where captions repeat in a batch, all of them are
    right. None: each its own.
    """
    logits = scale * of_pictures @ of_texts.T
    wanted = torch.eye(len(logits), device=logits.device) if same is None else same.float()
    wanted = wanted / wanted.sum(1, keepdim=True)
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted.T / wanted.T.sum(1, keepdim=True))) / 2
