"""Runs of three kinds that share a cluster: python -m benchmarks.shared_cluster [--out FILE.json].

A Ray cluster of two nodes with one CPU each, on this machine. A structure, an image and a video training run, tiny, are made one after the
other; then all three are submitted to the cluster at once, each with the workers and CPUs that it asks for. Once all have trained beside
each other for a while, SIGKILL ends a worker of each, when the run's own record passes a step between two checkpoints and between 40 and
80 % of its steps; a run that is further than that before it can be killed ends the benchmark with what to do. Takes both cores for ten
minutes. Prints the table of docs/cluster.md and ends with status 1 where a promise was broken: the CPUs are all taken and none twice, every
run goes on from the last checkpoint before its kill and reaches its last step, and its checkpoint is that of the run alone, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.kills import ENVIRONMENT, OBJECTS, REPOSITORY, STARTS, ours
from structgen.io.checkpoint import read_checkpoint
from tests.archive import random_chains, write_archive
from workflows.training_log import read_rows

LONGEST = 800.0  # seconds of one wait
TICK = 0.2
BESIDE = 20.0  # seconds that all train beside each other before the first kill: what the shares are measured in
EARLIEST, LATEST = 0.4, 0.8  # of a run's steps, where it is killed
CHECKPOINTS = 8
CPUS = 0.5  # that a worker asks for: four take all that the cluster has, wherever they are placed
PICTURES = REPOSITORY / "data" / "pictures"
STEERING = {"classes": 10, "frequencies": 16}
UNET = {"c_in": 1, "c_out": 1, "widths": [8, 16], "attend": [False, False], "blocks": 1, "groups": 4, "head_width": 8, "steering": STEERING}
COLUMNS = ("run", "workers", "steps", "steps/s alone", "beside the others", "share", "killed at step", "went on from", "as alone")


@dataclass(frozen=True)
class Training:
    """A run: what is trained on what, in how many steps, by how many workers, and the CPUs of each."""

    name: str
    task: dict
    data: Path
    steps: int
    workers: int = 1
    kind: str = "generator"

    @property
    def every(self) -> int:
        """Steps between checkpoints."""
        return self.steps // CHECKPOINTS

    def is_early(self, step: int) -> bool:
        """Whether a run killed at this step has much to do again after it, and after its last checkpoint."""
        return step <= LATEST * self.steps and step % self.every != 0

    def is_due(self, step: int) -> bool:
        """Whether it is time to kill: well inside, also between two checkpoints, as the run goes on until the signal comes."""
        return step >= EARLIEST * self.steps and 1 <= 4 * (step % self.every) / self.every <= 3

    def config(self) -> str:
        run = {"kind": self.kind, "seed": 1, "steps": self.steps, "device": "cpu", "log_every": 1, "checkpoint_every": self.every}
        run["examples_per_step"] = self.workers
        return yaml.safe_dump(run | {"task": self.task, "optimisation": {"warmup_steps": 10}})


@dataclass
class Watched:
    """A run while it is made: its process, and when which step was on record."""

    run: Training
    out: Path
    process: subprocess.Popen[bytes]
    seen: list[tuple[float, int]] = field(default_factory=list)

    def look(self) -> int:
        """The last step on record."""
        steps = [row["step"] for row in read_rows(self.out / "log.jsonl")]
        if steps and (not self.seen or self.seen[-1][1] != steps[-1]):
            self.seen.append((time.monotonic(), steps[-1]))
        return steps[-1] if steps else 0

    def rate(self, since: float, until: float) -> float:
        """Steps a second between two times."""
        rows = [row for row in self.seen if since <= row[0] <= until]
        return (rows[-1][1] - rows[0][1]) / (rows[-1][0] - rows[0][0])

    def went_on_from(self) -> int:
        """The step of the checkpoint from which the second start went on; 0 where there was none. Every start counts its own seconds, and
        keeps of the record what its checkpoint has."""
        rows = read_rows(self.out / "log.jsonl")
        return next((one["step"] for one, after in pairwise(rows) if after["seconds"] < one["seconds"]), 0)


@dataclass(frozen=True)
class Outcome:
    """What became of a run among others."""

    run: Training
    steps: int
    alone: float  # steps a second
    together: float
    killed_at: int
    went_on_from: int
    same: bool

    @property
    def kept(self) -> bool:
        checkpoint = self.killed_at // self.run.every * self.run.every
        return self.steps == self.run.steps and self.same and self.went_on_from == checkpoint > 0

    def cells(self) -> dict[str, str]:
        share = f"{self.together / self.alone:.2f}"
        values = (self.run.name, self.run.workers, self.steps, f"{self.alone:.2f}", f"{self.together:.2f}", share, self.killed_at)
        return dict(zip(COLUMNS, map(str, (*values, self.went_on_from, "yes" if self.same else "no")), strict=True))


def trainings(folder: Path, scale: float) -> list[Training]:
    """One of each kind; `scale` times the steps that take a minute and more on one core, so that none is far before the last has begun."""
    rng = np.random.default_rng(0)
    chains = write_archive(folder / "chains", random_chains(rng, 6, 24, profile=True), rng)
    structure = {"preset": "tiny", "crops": {"tokens": 20, "profile_keep": 0.5}, "loss": {"noise_levels": 2, "cycles": 1}}
    image = {"network": {"unet": UNET}, "batches": {"size": 16}, "held_out": 16}
    video = {"network": {"video_unet": {"frame": UNET}}, "batches": {"size": 2}, "held_out": 2, "reduced": {"space": 2, "time": 2}}
    return [
        Training("structure", structure, chains, CHECKPOINTS * round(scale * 25), 2, "structure"),
        Training("image", image, PICTURES / "fashion_550.npz", CHECKPOINTS * round(scale * 90)),
        Training("video", video, PICTURES / "moving_digits_200.npz", CHECKPOINTS * round(scale * 90)),
    ]


def started(run: Training, folder: Path, address: str) -> Watched:
    """The command that a user gives."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run.name}.yaml").write_text(run.config())
    words = [sys.executable, "-m", "workflows.cli", "train", f"{run.name}.yaml", "--data", str(run.data), "--out", run.name]
    words += ["--cluster", address, "--workers", str(run.workers), "--cpus", str(CPUS)]
    with open(folder / f"{run.name}.txt", "ab") as output:
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output)
    return Watched(run, folder / run.name, process)


