"""An endless stream of training examples: made in this process, or by worker processes that stay a bounded number of steps ahead."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch

from structgen.data.dataset import Dataset
from structgen.data.examples import Loading, draw_step, to_example
from structgen.data.sampling import Sampler
from structgen.errors import ConfigError, StructgenError
from structgen.features.examples import Example

PATIENCE = 5.0  # seconds between looks at whether the other side still lives


class LoaderError(StructgenError):
    """A worker of the loader failed or died."""


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process trains on: places `rank`, `rank + world`, ... of the batch."""

    rank: int = 0
    world: int = 1

    def places(self, batch: int) -> list[int]:
        """Raises `ConfigError` where the batch cannot be shared evenly."""
        if batch % self.world:
            raise ConfigError(f"batch: found {batch}; expected a multiple of the {self.world} processes that share it")
        return list(range(self.rank, batch, self.world))


ALL = Share()


def examples(
    dataset: Dataset, settings: Loading, seed: int, start_step: int = 0, *, workers: int = 0, ahead: int = 4, share: Share = ALL
) -> Iterator[Example]:
    """The examples of step `start_step`, `start_step + 1`, ...: functions of (seed, step), whatever the number of workers.

    `ahead`: finished steps that each worker holds at most. Workers are forked: the dataset's memory is theirs too. They end when the
    iterator is closed, is no longer used, or its process dies. Raises `LoaderError` where one fails.
    """
    sampler, places = Sampler.of(dataset, settings.split, settings.sizes, seed), share.places(settings.batch)
    if not workers:
        while True:
            yield to_example(draw_step(dataset, sampler, settings, start_step, places))
            start_step += 1
    context = multiprocessing.get_context("fork")
    queues = [context.Queue(ahead) for _ in range(workers)]
    own = [range(start_step + w, 2**62, workers) for w in range(workers)]
    pool = [
        context.Process(target=_work, args=(dataset, sampler, settings, places, steps, queue), daemon=True)
        for steps, queue in zip(own, queues, strict=True)
    ]
    try:
        for process in pool:
            process.start()
        while True:
            for process, ready in zip(pool, queues, strict=True):
                yield to_example(_receive(process, ready))
    finally:
        for process in pool:
            process.kill()
            process.join()


def _receive(process: BaseProcess, ready: Any) -> dict[str, np.ndarray]:
    while True:
        try:
            found = ready.get(timeout=PATIENCE)
        except queue.Empty:
            if process.is_alive():
                continue
            raise LoaderError(f"a loader process died (exit status {process.exitcode}): killed, or out of memory") from None
        if isinstance(found, str):
            raise LoaderError(found)
        return found


def _work(dataset: Dataset, sampler: Sampler, settings: Loading, places: Sequence[int], steps: range, ready: Any) -> None:
    """A worker's life: its steps in order, until nobody listens."""
    torch.set_num_threads(1)
    parent = os.getppid()
    for step in steps:
        try:
            made: Any = draw_step(dataset, sampler, settings, step, places)
        except Exception as error:
            made = f"step {step} cannot be loaded: {type(error).__name__}: {error}"
        while os.getppid() == parent:
            try:
                ready.put(made, timeout=PATIENCE)
                break
            except queue.Full:
                continue
        if os.getppid() != parent or isinstance(made, str):
            return
