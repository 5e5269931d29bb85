"""Short trainings by the one trainer, for tests of what a trained network does."""

from __future__ import annotations

from pathlib import Path

import torch

from structgen.generative import Ema, generators
from structgen.generative.ema import Weights
from structgen.tasks.task import Task
from structgen.train import Optimisation, TrainState, train_step


def trained(task: Task, steps: int, *, rate: float = 2e-3) -> Weights:
    """The averaged weights after so many steps, the rate falling to a tenth."""
    optimisation = Optimisation(rate, (0.9, 0.99), warmup_steps=20, decay=0.1, decay_steps=steps, clip_norm=1.0, ema=Ema(0.98))
    state = TrainState.start(task.network, optimisation)
    for step in range(steps):
        draws = generators(0, 1, first=step)
        torch.manual_seed(step)
        state, _ = train_step(state, [task.example(step)], task.loss, optimisation, draws)
    return state.average


def published(task: Task, path: Path, steps: int, *, rate: float = 2e-3) -> Path:
    """The same, as a model file."""
    task.publish(trained(task, steps, rate=rate), path, card="")
    return path
