"""`structgen sample` and `structgen evaluate`: pictures and clips from a model file, and what they are worth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from structgen.errors import ConfigError, InputError
from structgen.generative import Denoise
from structgen.judging import Verdict, judge_pictures
from structgen.metrics.frechet import Distances
from structgen.pictures.files import contact_sheet, read_clip, read_picture, read_set, write_gif, write_png
from structgen.pictures.sets import to_bytes, to_float
from structgen.store import replace_file
from structgen.vision.condition import Condition
from structgen.vision.controlnet import ControlNet
from structgen.vision.draw import Change, Drawing, latent_size, unchanged
from structgen.vision.editing import keeping
from structgen.vision.files import load, model_file
from structgen.vision.judge import Judge
from structgen.vision.stages import Stage, draw_in_turn
from structgen.vision.system import System
from structgen.vision.unclip import Models, stages_between, stages_of_diff
from workflows.cascades import load_models

SHEET_SCALE = 3


@dataclass(frozen=True)
class SampleRequest:
    """What was asked for on the command line; None: the model's own."""

    model: Path
    out: Path
    video: bool
    prompts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    count: int = 4  # of each prompt or label
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    init: Path | None = None
    strength: float = 0.7
    mask: Path | None = None
    control: Path | None = None
    between: tuple[Path, Path] | None = None
    diff: tuple[str, str] | None = None


def sample_pictures(request: SampleRequest, console: Console) -> int:
    """Write one file a picture, a contact sheet and `samples.json`, which says how each was made. The exit status."""
    models = load_models(request.model)
    systems = models.stages
    if request.video != (len(systems[-1].config.size) == 4):
        kind = "clips: structgen sample video" if len(systems[-1].config.size) == 4 else "pictures: structgen sample image"
        raise ConfigError(f"{request.model} makes {kind}")
    asked, made = _walked(request, systems) if request.between or request.diff else _drawn(request, models)
    drawing, pixels = _drawing(request, systems[-1]), to_bytes(made[-1])
    drawing = _trusting(systems[0], drawing) if len(systems) == 1 else drawing
    request.out.mkdir(parents=True, exist_ok=True)
    write, suffix = (write_gif, "gif") if request.video else (write_png, "png")
    names = [f"{n:03}_{_slug(what)}.{suffix}" for n, what in enumerate(asked)]
    for name, one in zip(names, pixels, strict=True):
        write(request.out / name, one)
    sheets = {"sheet": pixels} | {f"sheet_stage{n}": to_bytes(x) for n, x in enumerate(made[:-1], 1)}
    for name, sheet in sheets.items():
        write(request.out / f"{name}.{suffix}", contact_sheet(sheet, columns=min(request.count, len(asked)), scale=SHEET_SCALE))
    record = {"model": str(request.model), **dataclasses.asdict(drawing), "samples": dict(zip(names, asked, strict=True))}
    replace_file(request.out / "samples.json", (json.dumps(record, indent=1) + "\n").encode())
    console.print(f"{len(names)} files and sheet.{suffix} in {request.out}", markup=False, highlight=False)
    return 0


def _drawn(request: SampleRequest, models: Models) -> tuple[list[str], list[Tensor]]:
    """What was asked for, and what every stage made of it."""
    first, asked = models.stages[0], _asked(request, models.stages[0])
    embeddings = models.embeddings(asked, request.seed)
    stages = [Stage(system, _condition(system, asked, embeddings), _drawing(request, system)) for system in models.stages]
    own = stages[0]
    stages[0] = replace(own, cond=_control(request, first, own.cond, len(asked)), drawing=_trusting(first, own.drawing))
    given, change = _given(request, first, len(asked))
    return asked, draw_in_turn(stages, len(asked), given=given, change=change, low=_enlarged(request, first, len(asked)))


