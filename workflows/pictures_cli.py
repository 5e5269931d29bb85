"""The part of the command line that makes and measures pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

sample = typer.Typer(no_args_is_help=True, help="Draw pictures or clips from a trained model.")
evaluate = typer.Typer(no_args_is_help=True, help="Measure what a trained model makes.")

ModelOption = Annotated[Path, typer.Option(metavar="NAME|FILE", help="`fashion`, or a generator made by `structgen train`.")]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Where files, contact sheet and samples.json go.")]
PromptOption = Annotated[list[str] | None, typer.Option("--prompt", help="A caption; may be given again.")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="A class; may be given again. All of them when neither is given.")]
CountOption = Annotated[int, typer.Option(help="How many of each prompt or label.")]
StepsOption = Annotated[int | None, typer.Option(help="Evaluations of the network; the model's own when not given.")]
GuidanceOption = Annotated[float | None, typer.Option(help="1: as trained, more: closer to prompt or label.")]
SeedOption = Annotated[int, typer.Option(help="Picture k of a seed is the same in every batch.")]
InitOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Start from this picture (SDEdit).")]
StrengthOption = Annotated[float, typer.Option(help="How much of --init is changed: 0 nothing, 1 all.")]
MaskOption = Annotated[Path | None, typer.Option(metavar="FILE", help="White where --init is made anew, the rest is kept (inpainting).")]
ControlOption = Annotated[Path | None, typer.Option(metavar="FILE", help="The picture that a ControlNet follows.")]


@sample.command("image", no_args_is_help=True)
def sample_image(
    model: ModelOption,
    out: OutOption = Path("samples"),
    prompt: PromptOption = None,
    label: LabelOption = None,
    count: CountOption = 4,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    seed: SeedOption = 0,
    init: InitOption = None,
    strength: StrengthOption = 0.7,
    mask: MaskOption = None,
    control: ControlOption = None,
) -> None:
    """Pictures as PNG files."""
    _sample(model, out, False, prompt, label, count, steps, guidance, seed, init, strength, mask, control)


@sample.command("video", no_args_is_help=True)
def sample_video(
    model: ModelOption,
    out: OutOption = Path("samples"),
    prompt: PromptOption = None,
    label: LabelOption = None,
    count: CountOption = 4,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    seed: SeedOption = 0,
    init: InitOption = None,
    strength: StrengthOption = 0.7,
) -> None:
    """Clips as GIF files."""
    _sample(model, out, True, prompt, label, count, steps, guidance, seed, init, strength, None, None)


def _sample(model, out, video, prompt, label, count, steps, guidance, seed, init, strength, mask, control) -> None:  # type: ignore[no-untyped-def]
    from workflows.options import console, exit_status
    from workflows.pictures import SampleRequest, sample_pictures

    with exit_status():
        request = SampleRequest(
            model, out, video, tuple(prompt or ()), tuple(label or ()), count, steps, guidance, seed, init, strength, mask, control
        )
        raise typer.Exit(sample_pictures(request, console()))


@evaluate.command("images", no_args_is_help=True)
def evaluate_images(
    model: ModelOption,
    judge: Annotated[Path, typer.Option(metavar="FILE", help="A classifier made by `structgen train` of kind judge.")],
    data: Annotated[Path, typer.Option(metavar="FILE|DIR", help="The set whose held-out pictures are the measure.")],
    count: Annotated[int, typer.Option(help="How many are drawn; compare at equal numbers only.")] = 500,
    steps: Annotated[list[int] | None, typer.Option(help="May be given again: a row each.")] = None,
    guidance: GuidanceOption = None,
    seed: SeedOption = 0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where evaluation.json and sheets go.")] = None,
) -> None:
    """Frechet and kernel distance, precision, recall and agreement of a model's pictures or clips with held-out ones."""
    from workflows.options import console, exit_status
    from workflows.pictures import EvaluateRequest, evaluate_pictures

    with exit_status():
        request = EvaluateRequest(model, judge, data, count, tuple(steps or ()), guidance, seed, out)
        raise typer.Exit(evaluate_pictures(request, console()))
