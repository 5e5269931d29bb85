"""What a generator of pictures or clips makes, measured against held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.metrics.frechet import Distances, distances
from structgen.metrics.motion import speeds, words
from structgen.pictures.edges import edge_agreement, edges
from structgen.pictures.sets import PictureSet, to_bytes, to_float
from structgen.vision.condition import Condition
from structgen.vision.controlnet import ControlNet
from structgen.vision.draw import Drawing
from structgen.vision.judge import Judge
from structgen.vision.stages import Stage, draw_in_turn
from structgen.vision.system import System
from structgen.vision.system import heard as told
from structgen.vision.unclip import Models

AT_ONCE = 64
PACE = {"slow": 1.0, "fast": 2.0}


@dataclass(frozen=True)
class Verdict:
    """Distances to held-out pictures; `floor`: those of training pictures of the same classes, `codec`: of decoded held-out ones."""

    made: Distances
    floor: Distances
    codec: Distances | None
    psnr: float | None  # of the codec on held-out pictures, dB
    agreement: dict[str, float] = field(default_factory=dict)  # with what was asked for
    count: int = 0


def judge_pictures(
    models: Models, judge: Judge, pictures: PictureSet, count: int, drawings: Sequence[Drawing]
) -> tuple[Verdict, Tensor]:
    """`count` pictures drawn with the labels and captions of held-out ones by a model, or the stages of a cascade, each with its
    drawing; the verdict and the pictures [count, *size] in [-1, 1].

    Of clips every frame is judged. Raises `ConfigError` if the judge sees another kind of picture.
    """
    system = models.stages[-1]
    real = cut(pictures.part(True), system, count)
    if real.pixels.shape[1:] != system.config.size:
        raise ConfigError(f"{pictures.where} holds pictures of {real.pixels.shape[1:]}, the model makes {system.config.size}")
    if judge.config.channels != system.config.size[0]:
        raise ConfigError(
            f"the judge sees {judge.config.channels} channels, the model makes {system.config.size[0]}: train one on single frames"
        )
    trained = cut(alike(pictures.part(False), real.labels), system, count)
    asked = real.take(np.arange(count) % len(real))
    made = drawn(models, asked, drawings)
    features = in_parts(lambda x: judge.features(frames(x)))
    of_real = features(real.tensor())
    decoded = None if system.codec is None else in_parts(lambda x: system.decoded(system.encoded(x)))(real.tensor())
    verdict = Verdict(
        made=distances(features(made).numpy(), of_real.numpy()),
        floor=distances(features(trained.tensor()).numpy(), of_real.numpy()),
        codec=None if decoded is None else distances(features(decoded).numpy(), of_real.numpy()),
        psnr=None if system.codec is None else system.codec.latent().signal_to_noise(real.tensor()[:AT_ONCE], 2.0).mean().item(),
        agreement=agreement(made, asked, judge, models),
        count=count,
    )
    return verdict, made


def alike(pictures: PictureSet, labels: np.ndarray) -> PictureSet:
    """A picture of the same class for each label, none twice while there are others: distances compare pictures, not shares of classes."""
    order = np.random.default_rng(0).permutation(len(pictures))
    of_class = {label: order[pictures.labels[order] == label] for label in np.unique(labels)}
    if not all(len(rows) for rows in of_class.values()):
        return pictures
    seen = [int((labels[:n] == label).sum()) for n, label in enumerate(labels)]
    return pictures.take(np.array([of_class[label][n % len(of_class[label])] for n, label in zip(seen, labels, strict=True)]))


def cut(pictures: PictureSet, system: System, count: int) -> PictureSet:
    """`count` of them spread over the set, clips as long as the model's."""
    chosen = pictures.take(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int))
    if not pictures.is_video:
        return chosen
    length = system.config.size[1]
    return PictureSet(
        chosen.pixels[:, :, :length], chosen.held_out, chosen.labels, chosen.classes, chosen.captions, chosen.velocity, chosen.where
    )


def drawn(models: Models, asked: PictureSet, drawings: Sequence[Drawing]) -> Tensor:
    """A picture for each label and caption, through bytes as a file would hold it."""
    return to_float(to_bytes(drawn_by_stage(models, asked, drawings)[-1]))