def watched(runs: Sequence[Watched]) -> Iterator[None]:
    """A look at the runs now and then, until all have ended. Raises `SystemExit` where one fails, or all take too long; whatever ends the
    watch, no command is left behind."""
    deadline = time.monotonic() + LONGEST
    try:
        while time.monotonic() < deadline:
            for one in runs:
                one.look()
            if failed := [one for one in runs if one.process.poll() not in (None, 0)]:
                raise SystemExit(f"{failed[0].run.name} ended with {failed[0].process.poll()}: {said(failed[0])}")
            if all(one.process.poll() == 0 for one in runs):
                return
            yield
            time.sleep(TICK)
        raise SystemExit("the runs take too long: " + "; ".join(said(one) for one in runs))
    finally:
        for one in runs:
            one.process.kill()


@dataclass
class Kills:
    """What was seen while the runs were killed, one after the other."""

    steps: dict[str, int] = field(default_factory=dict)  # by run: the step that it was killed at
    first: float = float("inf")  # time of the first kill
    free: float = float("inf")  # the least CPUs that were free before

    def go_on(self, runs: Sequence[Watched]) -> None:
        """Kill what is due. Raises `SystemExit` for a run that is too far to be killed."""
        import ray

        if not self.steps:
            self.free = min(self.free, ray.available_resources().get("CPU", 0.0))
        beside = all(one.seen for one in runs) and time.monotonic() >= began(runs) + BESIDE
        for one in runs:
            step = one.seen[-1][1] if one.seen else 0
            if one.run.name in self.steps:
                continue
            if beside and one.run.is_due(step):
                self.first = min(self.first, time.monotonic())
                kill_worker(one.process.pid)
                self.steps[one.run.name] = step = one.look()
            if step > LATEST * one.run.steps or (one.run.name in self.steps and not one.run.is_early(step)):
                raise SystemExit(
                    f"the kill of {one.run.name} comes too late: step {step} of {one.run.steps}, checkpoints every {one.run.every}; "
                    f"expected one between two checkpoints and at most {LATEST:.0%} of the steps. Raise --scale"
                )


