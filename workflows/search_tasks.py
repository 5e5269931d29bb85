"""The Search stage alone on Ray: a bounded window of tasks, as many as the cluster has cores."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayError

from structgen.attempt import failed
from structgen.errors import ClusterError
from structgen.run import Row, Run
from structgen.stages import Search
from workflows import cluster
from workflows.crew import options
from workflows.resources import Demand

if TYPE_CHECKING:
    from ray import ObjectRef

TRIES = 3  # of a task whose worker dies
TICK = 1.0  # seconds between looks at the cluster while nothing ends
DEMAND = Demand(cpus=1.0)  # of one search, where the user asks for nothing else


@lru_cache(maxsize=2)
def _made(run: Run) -> Search:
    """A worker makes it once: databases stay loaded."""
    return Search(run)


@ray.remote(max_retries=TRIES - 1)
def _search(run: Run, row: Row) -> Row:
    return _made(run)(row)


def search_on_cluster(run: Run, rows: Sequence[Row], asked: Demand, patience: float = cluster.PATIENCE) -> Generator[Row, None, None]:
    """All rows on the cluster that this process is connected to, longest first; yields each as it ends.

    Raises `ClusterError` where no live node has what a search takes, for `patience` seconds.
    """
    demand = asked if asked.cpus else replace(asked, cpus=DEMAND.cpus)
    search = _search.options(**options(demand))
    waiting = deque(sorted(rows, key=lambda row: -int(row["tokens"])))
    in_flight: dict[ObjectRef, Row] = {}
    served = time.monotonic()
    while waiting or in_flight:
        live = cluster.nodes()
        while waiting and len(in_flight) < 2 * max(1, cluster.places(demand, live)):
            row = waiting.popleft()
            in_flight[search.remote(run, row)] = row
        done, _ = ray.wait(list(in_flight), num_returns=1, timeout=TICK)
        for ref in done:
            yield _row(run, ref, in_flight.pop(ref))
        lacking = cluster.lacking({"search": demand}, live)
        served = served if lacking else time.monotonic()
        if lacking and time.monotonic() - served > patience:
            raise ClusterError(f"{'; '.join(lacking)}. Start such a node, then run the same command again")


def _row(run: Run, ref: ObjectRef, row: Row) -> Row:
    """It has ended: this does not wait. Errors of the work itself are in the row."""
    try:
        return ray.get(ref)
    except RayError as error:
        return failed(run, "search", row, ClusterError(cluster.failure(error)))
