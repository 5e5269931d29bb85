"""The `structgen` command. Nothing heavy is imported before a command is known, so that help is there at once."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from workflows import cost_cli, data, distill_cli, evaluate_cli, pictures_cli, runs_cli, submit_cli
from workflows.options import (
    ClusterOption,
    ConfigOption,
    DateOption,
    DeadlineOption,
    FixOption,
    FormatOption,
    Inputs,
    MemoryOption,
    MmseqsOption,
    ModelOption,
    MsaOption,
    SeqdbOption,
    ServerOption,
    SetOption,
    StoreOption,
    TemplatesOption,
    ThreadsOption,
    UppercaseOption,
    choices_of,
    console,
    evidence_choices,
    exit_status,
    model_named,
    sampling_choices,
    stem,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Predict molecular structures.")
app.add_typer(data.app, name="data")
app.add_typer(runs_cli.runs, name="runs")
app.command(no_args_is_help=True)(submit_cli.submit)
app.command(no_args_is_help=True)(distill_cli.distill)
app.command(no_args_is_help=True)(distill_cli.steps)
app.add_typer(pictures_cli.sample, name="sample")
app.add_typer(evaluate_cli.evaluate, name="evaluate")
app.command(no_args_is_help=True)(cost_cli.estimate)
app.command()(cost_cli.calibrate)


@app.command(no_args_is_help=True)
def predict(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Job files of any format, or folders of them; see docs/inputs.md.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the results; runs/<input's name> when not given.")] = None,
    model: ModelOption = "",
    msa: MsaOption = None,
    seqdb: SeqdbOption = None,
    mmseqs_db: MmseqsOption = None,
    msa_server: ServerOption = "",
    msa_deadline: DeadlineOption = 360.0,
    evidence: Annotated[Path | None, typer.Option(metavar="FILE|DIR", help="What `structgen search` found; nothing is searched.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Evidence that is not in the store is an error before any fold.")] = False,
    templates: TemplatesOption = "",
    max_template_date: DateOption = "",
    seeds: Annotated[str, typer.Option(metavar="1,2,3", help="One trunk and one set of samples each; before those of the inputs.")] = "",
    samples: Annotated[int | None, typer.Option(help="Structures per seed.")] = None,
    steps: Annotated[int | None, typer.Option(help="Diffusion steps.")] = None,
    cycles: Annotated[int | None, typer.Option(help="Trunk cycles.")] = None,
    cluster: ClusterOption = "",
    config: ConfigOption = None,
    set_: SetOption = None,
    store: StoreOption = "",
    threads: ThreadsOption = 0,
    memory: MemoryOption = 0.0,
    format: FormatOption = "",
    uppercase: UppercaseOption = False,
    fix_nucleic: FixOption = False,
) -> None:
    """Predict the structures of all records. The same command again goes on where the last one stopped."""
    with exit_status():
        from structgen.io.jobs.reading import Options
        from structgen.store import open_store
        from workflows import session
        from workflows.resources import requested

        options = sampling_choices(samples, steps, cycles, seeds) | evidence_choices(
            msa, seqdb, mmseqs_db, msa_server, templates, max_template_date
        )
        options |= {"evidence": str(evidence.absolute())} if evidence else {}
        choices = choices_of(config, options, set_)
        resources = requested(choices, memory)
        request = session.Request(
            inputs=tuple(inputs),
            out=out or Path("runs") / stem(inputs[0]),
            store=open_store(store),
            model=model_named(model, choices),
            choices=choices,
            format=format,
            options=Options(uppercase, fix_nucleic),
            cluster=cluster,
            threads=threads,
            resources=resources,
            offline=offline,
            deadline=60 * msa_deadline,
        )
        raise typer.Exit(session.predict(request, console()))


@app.command(no_args_is_help=True)
def validate(
    inputs: Inputs,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    format: FormatOption = "",
    uppercase: UppercaseOption = False,
    fix_nucleic: FixOption = False,
) -> None:
    """Say what is understood of every job, without weights or network. Exit status 2 where one cannot be used."""
    with exit_status():
        from structgen.io.jobs.reading import Options
        from workflows.inputs import validate

        raise typer.Exit(validate(inputs, Options(uppercase, fix_nucleic), format, as_json=json, console=console()))


app.command("check", no_args_is_help=True, hidden=True)(validate)


@app.command(no_args_is_help=True)
def search(
    inputs: Inputs,
    out: Annotated[Path | None, typer.Option(help="Folder of the list; runs/<input's name>_search when not given.")] = None,
    export: Annotated[Path | None, typer.Option(metavar="FILE.tar", help="Archive for machines that cannot search.")] = None,
    msa: MsaOption = None,
    seqdb: SeqdbOption = None,
    mmseqs_db: MmseqsOption = None,
    msa_server: ServerOption = "",
    msa_deadline: DeadlineOption = 360.0,
    templates: TemplatesOption = "",
    max_template_date: DateOption = "",
    cluster: ClusterOption = "",
    config: ConfigOption = None,
    set_: SetOption = None,
    store: StoreOption = "",
    format: FormatOption = "",
    uppercase: UppercaseOption = False,
    fix_nucleic: FixOption = False,
) -> None:
    """Find the evidence of all records and no more: alignments and templates, kept in the store for every later run."""
    with exit_status():
        from structgen.io.jobs.reading import Options
        from structgen.store import open_store
        from workflows import session
        from workflows.resources import requested
        from workflows.search import search

        options = evidence_choices(msa, seqdb, mmseqs_db, msa_server, templates, max_template_date)
        choices = choices_of(config, options, set_)
        resources = requested(choices, 0.0)
        request = session.Request(
            inputs=tuple(inputs),
            out=out or Path("runs") / f"{stem(inputs[0])}_search",
            store=open_store(store),
            model="",
            choices=choices,
            format=format,
            options=Options(uppercase, fix_nucleic),
            cluster=cluster,
            resources=resources,
            deadline=60 * msa_deadline,
        )
        raise typer.Exit(search(request, export, console()))


search_db = typer.Typer(no_args_is_help=True, help="Databases of mmseqs2.")
app.add_typer(search_db, name="search-db")


@search_db.command("build", no_args_is_help=True)
def build_search_db(
    fasta: Annotated[Path, typer.Argument(metavar="FASTA[.gz]", help="Protein sequences.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make, for --mmseqs-db.")],
    shards: Annotated[int, typer.Option(min=1, help="Parts that are searched one after the other: less memory for each.")] = 1,
    index: Annotated[bool, typer.Option(help="Keep the k-mer index on disk: no search has to make it.")] = True,
    threads: Annotated[int, typer.Option(min=0, help="0: all cores.")] = 0,
) -> None:
    """Build a database for `--mmseqs-db` once; needs the program mmseqs (mmseqs2)."""
    with exit_status():
        from structgen.search.mmseqs_database import build_database

        built = build_database(fasta, out, shards=shards, index=index, threads=threads or len(os.sched_getaffinity(0)))
        sequences = sum(shard.sequences for shard in built.shards)
        typer.echo(f"{out}: {sequences:,} sequences, {built.residues:,} residues in {len(built.shards)} shard(s)")


@app.command(no_args_is_help=True)
def convert_input(
    inputs: Inputs,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="alphafold3, server, boltz, boltz-fasta, protenix, openfold3, ...")],
    out: Annotated[Path, typer.Option(metavar="FILE|DIR", help="A file where it has a suffix, else a folder with a file a job.")],
    strict: Annotated[bool, typer.Option("--strict", help="What the format does not hold is an error.")] = False,
    format: FormatOption = "",
    uppercase: UppercaseOption = False,
    fix_nucleic: FixOption = False,
) -> None:
    """Write jobs in another format, and say what that cannot hold."""
    with exit_status():
        from structgen.io.jobs.reading import Options
        from workflows.inputs import Conversion, convert

        wanted = Conversion(tuple(inputs), to, out, strict, format, Options(uppercase, fix_nucleic))
        raise typer.Exit(convert(wanted, console(), Console(stderr=True, width=10_000)))


@app.command(no_args_is_help=True)
def status(run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, as given to --out.")]) -> None:
    """Say how far a run is and what went wrong in it."""
    with exit_status():
        from workflows import session

        raise typer.Exit(session.status(run, console()))


@app.command(no_args_is_help=True)
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, as given to --out.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html|DIR", help="RUN/report.html, or RUN/report when not given.")] = None,
    split: Annotated[bool, typer.Option("--split", help="A folder with a page and data that load on demand, for large runs.")] = False,
    limit: Annotated[int, typer.Option(metavar="MB", help="From this size on, a page takes only the best sample of a job.")] = 32,
) -> None:
    """Write a run as one page for any browser: table, structures, PAE, alignments, scores, files. It needs no network."""
    with exit_status():
        from workflows.report import report

        report(run, out, limit, split=split, console=console())


@app.command()
def models() -> None:
    """List the models that ship with structgen."""
    with exit_status():
        from structgen import heads
        from structgen.alphafold3.model import DEFAULT_MODEL, list_models
        from workflows.evidence import templates_of

        for name in list_models():
            mark, model = " (default)" if name == DEFAULT_MODEL else "", heads.load(name)
            text = f"{name}{mark}\n  {model.card}\n  {templates_of(model)}"
            console().print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def lecture(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A picture of the list, or `all`; none: the list.")] = "",
    out: Annotated[Path | None, typer.Option(help="PNG or SVG; for `all` a folder. NAME.png or lecture/ when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn and of tiny trainings.")] = 0,
) -> None:
    """Draw a method of diffusion models or flow matching on a two-dimensional set."""
    with exit_status():
        from workflows.lecture import gallery

        if name == "all":
            for path in gallery.draw_all(out or Path("lecture"), seed):
                typer.echo(path)
        elif name:
            gallery.draw(name, out or Path(f"{name}.png"), seed)
            typer.echo(out or f"{name}.png")
        else:
            typer.echo(gallery.listing())


@app.command(no_args_is_help=True)
def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="PyTorch file of Protenix or OpenFold3, or DeepSpeed's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="Where the converted model goes.")],
) -> None:
    """Convert a public checkpoint (Protenix, OpenFold3 0.5.0) for `structgen predict --model OUT.safetensors`."""
    with exit_status():
        from workflows.convert import convert_checkpoint

        convert_checkpoint(checkpoint, out, console())


@app.command(no_args_is_help=True)
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="What is trained and how (YAML); see docs/training.md.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/<config's name> when not given.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Training data; wins over the file's.")] = None,
    init: Annotated[str, typer.Option(metavar="NAME|FILE", help="Model whose weights are the start; wins over the file's.")] = "",
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop in time, with a checkpoint; the same command goes on.")] = None,
    cluster: Annotated[str, typer.Option(metavar="local|auto|ADDRESS", help="Run on Ray; in this process when not given.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes on the cluster that train together.")] = 1,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs of the cluster that each of them takes: what several runs share it by.")] = 1.0,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. optimisation.decay=0.5.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Train a model. The same command again goes on where the last one stopped."""
    with exit_status():
        from structgen.settings import parse_assignments
        from workflows.training_session import TrainingRequest, run_training

        changes: dict[str, Any] = {name: str(Path(value).absolute()) for name, value in (("data", data),) if value is not None}
        changes |= {"init": str(Path(init).absolute()) if Path(init).is_file() else init} if init else {}
        request = TrainingRequest(
            config=config,
            out=out or Path("runs") / stem(config),
            changes=changes | parse_assignments(set_ or []),
            minutes=minutes,
            cluster=cluster,
            workers=workers,
            cpus=cpus,
            threads=threads,
        )
        raise typer.Exit(run_training(request, console()))


@app.command(no_args_is_help=True)
def export(
    model: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A model, e.g. RUN/model.safetensors.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="Where the bfloat16 copy goes.")],
    card: Annotated[str, typer.Option(help="A paragraph: what it was trained on.")] = "",
    terms: Annotated[str, typer.Option(help="Under which the weights may be used.")] = "Apache-2.0",
    library: Annotated[Path | None, typer.Option(metavar="LIBRARY", help="Goes along: searched where no templates are named.")] = None,
) -> None:
    """Write a trained model in bfloat16, as a package ships it."""
    with exit_status():
        from workflows.export import export_model

        export_model(model, out, card=card, terms=terms, library=library)


def main() -> None:
    """The command line. Exit status: 0 done, 2 wrong input or settings, 3 failed work, 130 stopped by the user."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: on a busy machine, threads that spin starve those that work
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's end is like Ctrl-C: what is done is kept on record
    app()


if __name__ == "__main__":
    main()
