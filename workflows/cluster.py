"""A Ray cluster: started or joined, asked what it has, and its failures in words.

Everything that the work itself needs is in `structgen`; here is only where it runs. All folders of a run must be on storage that every
node sees, and structgen must be installed, in one version, on every node.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import structgen
from structgen.errors import ClusterError, StructgenError
from structgen.manifest import error_text
from structgen.store import Store
from workflows.resources import Demand

Resources = Mapping[str, float]  # as Ray counts them: {"CPU": 2, "GPU": 1, "msa": 1}

MIB = float(1 << 20)
PATIENCE = 120.0  # seconds that work waits for a resource that no live node has
IDLE_MS = 600_000  # before Ray ends a worker that has nothing to do; its own 1,000 ends those between two stages
NODE_PATIENCE = 120.0  # seconds for a node to answer; a first worker that imports torch takes up to 20


@contextmanager
def connected(where: str) -> Iterator[None]:
    """A cluster for the time of the block: `local` starts one on this machine, `auto` or an address joins a running one.

    `authentication.declare` comes first, before Ray is imported.

    A cluster that this process is connected to already is used and left as it is. Raises `ClusterError` when none can be had.
    """
    if ray.is_initialized():
        yield
        return
    if where.startswith("ray://"):
        raise ClusterError(f"{where}: the work must run inside the cluster; submit it with `ray job submit`, or give host:port of the head")
    if where not in ("local", "auto"):
        _require_listener(where)
    extra: dict[str, Any] = _own_cluster() if where == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **extra)
    except Exception as error:  # Ray raises plain `Exception` for a node that is slow to start, among others
        advice = "try again when the machine is less busy" if where == "local" else "--cluster local starts one here"
        raise ClusterError(f"cluster {where!r} cannot be had: {first_line(error)}; {advice}") from error
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own in place, which ends the process before the run is on record
    try:
        yield
    finally:
        ray.shutdown()


def _own_cluster() -> dict[str, Any]:
    """How a cluster of this machine alone is started. Workers that are idle for a moment live on: each has imported torch."""
    kept = {"idle_worker_killing_time_threshold_ms": IDLE_MS}
    return {"include_dashboard": False, "num_cpus": len(os.sched_getaffinity(0)), "_system_config": kept}


def _require_listener(address: str) -> None:
    """Ray ends the whole process, minutes later, when nobody listens at the head's address: so look first."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"cluster {address!r}: expected local, auto, or host:port of the head node")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=NODE_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"cluster {address!r} cannot be reached: {error}; is `ray start --head` running there?") from error


@dataclass(frozen=True)
class Node:
    """A live node: what it has, and what it is labelled with."""

    id: str
    resources: Resources
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory(self) -> float:
        """MiB that Ray counts for work."""
        return self.resources.get("memory", 0.0) / MIB


def nodes() -> list[Node]:
    """Every live node."""
    return [Node(node["NodeID"], dict(node["Resources"]), dict(node.get("Labels") or {})) for node in ray.nodes() if node["Alive"]]


def labelled(demand: Demand, live: Sequence[Node]) -> list[Node]:
    """The nodes that have the labels which the demand names."""
    return [node for node in live if all(node.labels.get(name) == value for name, value in demand.labels.items())]


def places_on(demand: Demand, node: Node) -> int:
    """How many pieces of work with this demand a node holds at once, its labels apart."""
    return min((int(node.resources.get(name, 0.0) / amount + 1e-9) for name, amount in demand.amounts.items()), default=1)


def places(demand: Demand, live: Sequence[Node]) -> int:
    """How many pieces of work with this demand the live nodes hold at once."""
    return sum(places_on(demand, node) for node in labelled(demand, live))


def largest_memory(demand: Demand) -> float:
    """MiB of the largest node that can serve the demand; 0 where none can yet, or none says."""
    return max((node.memory for node in labelled(demand, nodes()) if places_on(demand, node)), default=0.0)


def lacking(demands: Mapping[str, Demand], live: Sequence[Node]) -> list[str]:
    """One sentence for each stage that no live node can serve: which resource or label is missing, and what the nodes have."""
    return [_lack(stage, demand, live) for stage, demand in demands.items() if not places(demand, live)]


def held(demand: Demand) -> str:
    """How much of what the demand names is free now, and how much there is in all."""
    free, there = ray.available_resources(), ray.cluster_resources()
    needed = demand.amounts.items()
    return "; ".join(f"{amount:g} {name} needed, {free.get(name, 0.0):g} of {there.get(name, 0.0):g} free" for name, amount in needed)


def _lack(stage: str, demand: Demand, live: Sequence[Node]) -> str:
    needs = ", ".join([f"{amount:g} {name}" for name, amount in demand.amounts.items()] + _labels(demand))
    able = labelled(demand, live)
    count = f"{len(live)} live node{'s' if len(live) != 1 else ''}"
    if live and not able:
        return f"{stage} needs {needs} on one node; no node has the label {' and '.join(_labels(demand))}, {count}"
    best = {name: max((node.resources.get(name, 0.0) for node in able), default=0.0) for name in demand.amounts}
    short = [f"{name} (most on one node: {best[name]:g})" for name, amount in demand.amounts.items() if best[name] < amount]
    missing = "missing " + ", ".join(short) if short else "no single node has all of these"
    return f"{stage} needs {needs} on one node; {missing}, {count}"


def _labels(demand: Demand) -> list[str]:
    return [f"{name}={value}" for name, value in demand.labels.items()]


@ray.remote(num_cpus=0, max_retries=0)
def _report(folders: Sequence[Path], store: Store) -> tuple[str, str, list[str]]:
    """Host, version and why one of the folders or the store cannot be used there."""
    seen = [*folders, store.root] if isinstance(store.root, Path) else folders
    blind = [folder for folder in seen if not (folder.is_dir() and os.access(folder, os.W_OK))]
    problems = [f"cannot write to {folder}: put --out and --store on storage that every node sees" for folder in blind]
    return socket.gethostname(), structgen.__version__, problems or _problems(store)


def _problems(store: Store) -> list[str]:
    try:
        store.shelf.check()
    except StructgenError as error:
        return [f"cannot use the store: {error}"]
    return []


def check_nodes(folders: Sequence[Path], store: Store) -> None:
    """Raise `ClusterError` when a node does not see one of the folders or the store, or has another version of structgen."""
    ids = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    asked = [_report.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(folders, store) for node in ids]
    try:
        reports = ray.get(asked, timeout=NODE_PATIENCE)
    except GetTimeoutError as error:
        raise ClusterError(f"a node of the cluster did not answer within {NODE_PATIENCE:g} s") from error
    except RayError as error:
        raise ClusterError(f"a node of the cluster cannot run structgen: {failure(error)}") from error
    for host, version, problems in reports:
        if version != structgen.__version__:
            raise ClusterError(f"node {host} has structgen {version}, this machine {structgen.__version__}: install one version everywhere")
        if problems:
            raise ClusterError(f"node {host} {problems[0]}")


def failure(error: BaseException) -> str:
    """What went wrong in a worker: the error that was raised there, or that the worker died."""
    if isinstance(error, RayTaskError):
        return error_text(error.cause) if isinstance(error.cause, Exception) else first_line(error)
    if isinstance(error, RayError):
        return f"the worker died ({type(error).__name__}): out of memory, killed, or its node was lost"
    return error_text(error)


def first_line(error: BaseException) -> str:
    """The beginning of Ray's long texts."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
