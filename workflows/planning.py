"""The jobs of a run with their costs, which decide what goes first and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from structgen.alphafold3.model import Model
from structgen.attempt import failed
from structgen.cost import calibration
from structgen.cost.measured import weights_mib
from structgen.cost.plan import Planned, Planner
from structgen.errors import InputError
from structgen.features.job import Job
from structgen.run import Row, Run, fan_out, first_row
from structgen.search.given import find_alignments
from structgen.settings import Settings
from workflows.simulate import ideal, makespan


def planner(settings: Settings, model: Model, threads: int, memory: float) -> Planner:
    """What the estimates of a run rest on: the calibration of this machine where there is one. `memory` in MiB, 0: nothing is left out."""
    subject = calibration.subject(model.digest, settings.precision, threads)
    given = find_alignments(Path(settings.msa)) if settings.msa else None
    return Planner(settings, model.config, calibration.load(subject), weights_mib(model.network), memory, given)


def rows_to_run(run: Run, by: Planner, jobs: Sequence[Job]) -> list[Row]:
    """The rows of the jobs that fit; the others are put on record as failed, with the numbers, before anything is computed for them."""
    rows: list[Row] = []
    for job in jobs:
        try:
            one = by.plan(job)
        except InputError:
            rows.append(first_row(job))  # the stage that meets the fault says what it is
            continue
        if one.refused is None:
            (row,) = rows_of([one])
            rows.append(row | {"mib": min(float(row["mib"]), by.memory or float(row["mib"]))})  # what is admitted fits somewhere
        else:
            for row in fan_out(first_row(job), job.seeds or run.settings.seeds):
                failed(run, "fold", row, one.refused)
    return rows


def rows_of(planned: Sequence[Planned]) -> list[Row]:
    """The rows with which planned jobs enter the line."""
    return [first_row(one.job) | estimates(one) for one in planned]


def estimates(planned: Planned) -> Row:
    """What a schedule reads of a plan: seconds of a fold, its memory in MiB, samples at once where not all."""
    row: Row = {"cost": planned.estimate.seconds, "mib": planned.estimate.peak}
    return row | ({"at_once": planned.work.at_once} if planned.work.at_once else {})


def spans(planned: Sequence[Planned], settings: Settings, places: int) -> tuple[float, float]:
    """Seconds of all folds on so many places: with our schedule, and the least that any could take."""
    costs = [one.estimate.seconds for one in planned for _ in range(one.seeds)]
    if not costs:
        return 0.0, 0.0
    seeds = {one.job.slug: one.job.seeds or settings.seeds for one in planned}
    return makespan(rows_of(planned), lambda row: seeds[str(row["slug"])], places), ideal(costs, places)