def drawn_by_stage(models: Models, asked: PictureSet, drawings: Sequence[Drawing], low: Tensor | None = None) -> list[Tensor]:
    """What each stage makes for each label and caption [n, *its size]; `low` is what the first enlarges, as of `draw`."""
    parts = []
    for n, start in enumerate(range(0, len(asked), AT_ONCE)):
        rows = asked.take(np.arange(start, min(start + AT_ONCE, len(asked))))
        embeddings = models.embeddings(rows.captions, drawings[0].seed + n)
        stages = [
            Stage(system, heard(system, rows, embeddings), replace(drawing, seed=drawing.seed + n))
            for system, drawing in zip(models.stages, drawings, strict=True)
        ]
        parts.append(draw_in_turn(stages, len(rows), low=None if low is None else low[start : start + AT_ONCE]))
    return [torch.cat(made) for made in zip(*parts, strict=True)]


def heard(system: System, rows: PictureSet, embeddings: Tensor | None) -> Condition:
    """What the model is told of these pictures; `embeddings` are those of a prior."""
    labels, captions = torch.from_numpy(rows.labels) if rows.classes else None, rows.captions if system.hears_captions else None
    cond = system.condition(labels=labels, captions=captions, embedding=embeddings)
    return replace(cond, control=to_float(edges(rows.pixels))) if isinstance(system.network, ControlNet) else cond


def agreement(made: Tensor, asked: PictureSet, judge: Judge, models: Models) -> dict[str, float]:
    """Shares of pictures that show what was asked for: the class, of captioned clips pace and direction; edges' F1; the CLIP score."""
    found: dict[str, float] = {}
    if asked.classes == judge.config.classes:
        logits = in_parts(lambda x: judge(frames(x)).softmax(1))(made)
        guess = logits.reshape(len(made), -1, logits.shape[1]).mean(1).argmax(1).numpy()
        found["class"] = float((guess == asked.labels).mean())
    if asked.is_video and asked.velocity is not None and asked.captions:
        found |= motion_agreement(to_bytes(made), asked.captions)
        if "class" in found:
            right = [motion_fits(speed, caption) for speed, caption in zip(speeds(to_bytes(made)), asked.captions, strict=True)]
            found["caption"] = float(np.mean((guess == asked.labels) & np.array(right)))
    if isinstance(models.stages[0].network, ControlNet):
        found["edges"] = edge_agreement(edges(to_bytes(made)), edges(asked.pixels))
    if (listener := models.listener()) is not None and asked.captions:
        clip, words_of = listener
        texts = told(clip, words_of, asked.captions).require("vector")
        found["clip_score"] = (in_parts(clip.pictures)(made) * texts).sum(1).mean().item()
    return found


def motion_agreement(clips: np.ndarray, captions: Sequence[str]) -> dict[str, float]:
    """How often the pace and the direction of the caption are seen, and how far the speed is off, pixels a frame."""
    found = np.nan_to_num(speeds(clips))
    seen, errors = [words(speed) for speed in found], speed_errors(found, captions)
    return {
        "pace": float(np.mean([pace in caption.split() for (pace, _), caption in zip(seen, captions, strict=True)])),
        "direction": float(np.mean([caption.endswith(way) for (_, way), caption in zip(seen, captions, strict=True)])),
        "speed_error": float(errors.mean()),
        "speed_within_half": float((errors < 0.5).mean()),
    }


def speed_errors(found: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """How far speeds [n, 2] are from those of the captions, pixels a frame along the worse axis [n]; what is not seen stands still."""
    return np.abs(np.nan_to_num(found) - np.stack([asked_speed(caption) for caption in captions])).max(1)


def motion_fits(speed: np.ndarray, caption: str) -> bool:
    """Whether a clip moves as its caption says."""
    pace, way = words(np.nan_to_num(speed))
    return pace in caption.split() and caption.endswith(way)


def asked_speed(caption: str) -> np.ndarray:
    """Pixels a frame along columns and rows that a caption of moving digits says."""
    pace = next(value for word, value in PACE.items() if word in caption.split())
    return np.array([pace * ("up" not in caption.split()), pace * ("left" not in caption.split())])


def frames(x: Tensor) -> Tensor:
    """Clips as pictures [n t, c, h, w]; pictures as they are."""
    return x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x


def in_parts(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Without gradients, few rows at once."""

    def called(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([function(part) for part in x.split(AT_ONCE)])

    return called
