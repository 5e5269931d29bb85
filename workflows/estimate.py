"""`structgen estimate`: what a run would take, before anything of it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console

from structgen import heads
from structgen.alphafold3.config import Sampling
from structgen.cost.plan import Planned, Planner, memory_here, plan_all
from structgen.errors import InputError
from structgen.settings import resolve
from workflows.planning import planner, spans
from workflows.session import Request, read

GUESSED = "not calibrated on this machine for this model: right in proportion, not in scale; run `structgen calibrate` first"


def estimate(request: Request, places: int, console: Console, *, as_json: bool) -> int:
    """Print every job's cost and the time of the whole on so many places to fold; returns the exit status, 2 where a job cannot run."""
    checked = resolve(request.choices, model=request.model, sampling=Sampling())
    jobs, rejected = read(request, checked)
    model = heads.load(request.model, precision=checked.precision)
    settings = resolve(request.choices, model=request.model, sampling=model.config.sampling)
    by = planner(settings, model, request.threads or torch.get_num_threads(), request.resources.memory_of(memory_here()))
    planned, errors = plan_all(by, jobs)
    errors = [*rejected, *errors, *(one.refused for one in planned if one.refused)]
    able = [one for one in planned if not one.refused]
    if as_json:
        console.out(json.dumps(_document(by, able, errors, places), indent=1, ensure_ascii=True), highlight=False)
        return 2 if errors else 0
    for line in _lines(by, able, places):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if errors:
        console.print(f"{len(errors)} cannot run:", highlight=False)
    for error in errors:
        console.print(f"  {error}", markup=False, highlight=False, soft_wrap=True)
    return 2 if errors else 0


def _lines(by: Planner, planned: Sequence[Planned], places: int) -> list[str]:
    """The table for people, the costliest job first."""
    searched = by.searches
    width = max([len(one.job.slug) for one in planned] + [3])
    lines = [f"{'job':<{width}}  {'tokens':>6}  {'atoms':>6}  {'rows':>6}  seeds x samples  {'fold s':>9}  {'job s':>9}  {'peak MiB':>9}"]
    for one in sorted(planned, key=lambda one: -one.seconds):
        work = one.work
        at_once = f" ({work.at_once} at once)" if work.at_once else ""
        lines.append(
            f"{one.job.slug:<{width}}  {work.tokens:6}  {work.atoms:6}  {work.rows:6}  {f'{one.seeds} x {work.samples}{at_once}':<15}"
            f"  {one.estimate.seconds:9.1f}  {one.seconds:9.1f}  {one.estimate.peak:9,.0f}"
        )
    total, (span, least) = sum(one.seconds for one in planned), spans(planned, by.settings, places)
    folds = sum(one.seeds for one in planned)
    lines.append(f"{len(planned)} jobs, {folds} folds: {duration(total)} of folding and featurising; searches are not counted")
    lines.append(f"on {places} place{'s' * (places > 1)} to fold: {duration(span)} (at best {duration(least)})")
    lines += ["rows of chains that are yet to be searched: the most there can be"] if searched else []
    lines += [GUESSED] if not by.calibration.measured else []
    return lines


def duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s`, `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours:,} h {minutes_left:02} min" if hours else f"{minutes} min {rest:02} s"


def _document(by: Planner, planned: Sequence[Planned], errors: Sequence[InputError], places: int) -> dict[str, Any]:
    """The table for programs."""
    span, least = spans(planned, by.settings, places)
    return {
        "calibrated": by.calibration.measured,
        "machine": by.calibration.subject.machine,
        "places": places,
        "seconds": sum(one.seconds for one in planned),
        "makespan": span,
        "least": least,
        "jobs": [_job(one) for one in planned],
        "errors": [str(error) for error in errors],
    }


def _job(one: Planned) -> dict[str, Any]:
    work, estimate = one.work, one.estimate
    sizes = {"tokens": work.tokens, "atoms": work.atoms, "rows": work.rows, "templates": work.templates}
    chosen = {"seeds": one.seeds, "samples": work.samples, "at_once": work.together, "steps": work.steps, "cycles": work.cycles}
    costs = {"fold_seconds": estimate.seconds, "phases": estimate.phases, "seconds": one.seconds, "peak_mib": estimate.peak}
    return {"job": one.job.slug, "source": one.job.source, **sizes, **chosen, **costs}
