"""`structgen runs`: the commands that look after runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from structgen.errors import ConfigError
from workflows.options import console, exit_status

runs = typer.Typer(no_args_is_help=True, help="List, show, resume and tidy up runs.")
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, as given to --out.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@runs.command("list")
def list_(
    roots: Annotated[list[Path] | None, typer.Argument(metavar="[FOLDER...]", help="Where runs lie; `runs` for none.")] = None,
    json: AsJson = False,
) -> None:
    """One line a run: its state, how many of its jobs are done, when it last changed."""
    with exit_status():
        from workflows.runs import listing

        raise typer.Exit(listing(roots or [Path("runs")], console(), as_json=json))


@runs.command(no_args_is_help=True)
def show(
    run: Run,
    job: Annotated[str, typer.Option(metavar="JOB", help="Of this job only.")] = "",
    json: AsJson = False,
) -> None:
    """What a run was asked and what it did: jobs, stages, attempts, seconds, errors."""
    with exit_status():
        from workflows.runs import show

        raise typer.Exit(show(run, console(), job=job, as_json=json))


@runs.command(no_args_is_help=True)
def resume(
    run: Run,
    accept_changes: Annotated[bool, typer.Option("--accept-changes", help="Go on with inputs, weights or software that changed.")] = False,
    cluster: Annotated[str | None, typer.Option(metavar="local|auto|ADDRESS", help="Instead of where it ran; '' for in process.")] = None,
) -> None:
    """Ask again for exactly what a run was made by; what is done stays. Refused where its inputs are not the same any more."""
    with exit_status():
        from workflows.runs import resume

        raise typer.Exit(resume(run, console(), accept_changes=accept_changes, cluster=cluster))


@runs.command()
def gc(
    roots: Annotated[list[Path] | None, typer.Argument(metavar="[FOLDER...]", help="All runs whose artifacts are to stay.")] = None,
    store: Annotated[str, typer.Option(metavar="DIR|s3://BUCKET/PREFIX", help="$STRUCTGEN_STORE or the user's cache.")] = "",
    older_than: Annotated[str, typer.Option(metavar="30d|12h", help="Artifacts that are younger stay, needed or not.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; leave it.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Name every piece.")] = False,
) -> None:
    """Remove what killed writers left, and artifacts that no run under the folders needs; without folders no artifact goes."""
    with exit_status():
        from structgen.store import open_store
        from workflows.garbage import Sweep, collect

        sweep = Sweep(open_store(store), tuple(roots or ()), duration(older_than), dry_run, list_)
        raise typer.Exit(collect(sweep, console()))


def duration(text: str) -> float:
    """Seconds of `90s`, `30m`, `12h` or `7d`. Raises `ConfigError` for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise ConfigError(f"--older-than {text}: expected a number and one of s, m, h, d, for example 30d")
    return float(found[1]) * SECONDS[found[2]]
