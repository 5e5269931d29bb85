"""The cases on which structgen's networks are compared with those of diffusers: networks with drawn weights, and inputs.

`benchmarks/vision_diffusers.py` copies the weights to diffusers and records what it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from structgen.vision.attention import Attention
from structgen.vision.condition import Condition
from structgen.vision.controlnet import ControlConfig, Hint
from structgen.vision.dit import DiT, DiTConfig
from structgen.vision.mmdit import MMDiT, MMDiTConfig
from structgen.vision.resnet import ResnetBlock
from structgen.vision.steering import Steering
from structgen.vision.unet import UNet, UNetConfig
from tests.vision.weights import drawn


@dataclass(frozen=True)
class Case:
    """A module with drawn weights, its inputs by name, and how it is called with them."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    call: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]

    @torch.no_grad()
    def answer(self) -> Tensor:
        return self.call(self.module.eval(), self.inputs)


def draws(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Standard normal inputs."""
    rng = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


TIMES = torch.tensor([0.05, 0.731])


def dit() -> Case:
    """DiT with adaLN-Zero and classes."""
    config = DiTConfig(channels=4, width=48, depth=2, heads=3, steering=Steering(classes=5))
    inputs = draws(x=(2, 4, 8, 8)) | {"t": TIMES, "label": torch.tensor([4, 1])}
    return Case(drawn(DiT(config)), inputs, lambda net, i: net(i["x"], i["t"][:, None], Condition(label=i["label"])))


def mmdit() -> Case:
    """SD3's transformer with RMS norms of queries and keys."""
    steering = Steering(c_vector=6, longest=MMDiTConfig(1, 1).steering.longest)
    config = MMDiTConfig(channels=4, c_tokens=10, width=48, depth=3, heads=3, steering=steering)
    inputs = draws(x=(2, 4, 8, 8), tokens=(2, 5, 10), vector=(2, 6)) | {"t": TIMES}
    return Case(
        drawn(MMDiT(config)), inputs, lambda net, i: net(i["x"], i["t"][:, None], Condition(tokens=i["tokens"], vector=i["vector"]))
    )


def unet() -> Case:
    """The U-Net with attention on its lower level, classes, and an odd size."""
    steering = Steering(classes=5, frequencies=16, longest=10_000.0 ** (7 / 8))
    config = UNetConfig(c_in=3, c_out=3, widths=(16, 32), attend=(False, True), blocks=2, head_width=8, groups=4, steering=steering)
    inputs = draws(x=(2, 3, 12, 8)) | {"t": TIMES, "label": torch.tensor([4, 1])}
    return Case(drawn(UNet(config)), inputs, lambda net, i: net(i["x"], i["t"][:, None], Condition(label=i["label"])))


def resnet() -> Case:
    """A convolutional block with a vector."""
    inputs = draws(x=(2, 8, 6, 5), vector=(2, 12))
    return Case(drawn(ResnetBlock(8, 16, c_vector=12, groups=4)), inputs, lambda net, i: net(i["x"], i["vector"]))


def cross_attention() -> Case:
    """Attention to tokens, some of them hidden."""
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    inputs = draws(x=(2, 7, 16), tokens=(2, 5, 10)) | {"mask": mask}
    module = drawn(Attention(16, c_context=10, heads=4, qk_norm=False))
    return Case(module, inputs, lambda net, i: net(i["x"], i["tokens"], i["mask"]))


def hint() -> Case:
    """The layers that read a ControlNet's picture."""
    return Case(drawn(Hint(ControlConfig(3, (8, 12, 16)), 24)), draws(control=(2, 3, 16, 12)), lambda net, i: net(i["control"]))


CASES = MappingProxyType({"dit": dit, "mmdit": mmdit, "unet": unet, "resnet": resnet, "cross_attention": cross_attention, "hint": hint})
