"""`structgen distill`: rounds of student training, each a run with exact resume whose model is the teacher of the next."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from structgen.errors import ConfigError
from structgen.settings import merge
from structgen.tasks.generator import GeneratorTraining
from structgen.tasks.student import StudentTraining
from workflows.train import Limits, train
from workflows.training_run import TrainingRun, read_run, task_settings
from workflows.training_session import STOPPED, TrainingRequest, prepare


def distill(request: TrainingRequest, to: int, console: Console) -> int:
    """Train the rounds that are left; returns the exit status, as `structgen train` does."""
    prepare(request)
    run = read_run(request.config, request.changes)
    end = None if request.minutes is None else time.monotonic() + 60 * request.minutes
    model = Path(run.init)
    for name, own in rounds(run, to, request.out):
        left = None if end is None else (end - time.monotonic()) / 60
        step = train(own, request.out / name, limits=Limits(left)).step if left is None or left > 0 else 0
        if step < own.steps:
            console.print(f"stopped in round {name}, step {step} of {own.steps}; the same command goes on from here", highlight=False)
            return 0 if request.minutes is not None else STOPPED
        model = request.out / name / "model.safetensors"
        console.print(f"round {name}: {model}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"student: {model}", markup=False, highlight=False, soft_wrap=True)
    return 0


def rounds(run: TrainingRun, to: int, out: Path) -> Iterator[tuple[str, TrainingRun]]:
    """Name and run of every round. Progressive rounds go on until a student makes `to` steps; other methods need one round.

    Raises `ConfigError`, before the first, for another kind of run and for a number of steps that the strides do not lead to.
    """
    settings = task_settings(run)
    terms = settings.distillation if isinstance(settings, StudentTraining | GeneratorTraining) else None
    if terms is None:
        raise ConfigError(f"kind: found {run.kind!r}; distillation is a run of kind 'student', or 'generator' with task.distillation")
    method = str(getattr(terms.method, "value", terms.method))
    if method != "progressive":
        return iter([(method, run)])
    numbers = [terms.teacher_steps]
    while numbers[-1] > to and numbers[-1] % terms.stride == 0:
        numbers.append(numbers[-1] // terms.stride)
    if numbers[-1] != to or len(numbers) < 2:
        raise ConfigError(f"--to {to}: {terms.teacher_steps} steps, divided by {terms.stride} again and again, are never {to}")
    return _progressive(run, numbers, out)


def _progressive(run: TrainingRun, numbers: list[int], out: Path) -> Iterator[tuple[str, TrainingRun]]:
    init = run.init
    for before, after in itertools.pairwise(numbers):
        name = f"{before}-to-{after}"
        task = merge(run.task, {"distillation": {"teacher_steps": before}})
        yield name, dataclasses.replace(run, init=init, task=task)
        init = str(out / name / "model.safetensors")
