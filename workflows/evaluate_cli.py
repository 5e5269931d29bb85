"""The part of the command line that measures: structures of a run or of a model, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from workflows.options import DateOption, SetOption, ThreadsOption
from workflows.pictures_cli import GuidanceOption, ModelOption, SeedOption


class _Structures(TyperGroup):
    """`structgen evaluate ...` is `structgen evaluate structures ...` where no other command of the group is named."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        named = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named or not args else ["structures", *args])


evaluate = typer.Typer(no_args_is_help=True, cls=_Structures, help="Measure what a trained model makes.")


@evaluate.command("structures", no_args_is_help=True)
def evaluate_structures(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Folder of a prediction run, whose structures are judged.")] = None,
    truth: Annotated[Path | None, typer.Option(metavar="DIR", help="Of a run: JOB.cif, .pdb, also .gz, as the jobs are named.")] = None,
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="Instead of a run: fold held-out chains by this model.")] = "",
    chains: Annotated[
        Path | None, typer.Option(metavar="DIR|ARCHIVE", help="Known chains: those that are folded, and training chains to compare with.")
    ] = None,
    holdout: Annotated[Path | None, typer.Option(metavar="TSV", help="Chains that are held out; see `structgen data homologs`.")] = None,
    split: Annotated[str, typer.Option(metavar="val|test|homolog", help="Which chains are folded.")] = "val",
    primary: Annotated[bool, typer.Option("--primary", help="Only the representative of each cluster.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Chains at most, chosen by the hash of their names; 0: all.")] = 0,
    evidence: Annotated[list[str] | None, typer.Option(metavar="sequence|profile", help="What is shown; both when not given.")] = None,
    templates: Annotated[
        str, typer.Option(metavar="none|DIR|LIBRARY", help="Searched for templates; the model's library when not given.")
    ] = "",
    max_template_date: DateOption = "",
    samples: Annotated[int, typer.Option(min=1, help="Structures a chain.")] = 5,
    steps: Annotated[int | None, typer.Option(help="Diffusion steps; the model's own when not given.")] = None,
    cycles: Annotated[int | None, typer.Option(help="Trunk cycles; the model's own when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    threads: ThreadsOption = 0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="RUN/evaluation, or runs/<model>_<split> when not given.")] = None,
    card: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write the model's card here.")] = None,
    training: Annotated[
        list[Path] | None, typer.Option(metavar="DIR|CARD.md", help="Training runs, for the card; an earlier card for runs that are gone.")
    ] = None,
    hardware: Annotated[str, typer.Option(help="What the training was made on, for the card.")] = "not recorded",
    trained_on: Annotated[str, typer.Option(help="What it was trained on, for the card; the set's training chains when not given.")] = "",
    set_: SetOption = None,
) -> None:
    """Structures beside experimental ones: accuracy, interfaces, geometry, calibration, and what needs no model beside them.

    Of a finished run (RUN --truth DIR), or of chains that a model folds now (--model FILE --chains DIR). The same command goes on.
    """
    from workflows.evaluate_request import EvaluateRequest, Folding, Writing, run_evaluation
    from workflows.options import console, exit_status

    with exit_status():
        folding = Folding(model, split, primary, limit, tuple(evidence or ("sequence", "profile")), samples, steps, cycles, seed)
        request = EvaluateRequest(
            run=run,
            truth=truth,
            folding=folding if model else None,
            chains=chains,
            holdout=holdout,
            templates=templates,
            max_template_date=max_template_date,
            threads=threads,
            writing=Writing(out, card, tuple(training or ()), hardware, trained_on),
            assignments=tuple(set_ or ()),
        )
        raise typer.Exit(run_evaluation(request, console()))


@evaluate.command("images", no_args_is_help=True)
def evaluate_images(
    model: ModelOption,
    judge: Annotated[Path, typer.Option(metavar="NAME|FILE", help="`fashion_judge`, or a classifier made by `structgen train`.")],
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
