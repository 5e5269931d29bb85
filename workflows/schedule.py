"""What is done next: the decisions of a run on many machines, as plain values. Knows neither Ray nor time, so a simulation runs the same.

The most costly job goes first at every stage (longest processing time first: at most 4/3 of the best possible time, and far nearer to it
where jobs are many). What is nearest to its end goes before what has just begun, but Search and Featurise never run further ahead of Fold
than a window of jobs. A fold goes to a worker whose node has the memory left for it; of several workers to one that has met its bucket of
lengths, so that what was compiled or captured for these shapes is used again.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from structgen.run import Row, fan_out, gather

LIGHT = ("write", "featurise", "search")  # what is nearest to its end goes first
BUCKETS = (64, 128, 192, 256, 384, 512, 768, 1024, 1280, 1536, 2048, 2560, 3072, 3584, 4096, 4608, 5120)

Priority = Callable[[Row], float]  # of two rows the one with more goes first


@dataclass(frozen=True)
class Piece:
    """A row on its way into a stage."""

    stage: str
    row: Row
    tries: int = 1

    @property
    def mib(self) -> float:
        """Memory that it takes of its worker's node while it runs; 0 where nothing is known."""
        return float(self.row.get("mib", 0.0)) if self.stage == "fold" else 0.0


@dataclass(frozen=True)
class Place:
    """A worker that folds one job at a time."""

    name: str
    node: str = ""


def cost(row: Row) -> float:
    """Seconds that a fold of the row is estimated to take; its length where there is no estimate."""
    return float(row.get("cost", row["tokens"]))


def bucket(tokens: int) -> int:
    """The least of the usual lengths that holds so many tokens."""
    return next((length for length in BUCKETS if tokens <= length), tokens)


@dataclass
class Nodes:
    """Memory of every node, in MiB, and what is running on it. A node that is not named has no limit."""

    memory: Mapping[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def left(self, node: str) -> float:
        """MiB that are free for folds; without end where nothing is known."""
        return self.memory[node] - self.used[node] if node in self.memory else float("inf")


class Schedule:
    """Rows on their way through the stages. Seeds of a job part after Featurise and meet again before Write."""

    def __init__(self, seeds_of: Callable[[Row], Sequence[int]], *, priority: Priority = cost, ahead: int = 0) -> None:
        self._seeds_of, self._priority = seeds_of, priority
        self.ahead = ahead  # jobs that may be on their way to Fold; 0: no end
        self._ready: dict[str, list[tuple[float, int, Piece]]] = {stage: [] for stage in (*LIGHT, "fold")}
        self._order = itertools.count()
        self._running: Counter[str] = Counter()
        self._folded: dict[str, list[Row]] = {}
        self._met: dict[str, set[int]] = {}
        self.nodes = Nodes()

    def enter(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Take in the rows of a run; those that carry an error have come to their end."""
        for row in rows:
            yield from self._push("search", row)

    @property
    def waiting(self) -> Counter[str]:
        """How many pieces wait for each stage."""
        return Counter({stage: len(pieces) for stage, pieces in self._ready.items()})

    @property
    def running(self) -> Counter[str]:
        """How many pieces are at work in each stage."""
        return +self._running

    @property
    def to_come(self) -> int:
        """Pieces that will need a place to fold: at least one for each row that has not got there."""
        return sum(self.waiting[stage] + self._running[stage] for stage in ("search", "featurise", "fold"))

    def light(self, room: Mapping[str, int]) -> Iterator[Piece]:
        """What is to be started now of the stages before and after Fold, given how many of each the nodes hold at once."""
        total = max(room.values(), default=0)
        for stage in LIGHT:
            while self._ready[stage] and self._fits(stage, room, total) and self._within_window(stage):
                yield self._start(self._pop(stage))

    def fold(self, free: Sequence[Place]) -> Iterator[tuple[Piece, Place]]:
        """What is to be folded now, and where."""
        places = list(free)
        held = []
        while places and self._ready["fold"]:
            piece = self._pop("fold")
            place = self._best(piece, places)
            if place is None:
                held.append(piece)  # a shorter one may go where this does not fit
                continue
            places.remove(place)
            self.nodes.used[place.node] += piece.mib
            self._met.setdefault(place.name, set()).add(bucket(int(piece.row["tokens"])))
            yield self._start(piece), place
        for piece in held:
            self._queue(piece)

    def ended(self, piece: Piece, row: Row, place: Place | None = None) -> Iterator[Row]:
        """A piece has ended and left this row; yields the rows of jobs that are through."""
        self._leave(piece, place)
        yield from self._advance(piece.stage, row)

    def again(self, piece: Piece, place: Place | None = None, **changes: str | int | float) -> None:
        """A piece whose worker was lost waits once more."""
        self._leave(piece, place)
        self._queue(replace(piece, tries=piece.tries + 1, row={**piece.row, **changes}))

    def forget(self, place: Place) -> None:
        """A worker is gone, and with it what it had met."""
        self._met.pop(place.name, None)

    def too_large(self) -> list[Piece]:
        """The folds that wait and for which no node has the memory, even alone."""
        most = max(self.nodes.memory.values(), default=float("inf"))
        return [piece for _, _, piece in self._ready["fold"] if piece.mib > most]

    def _fits(self, stage: str, room: Mapping[str, int], total: int) -> bool:
        return self._running[stage] < room.get(stage, 0) and sum(self._running[s] for s in LIGHT) < total

    def _within_window(self, stage: str) -> bool:
        """Whether a job more may be on its way to Fold."""
        if not self.ahead or stage != "search":
            return True
        jobs = {str(piece.row["slug"]) for _, _, piece in self._ready["fold"]}
        return self._running["search"] + self._running["featurise"] + len(self._ready["featurise"]) + len(jobs) < self.ahead

    def _best(self, piece: Piece, places: Sequence[Place]) -> Place | None:
        able = [place for place in places if piece.mib <= self.nodes.left(place.node)]
        wanted = bucket(int(piece.row["tokens"]))
        return min(able, key=lambda place: wanted not in self._met.get(place.name, ()), default=None)

    def _push(self, stage: str, row: Row) -> Iterator[Row]:
        if row["error"]:
            yield row
            return
        self._queue(Piece(stage, row))

    def _queue(self, piece: Piece) -> None:
        heapq.heappush(self._ready[piece.stage], (-self._priority(piece.row), next(self._order), piece))

    def _pop(self, stage: str) -> Piece:
        return heapq.heappop(self._ready[stage])[2]

    def _start(self, piece: Piece) -> Piece:
        self._running[piece.stage] += 1
        return piece

    def _leave(self, piece: Piece, place: Place | None) -> None:
        self._running[piece.stage] -= 1
        if place is not None:
            self.nodes.used[place.node] -= piece.mib

    def _advance(self, stage: str, row: Row) -> Iterator[Row]:
        if stage == "search":
            yield from self._push("featurise", row)
        elif stage == "featurise" and not row["error"]:
            for one in fan_out(row, self._seeds_of(row)):
                yield from self._push("fold", one)
        elif stage == "fold":
            folds = self._folded.setdefault(str(row["slug"]), [])
            folds.append(row)
            if len(folds) == len(self._seeds_of(row)):
                yield from self._push("write", gather(self._folded.pop(str(row["slug"]))))
        else:
            yield row