def _walked(request: SampleRequest, systems: Sequence[System]) -> tuple[list[str], list[Tensor]]:
    """`count` pictures between two pictures, or from one towards what another text says. Raises `ConfigError` for options that do not go
    together."""
    if request.prompts or request.labels or request.mask or request.control or (request.between and request.diff):
        raise ConfigError("--between takes two pictures, --diff two texts and the picture of --init: leave the others out")
    if (request.diff is None) == (request.init is not None):
        raise ConfigError("--diff changes the picture of --init: give both" if request.diff else "--between takes no --init")
    farthest, size = request.strength if request.diff else 1.0, systems[-1].config.size
    shares = torch.linspace(0, farthest, request.count)
    drawings = [dataclasses.replace(_drawing(request, system), strength=1.0) for system in systems]
    if request.between:
        first, second = (read_sized(path, size) for path in request.between)
        stages = stages_between(systems, drawings, first, second, shares)
        asked = [f"{share:.2f} of the way from {request.between[0].stem} to {request.between[1].stem}" for share in shares.tolist()]
    elif request.diff and request.init:
        stages = stages_of_diff(systems, drawings, read_sized(request.init, size), *request.diff, shares)
        asked = [f"{share:.2f} of the way from {request.diff[0]} to {request.diff[1]}" for share in shares.tolist()]
    return asked, draw_in_turn(stages, len(asked))


def _asked(request: SampleRequest, system: System) -> list[str]:
    """A prompt or a label for each picture. Raises `ConfigError` for a kind that the model does not hear."""
    if request.prompts and request.labels:
        raise ConfigError("give either prompts or labels")
    if request.prompts and not system.hears_captions:
        raise ConfigError(f"{request.model} was trained without captions; its labels: {', '.join(system.config.classes) or 'none'}")
    if request.labels and not _hears_classes(system):
        raise ConfigError(f"{request.model} hears captions: give --prompt" if system.hears_captions else f"{request.model} hears no labels")
    if unknown := [label for label in request.labels if label not in system.config.classes]:
        raise ConfigError(f"label {unknown[0]!r} is unknown to {request.model}; known: {', '.join(system.config.classes)}")
    every = request.prompts or request.labels or (system.config.classes if _hears_classes(system) else ("",))
    return [what for what in every for _ in range(request.count)]


def _hears_classes(system: System) -> bool:
    network = system.config.network
    frame = (network.video_unet and network.video_unet.frame) or (network.controlnet and network.controlnet.base)
    choice = network.dit or network.mmdit or network.unet or frame
    return bool(choice and choice.steering.classes)


def _condition(system: System, asked: list[str], embeddings: Tensor | None) -> Condition:
    labels = torch.tensor([system.config.classes.index(what) for what in asked]) if _hears_classes(system) else None
    return system.condition(labels=labels, captions=asked if system.hears_captions else None, embedding=embeddings)


def _drawing(request: SampleRequest, system: System) -> Drawing:
    """Raises `ConfigError` for values out of range."""
    steps = system.config.steps if request.steps is None else request.steps
    guidance = system.config.guidance if request.guidance is None else request.guidance
    if not (1 if system.config.student else 2) <= steps <= 1000 or guidance < 0 or request.count < 1:
        found = f"{steps}, {guidance} and {request.count}"
        raise ConfigError(f"steps lie in 2 ... 1000, a student's in 1 ... 1000, guidance and count are not negative; found {found}")
    strength = request.strength if request.init and not request.mask else 1.0
    return Drawing(steps, guidance, request.seed, strength)


def _trusting(system: System, drawing: Drawing) -> Drawing:
    """The drawing of the first stage: if it enlarges a picture, that is given and so taken for true."""
    return dataclasses.replace(drawing, level=0.0) if system.config.lower else drawing


def _enlarged(request: SampleRequest, system: System, count: int) -> Tensor | None:
    """--init for a model that enlarges it."""
    if (lower := system.config.lower) is None:
        return None
    if request.init is None or request.mask is not None:
        raise ConfigError(f"{request.model} enlarges: give --init without --mask, or the file of a cascade")
    size = lower.scale.smaller(system.config.size)
    return read_sized(request.init, size)[None].expand(count, *size)


def _given(request: SampleRequest, system: System, count: int) -> tuple[Tensor | None, Change]:
    """The picture to start from, and how the denoiser keeps what the mask leaves."""
    if request.init is None and request.mask is not None:
        raise ConfigError("--mask says what of --init is made anew: give both")
    if request.init is None or system.config.lower is not None:
        return None, unchanged
    picture = read_sized(request.init, system.config.size)[None].expand(count, *system.config.size)
    if request.mask is None:
        return picture, unchanged
    known = system.encoded(picture)
    anew = read_sized(request.mask, (1, *system.config.size[1:]))[None] > 0
    size = latent_size(system)[1:]
    kept = 1 - torch.nn.functional.adaptive_max_pool3d(_as_volume(anew), _as_three(size)).reshape(1, 1, *size)

    def change(denoise: Denoise) -> Denoise:
        return keeping(system.formulation.path, denoise, known, kept.expand_as(known))

    return None, change


