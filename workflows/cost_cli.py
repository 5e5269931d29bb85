"""The part of the command line that says what a run will take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workflows.options import (
    ConfigOption,
    FormatOption,
    Inputs,
    MemoryOption,
    MmseqsOption,
    ModelOption,
    MsaOption,
    SeqdbOption,
    ServerOption,
    SetOption,
    ThreadsOption,
    choices_of,
    console,
    evidence_choices,
    exit_status,
    model_named,
    sampling_choices,
)


def estimate(
    inputs: Inputs,
    model: ModelOption = "",
    msa: MsaOption = None,
    seqdb: SeqdbOption = None,
    mmseqs_db: MmseqsOption = None,
    msa_server: ServerOption = "",
    seeds: Annotated[str, typer.Option(metavar="1,2,3", help="Seeds of every job; before those of the inputs.")] = "",
    samples: Annotated[int | None, typer.Option(help="Structures per seed.")] = None,
    steps: Annotated[int | None, typer.Option(help="Diffusion steps.")] = None,
    cycles: Annotated[int | None, typer.Option(help="Trunk cycles.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    places: Annotated[int, typer.Option(min=1, help="Folds that run at the same time: GPUs, or cores over threads.")] = 1,
    threads: ThreadsOption = 0,
    memory: MemoryOption = 0.0,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    format: FormatOption = "",
) -> None:
    """Say how long every job will take and how much memory, before anything runs. Exit status 2 where one cannot run."""
    with exit_status():
        from structgen.store import open_store
        from workflows import session
        from workflows.estimate import estimate
        from workflows.resources import requested

        options = sampling_choices(samples, steps, cycles, seeds) | evidence_choices(msa, seqdb, mmseqs_db, msa_server, "", "")
        choices = choices_of(config, options, set_)
        resources = requested(choices, memory)
        request = session.Request(
            inputs=tuple(inputs),
            out=Path(),
            store=open_store(""),
            model=model_named(model, choices),
            choices=choices,
            format=format,
            threads=threads,
            resources=resources,
        )
        raise typer.Exit(estimate(request, places, console(), as_json=json))


def calibrate(
    model: ModelOption = "",
    precision: Annotated[str, typer.Option(metavar="float32|bfloat16", help="The processor's own when not given.")] = "",
    threads: ThreadsOption = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller folds: a rough calibration in less time.")] = False,
) -> None:
    """Measure what folds take on this machine, for `structgen estimate` and the order of a run."""
    with exit_status():
        from workflows.calibrate import calibrate, wanted

        calibrate(wanted(model_named(model, {}), precision, threads, quick=quick), console())
