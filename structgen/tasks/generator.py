"""Training of a generator of pictures or clips, on their latents."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from structgen.errors import CheckpointError, ConfigError
from structgen.generative import CosMap, Drop, LogitNormal, LogNormal, Mode, Objective, Rng, TimeSampler, generators
from structgen.generative.ema import Weights
from structgen.pictures.edges import edges
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet, to_bytes, to_float
from structgen.precision import autocast
from structgen.tasks.batches import Batch, Batching, draw_batch, draw_rows
from structgen.tasks.latents import holds_latents, read_latents
from structgen.tasks.task import Context, Task
from structgen.train import Metrics
from structgen.vision.cascade import Lower, Scale
from structgen.vision.condition import Condition, emptied, without_words
from structgen.vision.controlnet import ControlNet
from structgen.vision.files import Coded, Text, config_json, load, model_file, save
from structgen.vision.formulations import Trajectory
from structgen.vision.prior import EmbeddingCodec
from structgen.vision.students import PictureDistillation, student_of
from structgen.vision.system import CodecChoice, NetworkChoice, System, SystemConfig, Vector
from structgen.vision.unet import UNet
from structgen.vision.video_codec import VideoCodec
from structgen.vision.words import Vocabulary

ENCODED_AT_ONCE = 64


class Density(Enum):
    """Where times are drawn (SD3, section 3.1)."""

    OWN = "own"  # of the trajectory
    LOG_NORMAL = "log-normal"  # of the noise levels of edm
    LOGIT_NORMAL = "logit-normal"
    MODE = "mode"
    COSMAP = "cosmap"


@dataclass(frozen=True)
class GeneratorTraining:
    """What `task:` of `kind: generator` holds. `codec` and `text` are model files; without them pixels are diffused and classes heard.

    `reduced`: how many times smaller than those of the set the pictures are; `lower`: what a later stage of a cascade is given of them;
    `vector` picture: the embeddings of whole pictures are told, as unCLIP's decoder is (Ramesh et al. 2022, section 2.1).

    With `init` the run starts from the weights of a generator whose network and words are the same; a ControlNet copies its U-Net.

    With `distillation` the run's `init` is a teacher, and all that it is (network, codec, words) is the student's; of the rest only
    `batches` and what is held out are heard.
    """

    network: NetworkChoice = field(default_factory=NetworkChoice)
    codec: str = ""
    reduced: Scale = field(default_factory=Scale)
    lower: Lower | None = None
    text: str = ""
    words: int = 0  # without `text`: captions of at most so many tokens are heard word by word
    vector: Vector = Vector.TEXT
    trajectory: Trajectory = Trajectory.RF
    density: Density = Density.LOGIT_NORMAL
    mean: float = 0.0  # of the logit-normal and log-normal densities
    std: float = 1.0
    scale: float = 1.29  # of the mode density
    drop: float = 0.1
    drop_words: float = 0.0  # of captions alone: a decoder must listen to the embedding
    steps: int = 30  # of sampling, kept in the model file
    guidance: float = 2.0
    distillation: PictureDistillation | None = None
    batches: Batching = field(default_factory=Batching)
    held_out: int = 256
    side: int = 64

    def build(self, context: Context) -> GeneratorTask:
        return GeneratorTask(self, context)

    def times(self) -> TimeSampler | None:
        """None: the trajectory's own."""
        choices: dict[Density, TimeSampler] = {
            Density.LOG_NORMAL: LogNormal(self.mean, self.std),
            Density.LOGIT_NORMAL: LogitNormal(self.mean, self.std),
            Density.MODE: Mode(self.scale),
            Density.COSMAP: CosMap(),
        }
        return choices.get(self.density)


