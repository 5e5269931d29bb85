"""A generator of pictures or clips with all that it needs: network, codec and text encoder in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from structgen.errors import ConfigError
from structgen.generative import Denoiser
from structgen.vision.cascade import Lower
from structgen.vision.clip import Clip, ClipConfig
from structgen.vision.codec import Codec, CodecConfig, ImageCodec
from structgen.vision.condition import Condition, without_words
from structgen.vision.controlnet import ControlledConfig, ControlNet
from structgen.vision.dit import DiT, DiTConfig
from structgen.vision.formulations import TRAJECTORIES, Formulation, Student, Trajectory
from structgen.vision.mmdit import MMDiT, MMDiTConfig
from structgen.vision.prior import EmbeddingCodec, Prior, PriorConfig, unit_variance
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
    prior: PriorConfig | None = None

    def build(self) -> nn.Module:
        """Raises `ConfigError` unless exactly one is given."""
        return _only(self, {"dit": DiT, "mmdit": MMDiT, "unet": UNet, "video_unet": VideoUNet, "controlnet": ControlNet.of, "prior": Prior})


@dataclass(frozen=True)
class CodecChoice:
    """One of these."""

    image: CodecConfig | None = None
    video: VideoCodecConfig | None = None
    embedding: ClipConfig | None = None

    def build(self) -> Codec:
        """Raises `ConfigError` unless exactly one is given."""
        return _only(self, {"image": ImageCodec, "video": VideoCodec, "embedding": EmbeddingCodec})


@dataclass(frozen=True)
class TextConfig:
    """A CLIP and its vocabulary."""

    clip: ClipConfig
    words: Vocabulary


class Vector(Enum):
    """What `Condition.vector` is, of the CLIP: the caption's embedding, or a picture's, which a decoder makes visible again."""

    TEXT = "text"
    PICTURE = "picture"


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
    vector: Vector = Vector.TEXT
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

    def condition(
        self, *, labels: Tensor | None = None, captions: Sequence[str] | None = None, embedding: Tensor | None = None
    ) -> Condition:
        """Classes, captions and the CLIP embeddings of pictures [b, c], as far as the model hears them. Raises `ConfigError` for captions
        that it does not hear, and for a decoder without embeddings. Embeddings without captions: no words are heard."""
        if self.config.words is not None and captions is not None:
            device = next(self.network.parameters()).device
            tokens, seen, whole = (part.to(device) for part in self.config.words.one_hot(captions))
            return Condition(label=labels, tokens=tokens, mask=seen, vector=whole)
        if self.clip is None or self.config.text is None:
            if captions is not None:
                raise ConfigError("this model was trained without captions: give a label")
            return Condition(label=labels)
        said = [""] * len(embedding) if captions is None and embedding is not None else captions
        if said is None:
            return Condition(label=labels)
        cond = replace(heard(self.clip, self.config.text.words, said), label=labels)
        if captions is None:
            cond = without_words(cond, torch.ones(len(said), dtype=torch.bool, device=self.clip.log_scale.device))
        if self.config.vector is Vector.TEXT:
            return cond
        if embedding is None:
            raise ConfigError("this model shows the embedding of a picture: name it with a prior in the file of a cascade")
        return replace(cond, vector=unit_variance(embedding))


@torch.no_grad()
def heard(clip: Clip, words: Vocabulary, captions: Sequence[str]) -> Condition:
    """Captions as a CLIP hears them: a vector a word, and one for the whole."""
    tokens = words.encode(captions).to(clip.log_scale.device)
    of_words, whole = clip.texts(tokens)
    return Condition(tokens=of_words, mask=tokens != PADDING, vector=whole)


def _only(choice: Any, classes: dict[str, Callable[[Any], Any]]) -> Any:
    given = {name: config for name in classes if (config := getattr(choice, name)) is not None}
    if len(given) != 1:
        raise ConfigError(f"found {', '.join(given) or 'none'}; expected one of {', '.join(classes)}")
    ((name, config),) = given.items()
    return classes[name](config)
