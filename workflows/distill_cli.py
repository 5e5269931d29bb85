"""`structgen distill` and `structgen steps`: students of few steps, and what steps are worth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from structgen.errors import ConfigError
from workflows.options import SetOption, console, exit_status, stem


def distill(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A run of kind student (YAML); see docs/few_steps.md.")],
    to: Annotated[int, typer.Option(min=1, metavar="STEPS", help="Steps of the last progressive student.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the rounds; runs/<config's name> when not given.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Training data; wins over the file's.")] = None,
    init: Annotated[str, typer.Option(metavar="NAME|FILE", help="The first teacher; wins over the file's.")] = "",
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop in time, with a checkpoint; the same command goes on.")] = None,
    set_: SetOption = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Make a student of a model that folds in few steps. The same command again goes on where the last one stopped."""
    with exit_status():
        from structgen.settings import parse_assignments
        from workflows.distill import distill
        from workflows.training_session import TrainingRequest

        changes: dict[str, Any] = {"data": str(data.absolute())} if data is not None else {}
        changes |= {"init": str(Path(init).absolute()) if Path(init).is_file() else init} if init else {}
        request = TrainingRequest(
            config=config,
            out=out or Path("runs") / stem(config),
            changes=changes | parse_assignments(set_ or []),
            minutes=minutes,
            cluster="",
            workers=1,
            cpus=1.0,
            threads=threads,
        )
        raise typer.Exit(distill(request, to, console()))


def steps(
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="Name or file of a model.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Chains, of which those of the split val are folded.")],
    students: Annotated[list[str] | None, typer.Argument(metavar="[STUDENT...]", help="Files of its students.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the table, the picture and the rows.")] = Path("runs/steps"),
    numbers: Annotated[str, typer.Option("--steps", metavar="1,2,4", help="Numbers of steps.")] = "1,2,4,8,20,200",
    chains: Annotated[int, typer.Option(min=1, help="Chains, chosen by the hash of their names.")] = 20,
    longest: Annotated[int, typer.Option(help="Residues of the longest chain.")] = 150,
    samples: Annotated[int, typer.Option(min=1, help="Structures per chain and number of steps.")] = 2,
) -> None:
    """Measure accuracy against the number of steps, of a model and its students: a table and a picture."""
    with exit_status():
        from workflows.steps import StepsRequest, measure

        logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
        request = StepsRequest(teacher, tuple(students or ()), data, out, _numbers(numbers), chains, longest, samples)
        raise typer.Exit(measure(request, console()))


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--steps {text}: expected numbers of 1 or more with commas between them, for example 1,2,4")
    return tuple(int(part) for part in parts)
