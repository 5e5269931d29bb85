"""`structgen train`: a request of the command line to a run in this process or on a cluster."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from structgen.errors import ConfigError
from workflows.train import Limits, train
from workflows.training_run import TrainingRun, read_run

STOPPED = 130


@dataclass(frozen=True)
class TrainingRequest:
    """What was asked for."""

    config: Path
    out: Path
    changes: Mapping[str, Any]
    minutes: float | None
    cluster: str
    workers: int
    cpus: float  # of the cluster, for each worker
    threads: int


def run_training(request: TrainingRequest, console: Console) -> int:
    """Train, and say what was reached. The exit status: 0 also where the time was up, 130 where a signal asked for the end."""
    prepare(request)
    run = read_run(request.config, request.changes)
    if request.workers > 1 and not request.cluster:
        raise ConfigError("--workers: several processes need a cluster; --cluster local starts one on this machine")
    return say(run, request, _trained(run, request), console)


def _trained(run: TrainingRun, request: TrainingRequest) -> int:
    """The step that was reached, here or on the cluster."""
    limits = Limits(request.minutes)
    if not request.cluster:
        return train(run, request.out, limits=limits).step
    from workflows.authentication import declare

    declare(request.cluster)
    from workflows.train_cluster import Cluster, train_on_cluster

    return train_on_cluster(run, request.out, Cluster(request.cluster, request.workers, cpus=request.cpus), limits)


def prepare(request: TrainingRequest) -> None:
    """Rows of the log on the terminal; as many threads as were asked for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    if request.threads:
        torch.set_num_threads(request.threads)


def say(run: TrainingRun, request: TrainingRequest, step: int, console: Console) -> int:
    """Where the run stands."""
    if step >= run.steps:
        console.print(f"{step} steps; model: {request.out / 'model.safetensors'}", markup=False, highlight=False)
        return 0
    console.print(f"stopped at step {step} of {run.steps}; the same command goes on from here", markup=False, highlight=False)
    return 0 if request.minutes is not None else STOPPED
