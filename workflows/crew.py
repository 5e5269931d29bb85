"""Who folds: Ray actors that hold their weights, one job at a time each, started and lost as the cluster has it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from structgen.errors import ClusterError
from structgen.run import Row, Run
from workflows import cluster
from workflows.resources import LIGHT_CPU, Demand
from workflows.schedule import Place

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from workflows.predict import Line, Maker, Stage

STARTS = 3  # of actors in a row that die before they are ready


@lru_cache(maxsize=4)
def made(make: Maker, run: Run) -> Stage:
    """A worker makes a stage once, not once a row: databases and weights stay loaded."""
    return make(run)


class Crew(Protocol):
    """Places to fold. A place that is free is listed; one that works is not."""

    free: list[Place]

    @property
    def starting(self) -> list[ObjectRef]:
        """What is waited for until more places are free."""

    def hire(self, most: int) -> None:
        """Start workers until there are so many, those that work or start among them."""

    def started(self, ref: ObjectRef) -> str:
        """Take in a worker's start, or what is to be said of its failure. Raises `ClusterError` when no worker can start."""

    def work(self, place: Place, row: Row) -> ObjectRef:
        """Fold a row at a free place."""

    def ended(self, place: Place) -> None:
        """The place is free again."""

    def lost(self, place: Place) -> None:
        """The worker is gone."""


class _Worker:
    """Fold with its weights warm."""

    def __init__(self, make: Maker, run: Run) -> None:
        self._make, self._run = make, run

    def load(self) -> str:
        """The node's id, once the weights are there. Not part of `__init__`, so that the reason of a failure reaches the driver."""
        made(self._make, self._run)
        return ray.get_runtime_context().get_node_id()

    def work(self, row: Row) -> Row:
        return made(self._make, self._run)(row)


class Actors:
    """The crew of a real run."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._hired: Any = ray.remote(max_restarts=0, max_task_retries=0, **options(beside_light(line.demands["fold"])))(_Worker)
        self.free: list[Place] = []
        self._actors: dict[Place, ActorHandle] = {}
        self._starting: dict[ObjectRef, ActorHandle] = {}
        self._failed = 0

    @property
    def starting(self) -> list[ObjectRef]:
        return list(self._starting)

    def hire(self, most: int) -> None:
        for _ in range(most - len(self._actors) - len(self._starting)):
            actor = self._hired.remote(self._line.fold, self._line.run)
            self._starting[actor.load.remote()] = actor

    def started(self, ref: ObjectRef) -> str:
        try:
            node = ray.get(ref)
        except RayTaskError as error:
            raise ClusterError(f"a worker cannot load the model: {cluster.failure(error)}") from error
        except RayError as error:
            del self._starting[ref]
            self._failed += 1
            if self._failed >= STARTS:
                raise ClusterError(f"no worker lives until the model is loaded: {cluster.failure(error)}") from error
            return f"loading the model: {cluster.failure(error)}; trying again"
        actor, self._failed = self._starting.pop(ref), 0
        place = Place(actor._actor_id.hex(), node)
        self._actors[place] = actor
        self.free.append(place)
        return ""

    def work(self, place: Place, row: Row) -> ObjectRef:
        self.free.remove(place)
        return self._actors[place].work.remote(row)

    def ended(self, place: Place) -> None:
        self.free.append(place)

    def lost(self, place: Place) -> None:
        del self._actors[place]

    def dismiss(self) -> None:
        """End every worker, also those that wait for a place: the traceback of an error that is kept would keep them, and their CPUs."""
        for actor in (*self._actors.values(), *self._starting.values()):
            if ray.is_initialized():
                ray.kill(actor)
        self._actors, self._starting, self.free = {}, {}, []


def beside_light(demand: Demand) -> Demand:
    """What a Fold worker reserves: a little less than it takes, so that light work finds a place on the same node."""
    return Demand(max(0.0, demand.cpus - LIGHT_CPU), demand.gpus, demand.custom, demand.labels)


def options(demand: Demand) -> dict[str, Any]:
    """The demand as Ray's options of a task or an actor."""
    chosen: dict[str, Any] = {"num_cpus": demand.cpus}
    chosen |= {"num_gpus": demand.gpus} if demand.gpus else {}
    chosen |= {"resources": demand.custom} if demand.custom else {}
    return chosen | ({"label_selector": demand.labels} if demand.labels else {})
