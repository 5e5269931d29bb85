"""The training loop: one process, one device, exact resume; or the same loop in each of several processes (`workflows.train_cluster`).

Everything random of the example at place k of the data order is drawn from generators seeded by (seed, k), so a checkpoint needs no
generator's state: a run that was cut off and goes on makes the same steps as one that was not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from structgen.errors import ConfigError, NumericalError
from structgen.generative import generators
from structgen.store import replace_file
from structgen.tasks.task import Task
from structgen.train import Metrics, TrainState, alone, train_step
from workflows.training_log import Record, draw, read_rows
from workflows.training_run import TrainingRun, build_task, claim
from workflows.training_state import read_state, write_state

log = logging.getLogger(__name__)


class World:
    """The processes that train together: here, this one alone."""

    rank = 0
    size = 1

    @property
    def average(self) -> Any:
        """A `structgen.train.Average`."""
        return alone

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process: all must agree on when to stop."""
        return flag

    def wait(self) -> None:
        """Until all processes are here."""


@dataclass(frozen=True)
class Limits:
    """When a start of a run ends before its last step."""

    minutes: float | None = None  # of this start, checkpoint included


def train(run: TrainingRun, out: Path, world: World | None = None, limits: Limits = Limits()) -> TrainState:
    """Make the run's steps, from the last checkpoint in `out` if there is one.

    Writes `run.json`, `log.jsonl`, `curves.png`, `state.safetensors` and `model.safetensors`. Stops after a step, with a checkpoint, when
    the time is up or a signal asks for it. Raises `NumericalError`, with the batch on disk, when something is not finite.
    """
    world = world or World()
    if run.examples_per_step % world.size:
        raise ConfigError(f"examples_per_step: found {run.examples_per_step}; expected a multiple of the {world.size} workers")
    out.mkdir(parents=True, exist_ok=True)
    if world.rank == 0:
        claim(run, out)
    clock = Clock(limits.minutes)
    task = build_task(run, out)
    task.network.train()
    state = read_state(TrainState.start(task.network, run.optimisation), out / "state.safetensors")
    loop = Loop(run, out, task, world, clock)
    with stopped_by_signal(clock):
        return loop.go(state)


@dataclass(frozen=True, eq=False)
class Loop:
    """The loop and what it reads: nothing here changes but the clock and the files."""

    run: TrainingRun
    out: Path
    task: Task
    world: World
    clock: Clock

    def go(self, state: TrainState) -> TrainState:
        """To the last step, or as far as the clock lets it."""
        record = Record(self.out / "log.jsonl", state.step, self.run.log_every) if self.world.rank == 0 else None
        for examples, places in self._batches(state.step):
            if self.world.any(self.clock.is_up):
                break
            began = time.monotonic()
            state, metrics = self._step(state, examples, places)
            self.clock.step_took(time.monotonic() - began)
            if record:
                record.step(state.step, metrics)
                self._keep(state, record)
        if record and state.step % self.run.checkpoint_every and state.step < self.run.steps:
            self._checkpoint(state)
        if record:
            draw(read_rows(record.path), self.out / "curves.png")
        self.world.wait()
        return state

    def _batches(self, first: int) -> Iterator[tuple[list[Any], list[int]]]:
        """This process's examples of every step that is left, and their places."""
        steps = _Steps(self, first)
        loader: DataLoader = DataLoader(
            steps,
            batch_size=None,
            num_workers=self.run.loaders,
            collate_fn=_itself,
            prefetch_factor=4 if self.run.loaders else None,
            worker_init_fn=_one_thread,
            multiprocessing_context="fork" if self.run.loaders else None,  # the task is shared, not sent; examples touch no GPU
        )
        yield from zip(loader, map(steps.places, range(len(steps))), strict=True)

    def _step(self, state: TrainState, examples: Sequence[Any], places: Sequence[int]) -> tuple[TrainState, Metrics]:
        draws = generators(self.run.seed, len(places), first=places[0])
        try:
            return train_step(state, examples, self._seeded, self.run.optimisation, draws, average=self.world.average)
        except NumericalError as error:
            raise NumericalError(f"{error}; {self._kept_for_report(state.step, examples, places)}") from error

    def _seeded(self, example: Any, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        """The task's loss with dropout masks of the example's own."""
        torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        return self.task.loss(example, rng)

    def _kept_for_report(self, step: int, examples: Sequence[Any], places: Sequence[int]) -> str:
        path = self.out / f"not_finite_step{step}_rank{self.world.rank}.safetensors"
        tensors = {f"{k}.{name}": tensor for k, example in enumerate(examples) for name, tensor in self.task.tensors(example).items()}
        tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        replace_file(path, safetensors.torch.save(tensors))
        names = [name for example in examples for name in self.task.names(example)]
        return f"the batch is in {path}: places {list(places)} of the data order{', made of ' + ', '.join(names) if names else ''}"

    def _keep(self, state: TrainState, record: Record) -> None:
        """Validate and checkpoint where it is time to, in this order: a checkpoint says that all before it is on record."""
        began, last = time.monotonic(), state.step == self.run.steps
        at_checkpoint = last or state.step % self.run.checkpoint_every == 0
        if last or (state.step % self.run.validate_every == 0 if self.run.validate_every else at_checkpoint):
            record.validation(state.step, self.task.validate(state.average))
        if at_checkpoint:
            self._checkpoint(state)
        self.clock.checkpoint_took(time.monotonic() - began)

    def _checkpoint(self, state: TrainState) -> None:
        write_state(state, self.out / "state.safetensors", self.task.config(), compact=self.run.compact)
        self.task.publish(state.average, self.out / "model.safetensors", card=f"training step {state.step}")


class Clock:
    """How much time a start of a run has left: it ends early enough for its checkpoint."""

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._step = self._checkpoint = 0.0
        self._steps = 0
        self.stop = threading.Event()

    def step_took(self, seconds: float) -> None:
        """The first one is forgotten: a GPU compiles its kernels in it."""
        self._steps += 1
        self._step = seconds if self._steps <= 2 else max(self._step, seconds)

    def checkpoint_took(self, seconds: float) -> None:
        self._checkpoint = max(self._checkpoint, seconds)

    @property
    def is_up(self) -> bool:
        """Whether another step and a checkpoint, as long as the longest so far, would end too late; or somebody asked for the end."""
        late = self._end is not None and time.monotonic() + self._step + 2 * self._checkpoint > self._end
        return late or self.stop.is_set()


@contextlib.contextmanager
def stopped_by_signal(clock: Clock) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the run after the step that is being made; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: Any) -> None:
        if clock.stop.is_set():
            raise KeyboardInterrupt
        clock.stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, eq=False)
class _Steps(Dataset):
    """This process's examples of the steps from `first` on."""

    loop: Loop
    first: int

    def __len__(self) -> int:
        return max(0, self.loop.run.steps - self.first)

    def places(self, k: int) -> list[int]:
        """In the data order."""
        run, world = self.loop.run, self.loop.world
        share = run.examples_per_step // world.size
        start = (self.first + k) * run.examples_per_step + world.rank * share
        return list(range(start, start + share))

    def __getitem__(self, k: int) -> list[Any]:
        return [self.loop.task.example(place) for place in self.places(k)]


def _itself(examples: list[Any]) -> list[Any]:
    return examples


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
    os.nice(5)
