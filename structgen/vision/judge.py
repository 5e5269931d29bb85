"""A classifier of pictures or clips, whose features measure what generators make."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from structgen.nn.linear import Linear
from structgen.vision.clip import ClipConfig, PictureTower


@dataclass(frozen=True)
class JudgeConfig:
    """Channels of a picture (of a clip: channels times frames), and the names of its classes."""

    channels: int
    classes: tuple[str, ...]
    widths: tuple[int, ...] = (32, 64, 128)
    groups: int = 8


class Judge(nn.Module):
    """[b, c, (t,) h, w] in [-1, 1] -> logits [b, classes]."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.tower = PictureTower(ClipConfig(config.channels, words=1, length=1, widths=config.widths, groups=config.groups))
        self.classes = Linear(config.widths[-1], len(config.classes), bias=True)

    def features(self, x: Tensor) -> Tensor:
        """[b, widths[-1]]: what the last layer sees."""
        return self.tower(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.features(x))
