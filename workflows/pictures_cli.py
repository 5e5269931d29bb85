"""The part of the command line that draws: pictures, clips and protein backbones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from workflows.command_parts import options_of

sample = typer.Typer(no_args_is_help=True, help="Draw pictures, clips or protein backbones from a trained model.")


ModelOption = Annotated[Path, typer.Option(metavar="NAME|FILE", help="`fashion`, `digits`, or a generator made by `structgen train`.")]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Where files, contact sheet and samples.json go.")]
PromptOption = Annotated[list[str] | None, typer.Option("--prompt", help="A caption; may be given again.")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="A class; may be given again. All of them when neither is given.")]
CountOption = Annotated[int, typer.Option(help="How many of each prompt or label.")]
StepsOption = Annotated[int | None, typer.Option(help="Evaluations of the network; the model's own when not given.")]
GuidanceOption = Annotated[float | None, typer.Option(help="1: as trained, more: closer to prompt or label.")]
SeedOption = Annotated[int, typer.Option(help="Picture k of a seed is the same in every batch.")]


@dataclass(frozen=True)
class Drawn:
    """Options of all that is drawn."""

    model: ModelOption
    out: OutOption = Path("samples")
    prompt: PromptOption = None
    label: LabelOption = None
    count: CountOption = 4
    steps: StepsOption = None
    guidance: GuidanceOption = None
    seed: SeedOption = 0
    init: Annotated[Path | None, typer.Option(metavar="FILE", help="Start from this picture or clip (SDEdit).")] = None
    strength: Annotated[float, typer.Option(help="How much of --init is changed: 0 nothing, 1 all.")] = 0.7


@dataclass(frozen=True)
class OfPictures:
    """Options of pictures alone."""

    mask: Annotated[Path | None, typer.Option(metavar="FILE", help="White where --init is made anew, the rest is kept.")] = None
    control: Annotated[Path | None, typer.Option(metavar="FILE", help="The picture that a ControlNet follows.")] = None
    between: Annotated[tuple[Path, Path] | None, typer.Option(metavar="FILE FILE", help="From one picture to another (unCLIP).")] = None
    diff: Annotated[tuple[str, str] | None, typer.Option(metavar="TEXT TEXT", help="Change --init from one text to another.")] = None


@sample.command("image", no_args_is_help=True)
@options_of(Drawn, OfPictures)
def sample_image(drawn: Drawn, of_pictures: OfPictures) -> None:
    """Pictures as PNG files."""
    _sample(drawn, of_pictures, video=False)


@sample.command("video", no_args_is_help=True)
@options_of(Drawn)
def sample_video(drawn: Drawn) -> None:
    """Clips as GIF files."""
    _sample(drawn, OfPictures(), video=True)


@sample.command("backbone", no_args_is_help=True)
def sample_backbone(
    model: Annotated[Path, typer.Option(metavar="FILE", help="A model made by `structgen train` of kind backbone.")],
    length: Annotated[int, typer.Option(min=8, help="Residues.")] = 100,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 8,
    steps: Annotated[int | None, typer.Option(help="Of the sampler; the model's own when not given.")] = None,
    seed: SeedOption = 1,
    chains: Annotated[Path | None, typer.Option(metavar="DIR", help="Archive of training chains, for the nearest one's TM-score.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where PDB files and backbones.json go.")] = Path("backbones"),
) -> None:
    """Protein backbones of a length, without a sequence, as PDB files of glycines; and how protein-like they are."""
    from workflows.backbones import BackboneRequest, sample_backbones
    from workflows.options import console, exit_status

    with exit_status():
        raise typer.Exit(sample_backbones(BackboneRequest(model, length, count, steps, seed, chains, out), console()))


def _sample(drawn: Drawn, of_pictures: OfPictures, *, video: bool) -> None:
    from workflows.options import console, exit_status
    from workflows.pictures import SampleRequest, sample_pictures

    with exit_status():
        given = {**vars(drawn), **vars(of_pictures)}
        prompts, labels = tuple(given.pop("prompt") or ()), tuple(given.pop("label") or ())
        raise typer.Exit(sample_pictures(SampleRequest(video=video, prompts=prompts, labels=labels, **given), console()))
