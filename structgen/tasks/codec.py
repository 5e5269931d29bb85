"""Training of an autoencoder of pictures or clips."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative import normal_like
from structgen.generative.ema import Weights
from structgen.pictures.files import read_set
from structgen.precision import autocast
from structgen.tasks.batches import Batch, Batching, draw_batch, first_cut
from structgen.tasks.task import Context, Task
from structgen.train import Metrics
from structgen.vision.codec import CodecConfig, reconstruction_loss
from structgen.vision.files import Coded, config_json, load, save
from structgen.vision.system import CodecChoice
from structgen.vision.video_codec import VideoCodecConfig

MEASURED = 256  # pictures on which the scale of latents is measured


@dataclass(frozen=True)
class CodecTraining:
    """What `task:` of `kind: codec` holds; `context.data` is a set of pictures or clips. With `init` the run starts from the weights of a
    codec of the same sizes, so what is learned on its latents is soon learned on those of the new one."""

    codec: CodecChoice
    batches: Batching = field(default_factory=Batching)
    held_out: int = 64  # pictures of the held-out part on which PSNR is measured
    side: int = 64  # of pictures from a folder

    def build(self, context: Context) -> CodecTask:
        return CodecTask(self, context)


class CodecTask(Task[Batch]):
    """Reconstruction and the divergence of the posterior."""

    network: Coded

    def __init__(self, settings: CodecTraining, context: Context) -> None:
        self.settings, self.context = settings, context
        pictures = read_set(context.data, settings.side)
        self.train, self.held_out = pictures.part(False), pictures.part(True)
        self.network = Coded(settings.codec)
        if context.init:
            self._go_on_from(Path(context.init))
        self.network.to(context.device)

    def _go_on_from(self, path: Path) -> None:
        """Raises `ConfigError` for a codec of other sizes."""
        known = load(path, Coded)
        if known.config != self.settings.codec:
            raise ConfigError(f"init: {path} holds another codec than the run's; give task.codec as in its file")
        self.network.load_state_dict(known.state_dict())

    @property
    def own(self) -> CodecConfig:
        choice: CodecConfig | VideoCodecConfig | None = self.settings.codec.image or self.settings.codec.video
        return choice.frame if isinstance(choice, VideoCodecConfig) else choice  # type: ignore[return-value]

    def example(self, place: int) -> Batch:
        return draw_batch(self.train, self.settings.batches, place, self.context.seed)

    def loss(self, example: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        x = example.x.to(self.context.device)
        with torch.no_grad():
            like = self.network.codec.posterior(x[:1]).mean
        noise = normal_like(like.new_empty(len(x), *like.shape[1:]), rng)
        with autocast(self.context.device, self.context.precision):
            total, parts = reconstruction_loss(self.network.codec, x, noise, self.own.kl)
        return total.mean(), {name: part.mean().item() for name, part in parts.items()}

    def config(self) -> str:
        return config_json(self.network)

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save(self._averaged(average), path, card=card)

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """Peak signal-to-noise ratio of held-out pictures, in dB."""
        latent = self._averaged(average).codec.latent()
        x = first_cut(self.held_out, self.settings.batches, self.settings.held_out).to(self.context.device)
        return {"psnr": torch.cat([latent.signal_to_noise(part, peak=2.0) for part in x.split(64)]).mean().item()}

    @torch.no_grad()
    def _averaged(self, average: Weights) -> Coded:
        """With the scale of its latents measured."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(average)
        network.codec.fit(first_cut(self.train, self.settings.batches, MEASURED).to(self.context.device))
        return network
