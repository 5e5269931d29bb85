"""One function over many pieces of work, in this process or on Ray: a bounded window, retries for what died, results as they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from structgen.errors import ClusterError

Item = TypeVar("Item")
Result = TypeVar("Result")
TRIES = 3  # of a piece of work whose worker dies
TICK = 5.0  # seconds between looks at the nodes while nothing ends


def each(work: Callable[[Item], Result], items: Sequence[Item], cluster: str = "") -> Iterator[tuple[Item, Result]]:
    """Every item with what the work makes of it, in any order. `cluster` is as of `structgen predict`: empty for this process.

    The work must be a function that workers can import, or a partial of one. Its own errors end the loop; a worker that dies is replaced.
    Raises `ClusterError` where workers die of the same item again and again, or no node can run it.
    """
    if not cluster:
        for item in items:
            yield item, work(item)
        return
    yield from _on_ray(work, items, cluster)


def _apply(work: Callable[[Item], Result], item: Item) -> Result:
    return work(item)


def _on_ray(work: Callable[[Item], Result], items: Sequence[Item], where: str) -> Iterator[tuple[Item, Result]]:
    from workflows import authentication

    authentication.declare(where)
    import ray
    from ray.exceptions import RayError, RayTaskError

    from workflows.cluster import connected, failure, lacking, nodes
    from workflows.resources import Demand

    with connected(where):
        task: Any = ray.remote(num_cpus=1, max_retries=0)(_apply)
        waiting, tries = list(reversed(range(len(items)))), [0] * len(items)
        flying: dict[ray.ObjectRef, int] = {}
        while waiting or flying:
            window = 2 * max(1, int(sum(node.resources.get("CPU", 0.0) for node in nodes())))
            while waiting and len(flying) < window:
                k = waiting.pop()
                tries[k] += 1
                flying[task.remote(work, items[k])] = k
            done, _ = ray.wait(list(flying), num_returns=1, timeout=TICK)
            if not done and (lack := lacking({"work": Demand(cpus=1.0)}, nodes())):
                raise ClusterError(f"{'; '.join(lack)}. Start such a node, then run the same command again")
            for ref in done:
                k = flying.pop(ref)
                try:
                    yield items[k], ray.get(ref)  # it has ended: this does not wait
                except RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, Exception) else ClusterError(failure(error))) from error
                except RayError as error:
                    if tries[k] >= TRIES:
                        raise ClusterError(f"{failure(error)}; {TRIES} workers died of this work") from error
                    waiting.append(k)
