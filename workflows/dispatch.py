"""The stages on Ray: a bounded window of tasks, a pool of warm Fold actors, retries for what died, and an eye on missing resources."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from structgen.attempt import failed
from structgen.errors import ClusterError
from structgen.run import Row, Run, fan_out, gather, seeds_of
from workflows import cluster

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from workflows.predict import Line, Maker, Stage

LIGHT_CPU = 0.5  # of a task of the light stages; every Fold actor leaves as much of its CPUs free, so that neither can starve the other
TRIES = 3  # of a piece of work whose worker dies
STARTS = 3  # of Fold actors in a row that die before they are ready
TICK = 1.0  # seconds between looks at the cluster while nothing ends
LOOK = 5.0  # seconds between looks at the nodes
LIGHT = ("write", "featurise", "search")  # what is nearest to its end goes first


@dataclass(frozen=True)
class Piece:
    """A row on its way into a stage."""

    stage: str
    row: Row
    tries: int = 1


@lru_cache(maxsize=4)
def _made(make: Maker, run: Run) -> Stage:
    """A worker makes a stage once, not once a row: databases stay loaded."""
    return make(run)


@ray.remote(num_cpus=LIGHT_CPU, max_retries=0)
def _work(make: Maker, run: Run, row: Row) -> Row:
    return _made(make, run)(row)


class _Worker:
    """Fold with its weights warm."""

    def __init__(self, make: Maker, run: Run) -> None:
        self._make, self._run = make, run

    def load(self) -> None:
        """Not part of `__init__`, so that the reason of a failure reaches the driver."""
        _made(self._make, self._run)

    def work(self, row: Row) -> Row:
        return _made(self._make, self._run)(row)


class Dispatcher:
    """Drives rows through the stages; one object a run."""

    def __init__(self, line: Line, *, say: Callable[[str], None], patience: float) -> None:
        self._line, self._say, self._patience = line, say, patience
        self._makers = {"search": line.search, "featurise": line.featurise, "write": line.write}
        self._demands = {stage: {"CPU": LIGHT_CPU} for stage in LIGHT} | {"fold": {"CPU": float(line.run.threads)}}
        self._ready: dict[str, list[tuple[int, int, Piece]]] = {stage: [] for stage in (*LIGHT, "fold")}
        self._order = itertools.count()
        self._in_flight: dict[ObjectRef, tuple[Piece, ActorHandle | None]] = {}
        self._starting: dict[ObjectRef, ActorHandle] = {}
        self._free: list[ActorHandle] = []
        self._failed_starts = 0
        self._folded: dict[str, list[Row]] = {}
        self._nodes, self._next_look, self._served = cluster.nodes(), 0.0, time.monotonic()

    def run(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Every job's last row, as it ends."""
        for row in rows:
            yield from self._push("search", row)
        while self._in_flight or any(self._ready.values()):
            self._look()
            self._launch()
            waiting = [*self._in_flight, *self._starting]
            done, _ = ray.wait(waiting, num_returns=1, timeout=TICK) if waiting else ([], [])
            for ref in done:
                yield from self._settle(ref)
            if not waiting:
                time.sleep(TICK)

    def _push(self, stage: str, row: Row) -> Iterator[Row]:
        """Queue a row for a stage, longest first; a row with an error has come to its end."""
        if row["error"]:
            yield row
            return
        heapq.heappush(self._ready[stage], (-int(row["tokens"]), next(self._order), Piece(stage, row)))

    def _advance(self, stage: str, row: Row) -> Iterator[Row]:
        """What follows a stage. The seeds of a job part after Featurise and meet again before Write."""
        if stage == "search":
            yield from self._push("featurise", row)
        elif stage == "featurise" and not row["error"]:
            for one in fan_out(row, seeds_of(self._line.run, row)):
                yield from self._push("fold", one)
        elif stage == "fold":
            folds = self._folded.setdefault(str(row["slug"]), [])
            folds.append(row)
            if len(folds) == len(seeds_of(self._line.run, row)):
                yield from self._push("write", gather(self._folded.pop(str(row["slug"]))))
        else:
            yield row

    def _launch(self) -> None:
        self._hire()
        while self._free and self._ready["fold"]:
            piece, actor = self._pop("fold"), self._free.pop()
            self._in_flight[actor.work.remote(piece.row)] = piece, actor
        for stage in LIGHT:
            while self._ready[stage] and self._light_in_flight() < self._light_places():
                piece = self._pop(stage)
                self._in_flight[_work.remote(self._makers[stage], self._line.run, piece.row)] = piece, None

    def _pop(self, stage: str) -> Piece:
        return heapq.heappop(self._ready[stage])[2]

    def _hire(self) -> None:
        """As many Fold actors as the nodes hold and as there is work for; their weights load while the first jobs are searched."""
        working = sum(actor is not None for _, actor in self._in_flight.values())
        to_come = len(self._ready["fold"]) + sum(len(self._ready[stage]) for stage in ("search", "featurise")) + self._light_in_flight()
        wanted = min(self._fold_places(), working + to_come)
        hired: Any = ray.remote(num_cpus=self._line.run.threads - LIGHT_CPU, max_restarts=0, max_task_retries=0)(_Worker)
        for _ in range(wanted - working - len(self._free) - len(self._starting)):
            actor = hired.remote(self._line.fold, self._line.run)
            self._starting[actor.load.remote()] = actor

    def _fold_places(self) -> int:
        return cluster.places(self._demands["fold"], self._nodes)

    def _light_places(self) -> int:
        cpus = sum(node.get("CPU", 0.0) for node in self._nodes) - self._fold_places() * (self._line.run.threads - LIGHT_CPU)
        return max(1, int(cpus / LIGHT_CPU))

    def _light_in_flight(self) -> int:
        return sum(actor is None for _, actor in self._in_flight.values())

    def _settle(self, ref: ObjectRef) -> Iterator[Row]:
        """Take the result of one piece of work or of one actor's start."""
        if ref in self._starting:
            self._started(ref)
            return
        piece, actor = self._in_flight.pop(ref)
        try:
            row = ray.get(ref)  # it has ended: this does not wait
        except RayTaskError as error:  # the stage could not be made on that worker; errors of the work itself are in the row
            row = failed(self._line.run, piece.stage, piece.row, error.cause if isinstance(error.cause, Exception) else error)
        except RayError as error:
            yield from self._retry(piece, error)
            return
        if actor is not None:
            self._free.append(actor)
        yield from self._advance(piece.stage, row)

    def _retry(self, piece: Piece, error: RayError) -> Iterator[Row]:
        """Work whose worker died is tried again elsewhere, but not for ever: it may be what kills them."""
        if piece.tries < TRIES:
            self._say(f"{piece.row['slug']}: {piece.stage}: {cluster.failure(error)}; trying again")
            again = replace(piece, tries=piece.tries + 1)
            heapq.heappush(self._ready[piece.stage], (-int(piece.row["tokens"]), next(self._order), again))
            return
        lost = ClusterError(f"{cluster.failure(error)}; {TRIES} workers died of this work")
        yield from self._advance(piece.stage, failed(self._line.run, piece.stage, piece.row, lost))

    def _started(self, ref: ObjectRef) -> None:
        actor = self._starting.pop(ref)
        try:
            ray.get(ref)
        except RayTaskError as error:
            raise ClusterError(f"a worker cannot load the model: {cluster.failure(error)}") from error
        except RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise ClusterError(f"no worker lives until the model is loaded: {cluster.failure(error)}") from error
            self._say(f"loading the model: {cluster.failure(error)}; trying again")
            return
        self._failed_starts = 0
        self._free.append(actor)

    def _look(self) -> None:
        """Now and then: which nodes live, and whether each kind of work that waits has one that can do it."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._nodes, self._next_look = cluster.nodes(), now + LOOK
        to_come = any(self._ready.values()) or self._light_in_flight()
        lacking = cluster.lacking(self._demands if to_come else {}, self._nodes)
        if not lacking:
            self._served = now
            return
        if now - self._served > self._patience:
            raise ClusterError(f"{'; '.join(lacking)}. Start such a node or ask for less (--threads), then run the same command again")
        self._say(f"waiting: {'; '.join(lacking)}")
