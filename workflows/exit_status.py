"""How a command ends: errors of structgen as one line of text and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from structgen.errors import ConfigError, InputError, StructgenError
from structgen.storage.folder import close_to_others

INPUT_ERROR, RUN_ERROR, STOPPED = 2, 3, 130


@contextmanager
def exit_status() -> Iterator[None]:
    """Errors of structgen as text and exit status. What the command makes, others cannot write to."""
    close_to_others()
    try:
        yield
    except StructgenError as error:
        typer.echo(f"structgen: {error}", err=True)
        raise typer.Exit(INPUT_ERROR if isinstance(error, (InputError, ConfigError)) else RUN_ERROR) from error
    except OSError as error:  # a full disk, a folder without permission
        typer.echo(f"structgen: {error}", err=True)
        raise typer.Exit(RUN_ERROR) from error
    except KeyboardInterrupt as stop:
        typer.echo("structgen: stopped; the same command again goes on from here", err=True)
        raise typer.Exit(STOPPED) from stop


def console() -> Console:
    """The terminal, or a file of lines that are never wrapped."""
    return Console(width=None if sys.stdout.isatty() else 10_000)
