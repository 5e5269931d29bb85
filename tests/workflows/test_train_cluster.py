"""The same loop in several processes: gradients are averaged, losses are those of one process, a killed worker changes nothing."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from structgen.configuration import from_mapping
from structgen.errors import StructgenError
from structgen.features.chains import ChainSet
from structgen.io.checkpoint import read_checkpoint
from tests.archive import random_chains, write_archive
from workflows.train import train
from workflows.train_cluster import Cluster, average, train_on_cluster
from workflows.training_log import read_rows
from workflows.training_run import TrainingRun

RUN = {
    "kind": "structure", "steps": 4, "seed": 3, "device": "cpu", "examples_per_step": 2, "log_every": 1, "checkpoint_every": 2,
    "optimisation": {"warmup_steps": 2},
    "task": {"preset": "tiny", "crops": {"tokens": 14, "profile_keep": 0.5}, "loss": {"noise_levels": 2, "cycles": 1}},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    """Four steps of a tiny network, two crops each."""
    rng = np.random.default_rng(0)
    archive = write_archive(tmp_path / "chains", [*random_chains(rng, 3, 18, profile=True), *random_chains(rng, 2, 12)], rng)
    assert len(ChainSet(archive)) == 5
    return from_mapping(TrainingRun, RUN | {"data": str(archive)})


def _average_in(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    tensors = [torch.full((3,), float(rank)), torch.full((2, 2), 10.0 * rank), torch.tensor([rank + 0.5], dtype=torch.float64)]
    average(tensors)
    torch.save(tensors, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_tensors_of_any_type_become_their_means(tmp_path: Path) -> None:
    """Two processes, three tensors of two types: both end with the mean of each, in its shape."""
    mp.spawn(_average_in, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert [t.flatten().tolist() for t in found] == [[0.5] * 3, [5.0] * 4, [1.0]] and found[2].dtype == torch.float64


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_same_weights_give_the_same_losses_in_process_and_on_ray(
    workers: int, run: TrainingRun, tmp_path: Path, ray_session: None, one_thread: None
) -> None:
    """One worker makes the very run of one process; two share every step's crops and have its losses and weights but for rounding."""
    train(run, tmp_path / "inside")
    assert train_on_cluster(run, tmp_path / "ray", Cluster("auto", workers)) == 4
    inside, ray = ([row["loss"] for row in read_rows(tmp_path / name / "log.jsonl")] for name in ("inside", "ray"))
    expected, found = (read_checkpoint(tmp_path / name / "state.safetensors")[0] for name in ("inside", "ray"))
    if workers == 1:
        assert ray == inside and all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    weights = [name for name in expected if name.startswith("network.")]
    worst = max((found[name].float() - expected[name].float()).abs().max().item() for name in weights)
    assert ray == pytest.approx(inside, rel=1e-4) and worst < 0.02  # Adam's first steps turn a rounding into a step of the learning rate


@pytest.mark.slow
@pytest.mark.timeout(1500)  # three groups are started one after the other: two minutes each on a machine that is busy
def test_a_killed_worker_restarts_the_group(run: TrainingRun, tmp_path: Path, ray_session: None) -> None:
    """SIGKILL to one of two workers after a checkpoint: the group starts again from it and ends with the weights of an uncut run."""
    longer = dataclasses.replace(run, steps=40)
    train_on_cluster(longer, tmp_path / "whole", Cluster("auto", 2))
    killed = []

    def kill() -> None:
        while not (tmp_path / "cut" / "state.safetensors").exists():
            time.sleep(0.01)
        pids = [int(p) for p in os.listdir("/proc") if p.isdigit() and b"RayTrainWorker" in _command(p) and _is_ours(int(p))]
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert train_on_cluster(longer, tmp_path / "cut", Cluster("auto", 2)) == 40
    assert killed
    whole, cut = (read_checkpoint(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert all(torch.equal(cut[name], tensor) for name, tensor in whole.items())


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_ours(pid: int) -> bool:
    """Whether this process started that one, or what started it: another cluster on the machine is not to be touched."""
    while pid > 1 and pid != os.getpid():
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == os.getpid()


def test_the_workers_error_is_the_runs(run: TrainingRun, tmp_path: Path, ray_session: None) -> None:
    """What a worker refuses is said in its own words."""
    broken = dataclasses.replace(run, data=str(tmp_path / "absent"))
    with pytest.raises(StructgenError, match="absent"):
        train_on_cluster(broken, tmp_path / "run", Cluster("auto", 1, failures=0))
