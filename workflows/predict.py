"""The line of four stages, in process or on a Ray cluster. Both run the same callables, so both give the same bytes.

On a cluster the stages are Ray tasks, Fold is a pool of warm actors, and what is in flight is bounded. Ray Data was tried for this and
left: when a worker is killed by its row, that row vanishes from the output without an error, and the seeds of a job cannot be spread
over workers and gathered again without a shuffle.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field

from structgen import heads
from structgen.run import Row, Run, fan_out, gather, seeds_of
from structgen.stages import Fold
from workflows.resources import Demand, Resources

Stage = Callable[[Row], Row]
Maker = Callable[[Run], Stage]  # importable by name, so that it can travel


@dataclass(frozen=True)
class Line:
    """A run and how its stages are made, there where they work."""

    run: Run
    search: Maker
    featurise: Maker
    fold: Maker
    write: Maker
    resources: Resources = field(default_factory=Resources)

    @property
    def demands(self) -> dict[str, Demand]:
        """What one piece of each stage takes of a node."""
        return self.resources.demands(self.run.threads)


def load_fold(run: Run) -> Fold:
    """Fold with the weights that the run's settings name, for a worker that has none yet."""
    return Fold(run, heads.load(run.settings.model, precision=run.settings.precision))


def predict_here(line: Line, rows: Iterable[Row]) -> Iterator[Row]:
    """Job after job in this process; yields every job's last row."""
    search, featurise, fold, write = (make(line.run) for make in (line.search, line.featurise, line.fold, line.write))
    for row in rows:
        folds = [fold(one) for one in fan_out(featurise(search(row)), seeds_of(line.run, row))]
        yield write(gather(folds))


def predict_on_cluster(line: Line, rows: Iterable[Row], *, say: Callable[[str], None], patience: float) -> Generator[Row, None, None]:
    """All jobs on the cluster that this process is connected to, the costliest first; yields every job's last row as it ends.

    `say` hears which resource is missing while the work waits for one, at most `patience` seconds long. Raises `ClusterError` when the
    work cannot go on.
    """
    from workflows.crew import Actors
    from workflows.dispatch import Dispatcher

    crew = Actors(line)
    try:
        yield from Dispatcher(line, crew, say=say, patience=patience).run(list(rows))
    finally:
        crew.dismiss()
