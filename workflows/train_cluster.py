"""The training loop of `workflows.train` in several processes on a Ray cluster (Ray Train v2).

Every worker runs the same loop on its share of each step's examples; gradients are averaged, so all hold the same weights, and the first
one writes the files. A lost worker restarts the group from the last checkpoint in the run's folder, which all nodes must see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor

from structgen.configuration import from_mapping
from structgen.errors import ClusterError, StructgenError
from structgen.io.checkpoint import read_checkpoint
from workflows.cluster import connected, first_line
from workflows.train import Limits, World, train
from workflows.training_run import TrainingRun

ENDLESS = Limits()
BUCKET = 1 << 24  # numbers that are averaged in one message


class Group(World):
    """The processes of a `torch.distributed` group."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    @property
    def average(self) -> Any:
        return average

    def any(self, flag: bool) -> bool:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        votes = torch.tensor([float(flag)], device=device)
        dist.all_reduce(votes)
        return bool(votes.item())

    def wait(self) -> None:
        dist.barrier()


def average(tensors: Sequence[Tensor]) -> None:
    """Every tensor becomes its mean over the group, in few messages; a `structgen.train.Average`."""
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for tensor, value in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
            tensor.copy_(value.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors of one type together, in the order in which every process has them."""
    found: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        if not found or tensor.dtype != found[-1][-1].dtype or size + tensor.numel() > BUCKET:
            found.append([])
            size = 0
        found[-1].append(tensor)
        size += tensor.numel()
    return found


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where and in how many processes a run is made."""

    where: str  # local, auto or host:port
    workers: int
    failures: int = 3  # groups that may be lost before the run is given up
    cpus: float = 1.0  # of every worker


def train_on_cluster(run: TrainingRun, out: Path, cluster: Cluster, limits: Limits = ENDLESS) -> int:
    """Make the run's steps on the cluster; the step that was reached. Raises `ClusterError` when the group is lost too often."""
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    settings = {"run": dataclasses.asdict(run), "out": str(out), "limits": dataclasses.asdict(limits)}
    with connected(cluster.where):
        gpu = run.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= cluster.workers
        trainer = TorchTrainer(
            worker,
            train_loop_config=settings,
            scaling_config=ScalingConfig(num_workers=cluster.workers, use_gpu=gpu, resources_per_worker={"CPU": cluster.cpus}),
            run_config=RunConfig(
                name=out.name, storage_path=str(out / "ray"), failure_config=FailureConfig(max_failures=cluster.failures)
            ),
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray wraps a worker's error in its own
            raise _translated(error) from error
    state = out / "state.safetensors"
    return int(read_checkpoint(state)[1]["step"]) if state.exists() else 0


def worker(settings: dict[str, Any]) -> None:
    """One process of the group."""
    run, limits = from_mapping(TrainingRun, settings["run"]), from_mapping(Limits, settings["limits"])
    torch.set_num_threads(1)
    state = train(run, Path(settings["out"]), Group(), limits)
    ray.train.report({"step": state.step})


def _translated(error: BaseException) -> StructgenError:
    """The worker's own error where it is ours, else that the group was lost."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, StructgenError):
            return seen
        failures = getattr(seen, "worker_failures", None)
        own = [e for e in (failures or {}).values() if isinstance(e, StructgenError)]
        if own:
            return own[0]
        seen = seen.__cause__
    return ClusterError(f"training stopped on the cluster: {first_line(error)}; the same command goes on from the last checkpoint")