def began(runs: Sequence[Watched]) -> float:
    """When the last of them made its first step."""
    return max(one.seen[0][0] for one in runs)


def said(one: Watched) -> str:
    """The end of what the command printed."""
    return (one.out.parent / f"{one.run.name}.txt").read_text(errors="replace")[-600:]


def kill_worker(driver: int) -> None:
    """SIGKILL for a process that trains for the run whose command has this process id. Raises `SystemExit` where there is none."""
    from ray._private.state import jobs  # the public list of jobs needs the dashboard

    job = next((job["JobID"] for job in jobs() if job["DriverPid"] == driver), None)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            named = b"RayTrainWorker" in path.read_bytes() and ours(int(path.parent.name))
            if named and f"RAY_JOB_ID={job}".encode() in (path.parent / "environ").read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
                return
        except OSError:
            continue
    raise SystemExit(f"found no worker of job {job}, whose command is process {driver}")


def same(first: Path, second: Path) -> bool:
    """Whether two checkpoints hold the same bytes of every tensor."""
    one, other = (read_checkpoint(path / "state.safetensors")[0] for path in (first, second))
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def measure(folder: Path, address: str, scale: float) -> tuple[list[Outcome], float]:
    """What became of each run, and the least CPUs that were free while all three were there."""
    runs = trainings(folder, scale)
    alone = [started_and_watched(run, folder / "alone", address) for run in runs]
    together = [started(run, folder / "together", address) for run in runs]
    kills = Kills()
    for _ in watched(together):
        kills.go_on(together)
    if missed := [run.name for run in runs if run.name not in kills.steps]:
        raise SystemExit(f"{', '.join(missed)} ended before the kill; raise --scale")
    return [
        Outcome(
            run,
            both.look(),
            one.rate(0.0, float("inf")),
            both.rate(began(together), kills.first),
            kills.steps[run.name],
            both.went_on_from(),
            same(one.out, both.out),
        )
        for run, one, both in zip(runs, alone, together, strict=True)
    ], kills.free


def started_and_watched(run: Training, folder: Path, address: str) -> Watched:
    """A run by itself, to its end."""
    one = started(run, folder, address)
    for _ in watched([one]):
        pass
    return one


def cluster_of_two():  # type: ignore[no-untyped-def]
    """Two nodes of one CPU. On a busy machine one may take longer to start than the 30 seconds that Ray waits for it."""
    from ray.cluster_utils import Cluster

    for left in reversed(range(STARTS)):
        try:
            cluster = Cluster(
                initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": OBJECTS}
            )
            cluster.add_node(num_cpus=1, object_store_memory=OBJECTS)
            return cluster
        except Exception:  # Ray raises no class of its own for this
            if not left:
                raise
    raise AssertionError


def table(outcomes: Sequence[Outcome]) -> str:
    """In Markdown."""
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), dict.fromkeys(COLUMNS, "---"), *(one.cells() for one in outcomes)]
    return "\n".join("| " + " | ".join(row[name] for name in COLUMNS) + " |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--out", type=Path, help="JSON of the rows")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT | {"PYTHONPATH": str(REPOSITORY)})  # also of the nodes, whose workers import structgen
    import ray

    with tempfile.TemporaryDirectory(prefix="shared-") as name:
        cluster = cluster_of_two()
        try:
            ray.init(address=cluster.address, log_to_driver=False)
            outcomes, free = measure(Path(name), cluster.address, options.scale)
        finally:
            ray.shutdown()
            cluster.shutdown()
    print(table(outcomes))
    print(f"least free CPUs while all three were there: {free:g} of 2")
    if options.out:
        figures = {"rows": [one.cells() for one in outcomes], "free": free, "ray": ray.__version__, "torch": torch.__version__}
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if free == 0 and all(one.kept for one in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
