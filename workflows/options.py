"""Options that several commands share, and how a command ends: with words and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from structgen.errors import ConfigError, InputError, StructgenError
from structgen.storage.folder import close_to_others

INPUT_ERROR, RUN_ERROR, STOPPED = 2, 3, 130
Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Job files of any format, or folders of them.")]
FormatOption = Annotated[str, typer.Option(metavar="NAME", help="Format of the inputs, where their content leaves it open.")]
UppercaseOption = Annotated[bool, typer.Option("--uppercase", help="Read small letters of sequences in JSON and YAML as capitals.")]
ModelOption = Annotated[str, typer.Option(metavar="NAME|FILE", help="Shipped model or checkpoint; see `structgen models`.")]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads of one fold; 0: all cores.")]
MemoryOption = Annotated[float, typer.Option(min=0, metavar="GIB", help="Memory for the folds of a node; 0: what it has.")]
FixOption = Annotated[bool, typer.Option("--fix-nucleic", help="Read T in RNA as U, and U in DNA as T.")]
MsaOption = Annotated[Path | None, typer.Option(metavar="DIR|FILE", help="Alignments (a3m, Stockholm), found by first rows.")]
TemplatesOption = Annotated[
    str, typer.Option(metavar="none|FILE|DIR|LIBRARY", help="Structures to search for templates; the model's library when not given.")
]
DateOption = Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Latest release of templates that are searched.")]
ClusterOption = Annotated[str, typer.Option(metavar="local|auto|ADDRESS", help="Run on Ray; in this process when not given.")]
ConfigOption = Annotated[Path | None, typer.Option(metavar="YAML", help="Settings from a file; options and --set win.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. sampling.noise_scale=1.")]
StoreOption = Annotated[
    str, typer.Option(metavar="DIR|s3://BUCKET/PREFIX", help="Where artifacts are kept; $STRUCTGEN_STORE or the user's cache.")
]
SeqdbOption = Annotated[list[Path] | None, typer.Option(metavar="FASTA[.gz]", help="Database for jackhmmer; may be given again.")]
MmseqsOption = Annotated[list[Path] | None, typer.Option(metavar="DIR|PATH", help="Database for mmseqs2; may be given again.")]
ServerOption = Annotated[str, typer.Option(metavar="URL", help="ColabFold server to ask for alignments: the sequences go there.")]
DeadlineOption = Annotated[float, typer.Option(metavar="MINUTES", min=0.0, help="Most that the server is waited for, in all.")]


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
    """As wide as the terminal; lines are never broken where there is none."""
    return Console(width=None if sys.stdout.isatty() else 10_000)


def evidence_choices(
    msa: Path | None, seqdb: list[Path] | None, mmseqs_db: list[Path] | None, msa_server: str, templates: str, max_date: str
) -> dict[str, Any]:
    """Choices of what is known of the proteins; what was not named is not among them."""
    paths = {name: [str(path.absolute()) for path in found or ()] for name, found in (("seqdb", seqdb), ("mmseqs_db", mmseqs_db))}
    named: dict[str, Any] = {name: found for name, found in paths.items() if found}
    named |= {"msa": str(msa.absolute())} if msa else {}
    named |= {"msa_server": msa_server} if msa_server else {}
    named |= {"templates": templates if templates == "none" else str(Path(templates).absolute())} if templates else {}
    return named | ({"template_search": {"max_date": max_date}} if max_date else {})


def stem(path: Path) -> str:
    """The input's name without what says its format."""
    name = path.resolve().name.removesuffix(".gz")
    return Path(name).stem if Path(name).suffix in (".fasta", ".fa", ".faa", ".json", ".yaml", ".yml", ".csv", ".tsv", ".a3m") else name


def choices_of(config: Path | None, options: Mapping[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """What a YAML file, options and --set say, later ones over earlier ones; the section that is for `structgen submit` is not among it."""
    from structgen.settings import merge, parse_assignments, read_yaml

    choices = merge(merge(read_yaml(config) if config else {}, options), parse_assignments(assignments or []))
    return {name: value for name, value in choices.items() if name != "submit"}


def sampling_choices(samples: int | None, steps: int | None, cycles: int | None, seeds: str) -> dict[str, Any]:
    """Options of the sampling that were given."""
    given = {name: value for name, value in (("samples", samples), ("steps", steps), ("cycles", cycles)) if value is not None}
    return {"sampling": given} | ({"seeds": seeds_of(seeds)} if seeds else {})


def model_named(name: str, choices: dict[str, Any]) -> str:
    """The model that is named by the option, else by the choices, out of which it is taken; a file by its whole path."""
    from structgen.alphafold3.model import DEFAULT_MODEL

    named = name or str(choices.pop("model", DEFAULT_MODEL))
    return str(Path(named).absolute()) if Path(named).is_file() else named


def seeds_of(text: str) -> list[int]:
    """`1,2,3` as numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: expected numbers with commas between them, for example 1,2,3") from error