class GeneratorTask(Task[Batch]):
    """A loss of the core on latents, with the condition lost at times."""

    def __init__(self, settings: GeneratorTraining, context: Context) -> None:
        self.settings, self.context = settings, context
        self.encoded = holds_latents(context.data)
        pictures, size = self._read()
        self.train, self.held_out = pictures.part(False), pictures.part(True)
        self.system, objective = _started(settings, context, pictures, size)
        self.network = self.system.network
        if isinstance(self.network, ControlNet):
            self.network.follow(controlled_base(context, self.encoded))
        elif context.init and not settings.distillation:
            go_on_from(self.system, context.init)
        self.objective = Drop(objective, emptied, 0.0 if settings.distillation else settings.drop)

    @cached_property
    def latents(self) -> Tensor:
        """Of the whole training set: encoded once. Frames that are coded one by one are cut from the whole clip's, and turned round."""
        own = self.settings.batches
        if own != Batching(size=own.size, frames=own.frames, reverse=own.reverse and self.frames_apart):
            raise ConfigError("task.batches: latents are of whole pictures; crop, mirror and reverse when the codec is trained")
        return self._encoded(self.train, whole=self.frames_apart)

    @property
    def frames_apart(self) -> bool:
        """Whether a frame's latent knows no other frame."""
        codec = self.system.codec
        return isinstance(codec, VideoCodec) and codec.config.halvings == 0

    def _read(self) -> tuple[PictureSet, tuple[int, ...]]:
        """The set, or its latents, and the size of a picture in pixels."""
        settings, folder = self.settings, self.context.data
        if not self.encoded:
            pictures = reduced(embedded(read_set(folder, settings.side), settings), settings.reduced)
            size = tuple(int(n) for n in pictures.pixels.shape[1:])
            return pictures, (size[0], settings.batches.frames, *size[2:]) if settings.batches.frames else size
        if not settings.codec or settings.reduced != Scale() or settings.batches != Batching(size=settings.batches.size):
            raise ConfigError(f"{folder} holds latents: name their codec in task.codec, and cut and reduce nothing")
        return read_latents(folder, Path(settings.codec))

    @torch.no_grad()
    def _encoded(self, pictures: PictureSet, *, whole: bool = False) -> Tensor:
        if self.encoded:
            return torch.from_numpy(pictures.pixels)
        frames, x = 0 if whole else self.settings.batches.frames, pictures.tensor()
        x = x[:, :, :frames] if frames else x
        parts = x.split(ENCODED_AT_ONCE)
        return torch.cat([self.system.encoded(part.to(self.context.device)).cpu() for part in parts])

    def example(self, place: int) -> Batch:
        if self.system.codec is None:
            return draw_batch(self.train, self.settings.batches, place, self.context.seed)
        batches = self.settings.batches if self.frames_apart else Batching(size=self.settings.batches.size)
        latents, rows = draw_rows(self.latents.numpy(), batches, place, self.context.seed)
        return Batch(torch.tensor(latents), torch.from_numpy(rows))

    def loss(self, example: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        x = example.x.to(self.context.device)
        cond = self._given(self.condition(self.train, example.index), x, rng)
        share = self.settings.drop_words
        objective = Drop(self.objective, without_words, share) if share else self.objective
        with autocast(self.context.device, self.context.precision):
            loss = objective(self.system.denoiser(), x, cond, rng)
        return loss.total.mean(), {name: part.mean().item() for name, part in loss.parts.items()}

    def condition(self, pictures: PictureSet, index: Tensor) -> Condition:
        """What the network hears of these pictures."""
        labels = torch.from_numpy(pictures.labels)[index].to(self.context.device) if pictures.classes else None
        control = None
        if isinstance(self.network, ControlNet):
            control = to_float(edges(pictures.pixels[index.numpy()])).to(self.context.device)
        captions = [pictures.captions[i] for i in index.tolist()] if self.system.hears_captions else None
        embedding = None if pictures.embeddings is None else torch.from_numpy(pictures.embeddings)[index].to(self.context.device)
        return dataclasses.replace(self.system.condition(labels=labels, captions=captions, embedding=embedding), control=control)

    def _given(self, cond: Condition, x: Tensor, rng: Rng) -> Condition:
        """The condition with what a later stage of a cascade is given."""
        lower = self.system.config.lower
        return cond if lower is None else lower.of_truth(cond, x, rng)

    def config(self) -> str:
        return config_json(self.system)

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        save(self._averaged(average), path, card=card)

    @torch.no_grad()
    def validate(self, average: Weights) -> Metrics:
        """The loss on held-out pictures, with the same noise every time."""
        system = self._averaged(average)
        x = self._encoded(self.held_out.take(torch.arange(min(self.settings.held_out, len(self.held_out))).numpy()))
        x, draws = x.to(self.context.device), generators(0, len(x))
        cond = self._given(self.condition(self.held_out, torch.arange(len(x))), x, draws)
        return {"loss": self.objective.objective(system.denoiser(), x, cond, draws).total.mean().item()}

    def _averaged(self, average: Weights) -> System:
        system = copy.deepcopy(self.system)
        system.network.load_state_dict(average)
        return system.eval()


def _started(
    settings: GeneratorTraining, context: Context, pictures: PictureSet, size: tuple[int, ...]
) -> tuple[System, Objective]:
    """The system that is trained, and on what. Raises `ConfigError` for a student without a teacher."""
    if settings.distillation is None:
        system = start_system(settings, pictures, size).to(context.device)
        return system, system.formulation.objective(settings.times())
    if not context.init:
        raise ConfigError("init: a student needs a teacher: name its file")
    teacher = load(model_file(Path(context.init)), System).to(context.device)
    if teacher.config.size != size:
        raise ConfigError(f"init: {context.init} makes pictures of {teacher.config.size}; those to learn from are {size}")
    student = student_of(teacher, settings.distillation, context.init).to(context.device)
    return student, settings.distillation.objective(teacher)


@torch.no_grad()
def embedded(pictures: PictureSet, settings: GeneratorTraining) -> PictureSet:
    """The set with the embeddings of its pictures, if they are told. Raises `ConfigError` where the pictures are cut or mirrored."""
    if settings.vector is Vector.TEXT:
        return pictures
    if not settings.text or settings.batches != Batching(size=settings.batches.size):
        raise ConfigError("task.vector: embeddings are those of whole pictures by a CLIP: name it in task.text, and cut and mirror nothing")
    clip = load(Path(settings.text), Text).clip
    parts = np.array_split(pictures.pixels, -(-len(pictures) // ENCODED_AT_ONCE))
    return dataclasses.replace(pictures, embeddings=np.concatenate([clip.pictures(to_float(part)).numpy() for part in parts]))


def reduced(pictures: PictureSet, scale: Scale) -> PictureSet:
    """The set made smaller. Where frames are left out, a clip to train on becomes one for each frame from which as many are left as from
    the first; held-out clips begin at the first."""
    if scale == Scale():
        return pictures
    starts = (pictures.pixels.shape[2] - 1) % scale.time + 1 if pictures.is_video and not pictures.held_out.all() else 1
    rows = [np.arange(len(pictures)), *[np.flatnonzero(~pictures.held_out)] * (starts - 1)]
    pixels = [_smaller(pictures.pixels[own, :, start:] if start else pictures.pixels, scale) for start, own in enumerate(rows)]
    empty = dataclasses.replace(pictures, pixels=pictures.pixels[:, :0])  # large pixels are copied once a start, not all at once
    return dataclasses.replace(empty.take(np.concatenate(rows)), pixels=np.concatenate(pixels))


def _smaller(pixels: np.ndarray, scale: Scale) -> np.ndarray:
    parts = np.array_split(pixels, -(-len(pixels) // ENCODED_AT_ONCE))
    return np.concatenate([to_bytes(scale.lowered(to_float(part))) for part in parts])


def controlled_base(context: Context, encoded: bool) -> UNet:
    """The U-Net of the generator that `init` names. Raises `ConfigError` for none, for another network and for a set without pixels."""
    if encoded:
        raise ConfigError(f"{context.data} holds latents: a ControlNet is trained on pictures, whose edges it follows")
    if not context.init:
        raise ConfigError("init: a ControlNet follows a trained generator: name its file")
    base = load(Path(context.init), System).network
    if not isinstance(base, UNet):
        raise ConfigError(f"{context.init} holds a {type(base).__name__}; a ControlNet copies a UNet")
    return base


def go_on_from(system: System, name: str) -> None:
    """Take the weights of the generator's network in a file, and its order of the words.

    Raises `ConfigError` for another network and for other words.
    """
    known = load(model_file(Path(name)), System)
    if system.config.words is not None:
        system.config = dataclasses.replace(system.config, words=system.config.words.in_order_of(known.config.words))
    for part in ("network", "words", "text"):
        if getattr(known.config, part) != getattr(system.config, part):
            raise ConfigError(f"init: {name} has another {part} than the run; give task.{part} as in its file")
    system.network.load_state_dict(known.network.state_dict())


def load_codec(path: Path, pictures: PictureSet) -> Coded:
    """The codec of a file. That of a CLIP's file gives embeddings of pictures, measured on those that are trained on: for a prior."""
    model = load(path, nn.Module)
    if isinstance(model, Coded):
        return model
    if not isinstance(model, Text):
        raise CheckpointError(f"{path}: holds a {type(model).__name__}; expected a codec, or for a prior a CLIP")
    codec = EmbeddingCodec(model.config.clip)
    codec.take(model.clip)
    codec.fit(pictures.part(False).tensor())
    coded = Coded(CodecChoice(embedding=model.config.clip))
    coded.codec.load_state_dict(codec.state_dict())
    return coded


def start_system(settings: GeneratorTraining, pictures: PictureSet, size: tuple[int, ...]) -> System:
    """The network with new weights beside the codec and the text encoder of the files that the settings name."""
    codec = load_codec(Path(settings.codec), pictures) if settings.codec else None
    text = load(Path(settings.text), Text) if settings.text else None
    words = Vocabulary.of(pictures.captions, settings.words) if settings.words and not text else None
    config = SystemConfig(
        network=settings.network,
        size=size,
        trajectory=settings.trajectory,
        codec=codec.config if codec else None,
        lower=settings.lower,
        vector=settings.vector,
        text=text.config if text else None,
        words=words,
        classes=pictures.classes,
        steps=settings.steps,
        guidance=settings.guidance,
    )
    system = System(config)
    parts: list[tuple[nn.Module | None, nn.Module | None]] = [(system.codec, codec and codec.codec), (system.clip, text and text.clip)]
    for own, given in parts:
        if own is not None and given is not None:
            own.load_state_dict(given.state_dict())
    return system
