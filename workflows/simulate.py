"""A run in pretended time: the schedule of a cluster itself, with durations in place of work. For makespans, and for benchmarks."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from structgen.run import Row
from workflows.schedule import LIGHT, Piece, Place, Schedule, cost


@dataclass(frozen=True)
class Outcome:
    """How a run went."""

    makespan: float  # seconds from the first start to the last end
    busy: float  # seconds that all places together folded
    ended: int  # jobs
    furthest: int  # most jobs that were searched or featurised and not yet folding

    def share(self, places: int) -> float:
        """The share of the places' time in which they folded."""
        return self.busy / (self.makespan * places) if self.makespan else 1.0


def simulate(
    schedule: Schedule, rows: Sequence[Row], places: Sequence[Place], room: Mapping[str, int], seconds: Callable[[Piece], float]
) -> Outcome:
    """Carry the rows through all stages. `seconds` says how long a piece takes, `room` how many light pieces run at once."""
    now, busy, furthest = 0.0, 0.0, 0
    order = itertools.count()
    ends: list[tuple[float, int, Piece, Place | None]] = []
    free = list(places)
    done = len(list(schedule.enter(rows)))
    while True:
        for piece, place in list(schedule.fold(free)):
            free.remove(place)
            busy += seconds(piece)
            heapq.heappush(ends, (now + seconds(piece), next(order), piece, place))
        for light in schedule.light(room):
            heapq.heappush(ends, (now + seconds(light), next(order), light, None))
        furthest = max(furthest, schedule.waiting["fold"] + schedule.waiting["featurise"])
        if not ends:
            return Outcome(now, busy, done, furthest)
        now, _, piece, at = heapq.heappop(ends)
        done += len(list(schedule.ended(piece, _passed(piece), at)))
        if at is not None:
            free.append(at)


def makespan(rows: Sequence[Row], seeds_of: Callable[[Row], Sequence[int]], places: int) -> float:
    """Seconds that so many places take to fold the rows, the other stages done beforehand."""
    slots, room = [Place(str(n)) for n in range(places)], dict.fromkeys(LIGHT, len(rows) + 1)
    return simulate(Schedule(seeds_of), rows, slots, room, lambda piece: cost(piece.row) if piece.stage == "fold" else 0.0).makespan


def ideal(costs: Sequence[float], places: int) -> float:
    """No schedule is faster: all places busy to the end, and no fold cut in two."""
    return max(sum(costs) / places, max(costs, default=0.0))


def sharded(costs: Sequence[float], places: int) -> float:
    """Seconds of static sharding: every place has its jobs from the start, each k-th one in the order given."""
    return max((sum(costs[start::places]) for start in range(places)), default=0.0)


def _passed(piece: Piece) -> Row:
    return {**piece.row, "fold": f"{piece.row['slug']} {piece.row.get('seed')}"} if piece.stage == "fold" else piece.row
