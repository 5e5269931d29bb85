"""Control by a picture: edges, masks, depths."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.typing import Float, typed
from structgen.vision.condition import Condition
from structgen.vision.resnet import Conv2d
from structgen.vision.unet import UNet, UNetConfig, skip_widths


@dataclass(frozen=True)
class ControlConfig:
    """Channels of `Condition.control` and of the layers that read it; each but the first halves it."""

    c_control: int = 1
    widths: tuple[int, ...] = (16,)


@dataclass(frozen=True)
class ControlledConfig:
    """The U-Net that stands still, and what reads the control."""

    base: UNetConfig
    control: ControlConfig = field(default_factory=ControlConfig)


class Hint(nn.Module):
    """The control as features of the base's first width (Zhang et al. 2023, section 3.3); they begin as zeros."""

    def __init__(self, config: ControlConfig, width: int) -> None:
        super().__init__()
        self.first = Conv2d(config.c_control, config.widths[0], 3, padding=1)
        pairs = zip(config.widths[:-1], config.widths[1:], strict=True)
        layers = [layer for a, b in pairs for layer in (Conv2d(a, a, 3, padding=1), Conv2d(a, b, 3, padding=1, stride=2))]
        self.layers = nn.ModuleList(layers)
        self.last = zeroed(Conv2d(config.widths[-1], width, 3, padding=1))

    def forward(self, control: Tensor) -> Tensor:
        h = F.silu(self.first(control))
        for layer in self.layers:
            h = F.silu(layer(h))
        return self.last(h)


@typed
class ControlNet(nn.Module):
    """A U-Net that stands still and a copy of its way down that learns (Zhang et al. 2023): a `Network` of `Condition` with `control`.

    What the copy finds goes through 1x1 convolutions that begin at zero into what the base keeps on its way down, so before training
    the output is that of the base, bit for bit. The base gets no gradient and is in the checkpoint as it was.
    """

    @classmethod
    def of(cls, config: ControlledConfig) -> ControlNet:
        """With new weights, also of the base: for a checkpoint, or for `follow`."""
        return cls(UNet(config.base), config.control)

    def __init__(self, base: UNet, config: ControlConfig) -> None:
        super().__init__()
        self.config = config
        self.base = base.requires_grad_(False)
        self.steer = copy.deepcopy(base.steer).requires_grad_()
        self.descent = copy.deepcopy(base.descent).requires_grad_()
        self.hint = Hint(config, base.config.widths[0])
        widths = skip_widths(base.config)
        self.kept = nn.ModuleList(zeroed(Conv2d(width, width, 1)) for width in widths)
        self.middle = zeroed(Conv2d(widths[-1], widths[-1], 1))

    @torch.no_grad()
    def follow(self, base: UNet) -> None:
        """Take the weights of a trained U-Net, for the part that stands still and for the copy."""
        self.base.load_state_dict(base.state_dict())
        self.steer.load_state_dict(base.steer.state_dict())
        self.descent.load_state_dict(base.descent.state_dict())

    def forward(self, x: Float[Tensor, "b c h w"], times: Float[Tensor, "b k"], cond: Condition) -> Float[Tensor, "b c_out h w"]:
        own = self.steer(times, cond).sum(1)
        middle, kept = self.descent(self._entered(x, cond), own, cond, lambda _, h: h)
        vector = self.base.steer(times, cond).sum(1)
        base_middle, base_kept = self.base.descent(self.base.descent.entered(x, cond), vector, cond, lambda _, h: h)
        joined = [one + layer(other) for one, layer, other in zip(base_kept, self.kept, kept, strict=True)]
        return self.base.ascend(base_middle + self.middle(middle), joined, vector, cond, lambda _, h: h)

    def _entered(self, x: Tensor, cond: Condition) -> Tensor:
        """The copy's first convolution and the hint. Raises `ConfigError` if the control has another size than the state after the hint."""
        hint, first = self.hint(cond.require("control")), self.descent.entered(x, cond)
        if hint.shape[-2:] != first.shape[-2:]:
            raise ConfigError(
                f"the control becomes {tuple(hint.shape[-2:])} where the state is {tuple(first.shape[-2:])}: "
                f"give a control {2 ** (len(self.config.widths) - 1)} times the size of the state"
            )
        return first + hint


def zeroed(layer: Conv2d) -> Conv2d:
    """The layer with all weights 0: its gradient is not."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
