"""A real run on three nodes, something of it killed, and what had to be done again: python -m benchmarks.kills [KIND ...] [--jobs 60].

Every kind is a run of its own: a Ray cluster of three nodes on this machine, `structgen predict --cluster` in a process of its own with
real proteins through all four stages, SIGKILL once a quarter of the jobs are written, and, where the run did not survive it (driver, head),
the same command again. Prints the table of docs/scaling.md and ends with status 1 where a promise was broken: every job has one whole
result, and nothing that was finished at the kill was worked on again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from structgen.manifest import STAGES, RunManifest, stage_entries
from structgen.stages import is_complete

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

REPOSITORY = Path(__file__).parents[1]
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
}
KINDS = ("nothing", "worker", "actor", "raylet", "driver", "head", "resource")
COLUMNS = ("killed", "commands", "results", "done before", "of these redone", "begun again", "next result s", "whole s", "what was said")
OBJECTS = 80 * 2**20  # bytes of each node's object store: rows are small
STARTS = 4  # of a cluster
LONGEST = 1500.0  # seconds of one run
Done = dict[tuple[str, str], int]


@dataclass(frozen=True)
class Outcome:
    """What a kill cost."""

    kind: str
    jobs: int
    written: int  # whole results at the end
    before: int  # stages and seeds that were finished at the kill
    repeated: int  # of these, worked on again
    begun_again: Counter[str]  # entries of every stage that were at work at the kill and were begun again
    commands: int
    seconds: float
    stalled: float  # seconds from the kill to the next thing that ended
    said: str

    @property
    def kept(self) -> bool:
        return self.written == self.jobs and not self.repeated


def nodes(kind: str) -> Cluster:
    """Three nodes with a place to fold each; where a resource is to be lost, only the last node has it."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": OBJECTS})
    cluster.add_node(num_cpus=1, object_store_memory=OBJECTS)
    add_last(cluster, kind)
    return cluster


def add_last(cluster: Cluster, kind: str) -> None:
    """The third node."""
    cluster.add_node(num_cpus=1, object_store_memory=OBJECTS, resources={"folding": 2} if kind == "resource" else {})


def write_inputs(folder: Path, jobs: int) -> None:
    """Real sequences cut to 20 to 44 residues, and a small database for their searches."""
    records = gzip.open(REPOSITORY / "data" / "examples" / "seqdb.fasta.gz", "rt").read().split(">")[1:]
    sequences = ["".join(record.splitlines()[1:]) for record in records]
    chosen = [sequence[: 20 + n % 25] for n, sequence in enumerate(sequences[:jobs])]
    (folder / "jobs.fasta").write_text("".join(f">job{n}\n{sequence}\n" for n, sequence in enumerate(chosen)))
    (folder / "database.fasta").write_text("".join(f">{record}" for record in records[:80]))
    (folder / "run.yaml").write_text("resources: {fold: {custom: {folding: 1}}}\n")


def command(folder: Path, address: str, kind: str) -> subprocess.Popen[bytes]:
    """The command that a user gives."""
    words = [sys.executable, "-m", "workflows.cli", "predict", "jobs.fasta", "--seqdb", "database.fasta", "--out", "run"]
    words += ["--store", "store", "--cluster", address, "--threads", "1", "--samples", "1", "--steps", "8", "--set", "search.iterations=1"]
    words += ["--config", "run.yaml"] if kind == "resource" else []
    with open(folder / "output.txt", "ab") as output:
        return subprocess.Popen(words, cwd=folder, stdout=output, stderr=output)


def entries(run: Path) -> dict[tuple[str, str], dict]:
    """Every stage and seed of every job, as the account stands now, journals included."""
    found: dict[tuple[str, str], dict] = {}
    for slug, job in RunManifest.load(run).jobs.items():
        for stage in STAGES:
            found |= {(slug, f"{stage} {n}"): entry for n, entry in enumerate(stage_entries(job, stage))}
    return found


def finished(run: Path) -> Done:
    """Attempts of what is done."""
    return {place: entry["attempts"] for place, entry in entries(run).items() if entry["status"] == "done"}


def when(check: Callable[[], bool], process: subprocess.Popen[bytes], what: str, pause: float = 0.2) -> None:
    """Wait until something is so, while the command runs."""
    deadline = time.monotonic() + LONGEST
    while not check():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{what}: the command ended with {process.poll()} or takes too long")
        time.sleep(pause)


def titled(title: str) -> list[int]:
    """Processes of this cluster that bear such a title: Ray calls a worker after what it does."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().rstrip(b"\0").decode(errors="replace").strip() == title and ours(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def ours(pid: int) -> bool:
    """Whether this process is an ancestor: other clusters of the machine are let alone."""
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def victim(kind: str, cluster: Cluster, driver: subprocess.Popen[bytes], run: Path) -> int:
    """Whom to kill."""
    if kind == "driver":
        return driver.pid
    if kind == "head":
        head: Any = cluster.head_node
        return head.all_processes["gcs_server"][0].process.pid
    if kind in ("raylet", "resource"):
        able = [node for node in cluster.worker_nodes if kind == "raylet" or "folding" in (node._ray_params.resources or {})]
        return able[0].all_processes["raylet"][0].process.pid
    title = {"worker": "ray::_work", "actor": "ray::_Worker.work"}[kind]
    found: list[int] = []

    def is_there() -> bool:
        found.extend(pid for pid in titled(title) if at_work(pid, run))
        return bool(found)

    when(is_there, driver, f"no {title}", 0.01)
    return found[0]


def at_work(pid: int, run: Path) -> bool:
    """Whether the last line of a worker's journal says that it has begun something."""
    journals = list((run / ".journal").glob(f"*-{pid}.jsonl"))
    lines = [line for path in journals for line in path.read_text().splitlines()]
    return bool(lines) and json.loads(lines[-1])["status"] in ("started", "step")


