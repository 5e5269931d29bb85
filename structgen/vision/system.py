"""A generator of pictures or clips with all that it needs: network, codec and text encoder in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from structgen.errors import ConfigError
from structgen.generative import Denoiser
from structgen.vision.cascade import Lower
from structgen.vision.clip import Clip, ClipConfig
from structgen.vision.codec import Codec, CodecConfig, ImageCodec
from structgen.vision.condition import Condition
from structgen.vision.controlnet import ControlledConfig, ControlNet
from structgen.vision.dit import DiT, DiTConfig
from structgen.vision.formulations import TRAJECTORIES, Formulation, Student, Trajectory
from structgen.vision.mmdit import MMDiT, MMDiTConfig
from structgen.vision.unet import UNet, UNetConfig
from structgen.vision.video_codec import VideoCodec, VideoCodecConfig
from structgen.vision.video_unet import VideoUNet, VideoUNetConfig
from structgen.vision.words import PADDING, Vocabulary


@dataclass(frozen=True)
class NetworkChoice:
    """One of these."""

    dit: DiTConfig | None = None
    mmdit: MMDiTConfig | None = None
    unet: UNetConfig | None = None
    video_unet: VideoUNetConfig | None = None
    controlnet: ControlledConfig | None = None

    def build(self) -> nn.Module:
        """Raises `ConfigError` unless exactly one is given."""
        return _only(self, {"dit": DiT, "mmdit": MMDiT, "unet": UNet, "video_unet": VideoUNet, "controlnet": ControlNet.of})


@dataclass(frozen=True)
class CodecChoice:
    """One of these."""

    image: CodecConfig | None = None
    video: VideoCodecConfig | None = None

    def build(self) -> Codec:
        """Raises `ConfigError` unless exactly one is given."""
        return _only(self, {"image": ImageCodec, "video": VideoCodec})


@dataclass(frozen=True)
class TextConfig:
    """A CLIP and its vocabulary."""

    clip: ClipConfig
    words: Vocabulary


@dataclass(frozen=True)
class SystemConfig:
    """All that a model file holds beside weights. `size` is (channels, (frames,) rows, columns) of what is generated, in pixels; `lower`
    is what a later stage of a cascade is given.

    Captions are heard through a CLIP (`text`), or word by word (`words`): the network's own first layer embeds them.
    """

    network: NetworkChoice
    size: tuple[int, ...]
    trajectory: Trajectory = Trajectory.RF
    codec: CodecChoice | None = None
    lower: Lower | None = None
    text: TextConfig | None = None
    words: Vocabulary | None = None
    classes: tuple[str, ...] = ()
    steps: int = 30
    guidance: float = 2.0
    student: Student | None = None


class System(nn.Module):
    """The generator. Codec and text encoder stand still; `network` is what is trained."""

    def __init__(self, config: SystemConfig) -> None:
        super().__init__()
        if config.lower and config.codec:
            raise ConfigError("a stage of a cascade enlarges pixels: give it no codec")
        self.config = config
        self.network = config.network.build()
        self.codec = config.codec.build().requires_grad_(False) if config.codec else None
        self.clip = Clip(config.text.clip).requires_grad_(False) if config.text else None

    @property
    def formulation(self) -> Formulation:
        own = TRAJECTORIES[self.config.trajectory]
        return own if self.config.student is None else own.taught(self.config.student)

    def denoiser(self) -> Denoiser[Condition]:
        """The network as the core sees it."""
        return Denoiser(self.network, self.formulation.path, self.formulation.reading)

    def encoded(self, x: Tensor) -> Tensor:
        """Pixels in [-1, 1] as what is diffused."""
        return x if self.codec is None else self.codec.latent().encoded(x)

    def decoded(self, z: Tensor) -> Tensor:
        """The other way round."""
        return z if self.codec is None else self.codec.latent().decoded(z)

    @property
    def hears_captions(self) -> bool:
        return self.clip is not None or self.config.words is not None

    def condition(self, *, labels: Tensor | None = None, captions: Sequence[str] | None = None) -> Condition:
        """Classes and captions, as far as the model hears them. Raises `ConfigError` for those that it does not."""
        if captions is None:
            return Condition(label=labels)
        if self.config.words is not None:
            tokens, seen, whole = self.config.words.one_hot(captions)
            return Condition(label=labels, tokens=tokens, mask=seen, vector=whole)
        if self.clip is None or self.config.text is None:
            raise ConfigError("this model was trained without captions: give a label")
        tokens = self.config.text.words.encode(captions).to(self.clip.log_scale.device)
        with torch.no_grad():
            words, whole = self.clip.texts(tokens)
        return Condition(label=labels, tokens=words, mask=tokens != PADDING, vector=whole)


def _only(choice: Any, classes: dict[str, Callable[[Any], Any]]) -> Any:
    given = {name: config for name in classes if (config := getattr(choice, name)) is not None}
    if len(given) != 1:
        raise ConfigError(f"found {', '.join(given) or 'none'}; expected one of {', '.join(classes)}")
    ((name, config),) = given.items()
    return classes[name](config)
