"""The stages on Ray: what the schedule says, done by tasks and warm actors; retries for what died, and an eye on missing resources."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from structgen.attempt import failed
from structgen.errors import ClusterError
from structgen.run import Row, Run, seeds_of
from workflows import cluster
from workflows.cluster import Node
from workflows.crew import Crew, beside_light, made, options
from workflows.schedule import LIGHT, Piece, Place, Schedule

if TYPE_CHECKING:
    from ray import ObjectRef

    from workflows.predict import Line, Maker
    from workflows.resources import Demand

TRIES = 3  # of a piece of work whose worker dies
TICK = 1.0  # seconds between looks at the cluster while nothing ends
LOOK = 5.0  # seconds between looks at the nodes
STILL = 60.0  # seconds without an end of anything and without a worker to fold, after which the run says what it waits for


def _task(make: Maker, run: Run, demand: Demand) -> Any:
    """A stage as a Ray task of a row. Ray sends a function to a worker once: what all rows share lies in it and not in every call."""

    def work(row: Row) -> Row:
        return made(make, run)(row)

    # the name is what process lists and Ray's dashboard show; benchmarks/kills.py finds its victims by it
    task: Any = ray.remote(max_retries=0, **options(demand))(work)
    return task.options(name="_work")


class Dispatcher:
    """Drives rows through the stages; one object a run."""

    def __init__(self, line: Line, crew: Crew, *, say: Callable[[str], None], patience: float) -> None:
        self._line, self._crew, self._say, self._patience = line, crew, say, patience
        self._demands = line.demands
        makers = {"search": line.search, "featurise": line.featurise, "write": line.write}
        self._tasks = {stage: _task(make, line.run, self._demands[stage]) for stage, make in makers.items()}
        self._schedule = Schedule(partial(seeds_of, line.run))
        self._in_flight: dict[ObjectRef, tuple[Piece, Place | None]] = {}
        self._next_look, self._served, self._moved = 0.0, time.monotonic(), time.monotonic()
        self._nodes: list[Node] = []
        self._room: dict[str, int] = {}
        self._places = 0

    def run(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Every job's last row, as it ends."""
        yield from self._schedule.enter(rows)
        while self._in_flight or any(self._schedule.waiting.values()):
            self._look()
            self._launch()
            waiting = [*self._in_flight, *self._crew.starting]
            done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0) if waiting else ([], [])
            if waiting and not done:
                done, _ = ray.wait(waiting, num_returns=1, timeout=TICK)
            for ref in done:
                self._moved = time.monotonic()
                yield from self._settle(ref)
            if not waiting:
                time.sleep(TICK)

    def _launch(self) -> None:
        self._crew.hire(min(self._places, self._schedule.to_come))
        for piece, place in list(self._schedule.fold(self._crew.free)):
            self._in_flight[self._crew.work(place, piece.row)] = piece, place
        for piece in self._schedule.light(self._room):
            self._in_flight[self._tasks[piece.stage].remote(piece.row)] = piece, None

    def _settle(self, ref: ObjectRef) -> Iterator[Row]:
        """Take the result of one piece of work or of one worker's start."""
        if ref not in self._in_flight:
            if text := self._crew.started(ref):
                self._say(text)
            return
        piece, place = self._in_flight.pop(ref)
        try:
            row = ray.get(ref)  # it has ended: this does not wait
        except RayTaskError as error:  # the stage could not be made on that worker; errors of the work itself are in the row
            row = failed(self._line.run, piece.stage, piece.row, error.cause if isinstance(error.cause, Exception) else error)
        except RayError as error:
            yield from self._retry(piece, place, error)
            return
        if place is not None:
            self._crew.ended(place)
        yield from self._schedule.ended(piece, row, place)

    def _retry(self, piece: Piece, place: Place | None, error: RayError) -> Iterator[Row]:
        """Work whose worker died is tried again elsewhere, but not for ever: it may be what kills them."""
        if place is not None:
            self._crew.lost(place)
            self._schedule.forget(place)
        if piece.tries < TRIES:
            self._say(f"{piece.row['slug']}: {piece.stage}: {cluster.failure(error)}; trying again")
            self._schedule.again(piece, place, **(self._smaller(piece) if isinstance(error, OutOfMemoryError) else {}))
            return
        lost = ClusterError(f"{cluster.failure(error)}; {TRIES} workers died of this work")
        yield from self._schedule.ended(piece, failed(self._line.run, piece.stage, piece.row, lost), place)

    def _smaller(self, piece: Piece) -> dict[str, int]:
        """A fold that took more memory than there was is tried with half the samples at once."""
        at_once = int(piece.row.get("at_once", 0)) or self._line.run.settings.sampling.samples
        return {"at_once": (at_once + 1) // 2} if piece.stage == "fold" else {}

    def _too_large(self) -> list[str]:
        """A sentence where all that is left are folds that no node has the memory for, now that the nodes are what they are."""
        large = self._schedule.too_large()
        if self._in_flight or len(large) < self._schedule.waiting.total():
            return []
        most = max(self._schedule.nodes.memory.values(), default=0.0)
        return [f"fold of {piece.row['slug']} needs about {piece.mib:,.0f} MiB, the largest node has {most:,.0f}" for piece in large[:1]]

    def _look(self) -> None:
        """Now and then: which nodes live, and whether each kind of work that waits has one that can do it."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._nodes, self._next_look = cluster.nodes(), now + LOOK
        self._measure()
        to_come = any(self._schedule.waiting.values()) or any(self._schedule.running[stage] for stage in LIGHT)
        lacking = cluster.lacking(self._demands if to_come else {}, self._nodes) or self._too_large()
        if not lacking:
            self._served = now
            self._say_if_still(now)
            return
        if now - self._served > self._patience:
            raise ClusterError(f"{'; '.join(lacking)}. Start such a node or ask for less (--threads), then run the same command again")
        self._say(f"waiting: {'; '.join(lacking)}")

    def _say_if_still(self, now: float) -> None:
        """Nodes can be large enough and yet be full of other work, in which case no worker starts."""
        folding = self._crew.free or any(place for _, place in self._in_flight.values())
        if folding or not self._crew.starting or now - self._moved < STILL:
            return
        self._moved = now
        self._say(f"waiting: no worker has started to fold for {STILL:g} s; {cluster.held(beside_light(self._demands['fold']))}")

    def _measure(self) -> None:
        """How much of each kind of work the nodes hold at once, and how far ahead of Fold the rest may be."""
        fold, resources = self._demands["fold"], self._line.resources
        able = cluster.labelled(fold, self._nodes)
        folding = {node.id: cluster.places_on(fold, node) for node in able}
        self._places = sum(folding.values())
        left = [_without(node, beside_light(fold).amounts, folding.get(node.id, 0)) for node in self._nodes]
        self._room = {stage: max(1, cluster.places(self._demands[stage], left)) for stage in LIGHT}
        self._schedule.ahead = resources.ahead * max(1, self._places)
        self._schedule.nodes.memory = {node.id: resources.memory_of(node.memory) for node in able if node.memory or resources.memory}


def _without(node: Node, amounts: dict[str, float], times: int) -> Node:
    """What Fold workers leave of a node."""
    return replace(node, resources={name: amount - times * amounts.get(name, 0.0) for name, amount in node.resources.items()})