@contextmanager
def started(kind: str) -> Iterator[Cluster]:
    """A cluster for the time of the block; only its own processes are ended."""
    cluster = _patiently(kind)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _patiently(kind: str) -> Cluster:
    """On a busy machine a node may take longer to start than the 30 seconds that Ray waits for it."""
    for left in reversed(range(STARTS)):
        try:
            return nodes(kind)
        except Exception:  # Ray raises no class of its own for this
            if not left:
                raise
    raise AssertionError


def measure(kind: str, jobs: int) -> Outcome:
    """One run of a kind."""
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder, began = Path(name), time.monotonic()
        write_inputs(folder, jobs)
        with started(kind) as cluster:
            before, killed, status = first_command(kind, jobs, folder, cluster)
            if kind == "driver":
                status = command(folder, cluster.address, kind).wait(timeout=LONGEST)
        if kind == "head":
            with started(kind) as cluster:
                status = command(folder, cluster.address, kind).wait(timeout=LONGEST)
        said = (folder / "output.txt").read_text()
        if status:
            raise SystemExit(f"{kind}: the command ended with {status}: {said[-2000:]}")
        return account(kind, jobs, folder / "run", before, killed, time.monotonic() - began, said)


def first_command(kind: str, jobs: int, folder: Path, cluster: Cluster) -> tuple[Done, float, int]:
    """Run the command and kill what is to be killed: what was done by then, when that was, and how the command ended."""
    driver = command(folder, cluster.address, kind)
    try:
        before, killed = strike(kind, jobs, folder, cluster, driver)
        return before, killed, driver.wait(timeout=LONGEST)
    finally:
        driver.kill()


def strike(kind: str, jobs: int, folder: Path, cluster: Cluster, driver: subprocess.Popen[bytes]) -> tuple[Done, float]:
    """Kill what is to be killed once a quarter of the jobs are written: what was done by then, and when that was."""
    run = folder / "run"
    when(lambda: sum(stage == "write 0" for _, stage in finished(run)) >= jobs // 4, driver, "a quarter of the jobs")
    target = victim(kind, cluster, driver, run) if kind != "nothing" else 0
    before, killed = finished(run), time.time()
    if target:
        os.kill(target, signal.SIGKILL)
    if kind == "resource":
        when(lambda: "waiting: fold needs" in (folder / "output.txt").read_text(), driver, "no word of what is missing")
        add_last(cluster, kind)
    return before, killed


def account(kind: str, jobs: int, run: Path, before: Done, killed: float, seconds: float, said: str) -> Outcome:
    """What the run's own record says in the end."""
    after = finished(run)
    return Outcome(
        kind=kind,
        jobs=jobs,
        written=sum(is_complete(path) for path in run.glob("job*")),
        before=len(before),
        repeated=sum(after.get(place) != attempts for place, attempts in before.items()),
        begun_again=Counter(place[1].split()[0] for place, attempts in after.items() if attempts > 1),
        commands=2 if kind in ("driver", "head") else 1,
        seconds=seconds,
        stalled=_next_end(run, killed),
        said=_said(said),
    )


def _next_end(run: Path, killed: float) -> float:
    """Seconds from the kill to the newest result folder after it; the first that appeared."""
    times = [path.stat().st_mtime - killed for path in run.glob("job*/*_manifest.json")]
    return min((passed for passed in times if passed > 0), default=float("nan"))


def _said(output: str) -> str:
    """What the command said of it: what it waits for, else the first line that is not a result."""
    told = [line for line in output.splitlines() if "trying again" in line or line.startswith(("waiting: ", "structgen: "))]
    return min(told, key=lambda line: not line.startswith("waiting: "), default="")[:160]


def line(one: Outcome) -> str:
    """A row of the table."""
    again = ", ".join(f"{count} {stage}" for stage, count in sorted(one.begun_again.items())) or "nothing"
    counts = f"{one.commands} | {one.written}/{one.jobs} | {one.before} | {one.repeated} | {again}"
    return f"| {one.kind} | {counts} | {one.stalled:.0f} | {one.seconds:.0f} | {one.said} |"


def main() -> None:
    """Print a row for every kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ |= ENVIRONMENT | {"PYTHONPATH": str(REPOSITORY)}  # before Ray is imported
    if not arguments.json:
        print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    kept = True
    for kind in arguments.kinds:
        one = measure(kind, arguments.jobs)
        kept &= one.kept
        print(json.dumps(vars(one)) if arguments.json else line(one), flush=True)
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