def _as_volume(mask: Tensor) -> Tensor:
    return mask.float() if mask.ndim == 5 else mask.float()[:, :, None]


def _as_three(size: tuple[int, ...]) -> tuple[int, ...]:
    return size if len(size) == 3 else (1, *size)


def _control(request: SampleRequest, system: System, cond: Condition, count: int) -> Condition:
    """The condition with the control, for models that have a ControlNet; a control for another model, or none for one, is an error."""
    controlled = isinstance(system.network, ControlNet)
    if controlled != (request.control is not None):
        raise ConfigError(f"{request.model} needs --control" if controlled else f"{request.model} has no ControlNet: leave --control out")
    if request.control is None or not isinstance(system.network, ControlNet):
        return cond
    size = (system.network.config.c_control, *system.config.size[1:])
    return replace(cond, control=read_sized(request.control, size)[None].expand(count, *size))


def read_sized(path: Path, size: tuple[int, ...]) -> Tensor:
    """A picture [c, h, w] or clip [c, t, h, w] of a file in [-1, 1]. Raises `InputError` if it cannot be read or the size is no square."""
    if size[-1] != size[-2]:
        raise InputError("pictures are read as squares", where=str(path), expected=f"a model of squares, not of {size[-2]} x {size[-1]}")
    grey = size[0] == 1
    pixels = read_picture(path, size[-1], grey=grey) if len(size) == 3 else read_clip(path, size[-1], frames=size[1], grey=grey)
    return to_float(pixels)


def _slug(text: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in text).split())[:40] or "sample"


@dataclass(frozen=True)
class EvaluateRequest:
    """A generator, its judge, and the set whose held-out pictures are the measure."""

    model: Path
    judge: Path
    data: Path
    count: int = 500
    steps: tuple[int, ...] = ()
    guidance: float | None = None
    seed: int = 0
    out: Path | None = None


def evaluate_pictures(request: EvaluateRequest, console: Console) -> int:
    """Print a row for each number of steps; with `out`, JSON of all figures and a sheet of the first pictures. The exit status."""
    models, judge, pictures = load_models(request.model), load(model_file(request.judge), Judge), read_set(request.data)
    rows = {}
    for steps in request.steps or (models.stages[-1].config.steps,):
        drawings = [_evaluated(request, system, steps) for system in models.stages]
        verdict, made = judge_pictures(models, judge, pictures, request.count, drawings)
        rows[steps] = dataclasses.asdict(verdict)
        if request.out:
            _sheet(request.out, made[:64], steps)
    console.print(table(rows, verdict), markup=False, highlight=False, soft_wrap=True)
    if request.out:
        replace_file(request.out / "evaluation.json", (json.dumps(rows, indent=1) + "\n").encode())
    return 0


def _evaluated(request: EvaluateRequest, system: System, steps: int) -> Drawing:
    """With the model's own guidance and, of the earlier stages of a cascade, its own steps, where nothing else is asked for."""
    guidance = system.config.guidance if request.guidance is None else request.guidance
    return Drawing(steps if request.steps else system.config.steps, guidance, request.seed)


def _sheet(folder: Path, made: Tensor, steps: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(to_bytes(made), scale=2)
    if made.ndim == 5:
        write_gif(folder / f"made_{steps}_steps.gif", sheet)
    else:
        write_png(folder / f"made_{steps}_steps.png", np.ascontiguousarray(sheet))


def table(rows: dict[int, dict], last: Verdict) -> str:
    """A table in Markdown: a row a number of steps, then what training pictures and the codec reach."""
    agreed = list(last.agreement)
    lines = ["| | Frechet | kernel | precision | recall | " + " | ".join(agreed), "| --- " * (5 + len(agreed)) + "|"]
    for steps, row in rows.items():
        figures = [f"{row['agreement'][name]:.3f}" for name in agreed]
        lines.append(f"| {steps} steps | {_figures(Distances(**row['made']))} | " + " | ".join(figures))
    lines.append(f"| training pictures of the same classes | {_figures(last.floor)} |")
    if last.codec is not None:
        lines.append(f"| held-out ones through the codec ({last.psnr:.1f} dB) | {_figures(last.codec)} |")
    return "\n".join(lines)


def _figures(found: Distances) -> str:
    return f"{found.frechet:.3f} | {found.kernel:.4f} | {found.precision:.3f} | {found.recall:.3f}"
