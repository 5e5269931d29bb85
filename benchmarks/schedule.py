"""How near the schedule comes to the ideal makespan: python -m benchmarks.schedule [--ray PLACES SECONDS ...] [--overhead].

2,000 jobs with the lengths of real chains (data/examples/chain_lengths.txt), each fold as long as the reference calibration estimates for
the default model, times an error of the estimate that the schedule does not know (log-normal, 10 %). Without options 1 to 64 places are
simulated, with the schedule of a real run, beside first-come order and static shares. `--ray 64 300` runs the real dispatcher on a real
Ray cluster whose stages sleep, scaled so that the ideal makespan is 300 s: the places are slots of one asynchronous actor, because 64
processes that load a model do not fit a small machine; Search, Featurise and Write are real Ray tasks. `--overhead` lets nothing sleep and
prints what Ray and the dispatcher take for a job.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}

import ray

from structgen.alphafold3.config import Sampling, small
from structgen.cost.calibration import reference
from structgen.cost.work import Work
from structgen.run import Row, Run
from structgen.settings import Settings
from structgen.store import Store
from workflows import cluster
from workflows.dispatch import Dispatcher
from workflows.predict import Line
from workflows.resources import AHEAD
from workflows.schedule import LIGHT, Piece, Place, Schedule
from workflows.simulate import Outcome, ideal, sharded, simulate

LENGTHS = Path(__file__).parents[1] / "data" / "examples" / "chain_lengths.txt"
ATOMS = 7.9  # of a residue
ERROR = 0.1  # standard deviation of log(real / estimated)
PLACES = (1, 2, 4, 8, 16, 32, 64)


def rows() -> list[Row]:
    """The jobs in the order of the file: `cost` is what the schedule knows, `real` what the fold takes."""
    rng, calibration, config = random.Random(1), reference(), small()
    made: list[Row] = []
    for number, length in enumerate(map(int, LENGTHS.read_text().split())):
        work = Work(length, round(ATOMS * length), 1, 0, config.sampling.samples, config.sampling.steps, config.sampling.cycles)
        cost = calibration.estimate(config, work, 0.0).seconds
        real = cost * math.exp(rng.gauss(0.0, ERROR))
        made.append({"slug": f"job{number}", "tokens": length, "cost": cost, "real": real, "error": ""})
    return made


def simulated(jobs: Sequence[Row], places: int, *, in_order: bool) -> Outcome:
    """Pretended time. Featurising takes 0.1 s, on as many CPUs as there are places."""
    schedule = Schedule(lambda row: (1,), ahead=AHEAD * places) if not in_order else Schedule(lambda row: (1,), priority=lambda row: 0.0)

    def seconds(piece: Piece) -> float:
        return float(piece.row["real"]) if piece.stage == "fold" else 0.1 if piece.stage == "featurise" else 0.0

    return simulate(schedule, jobs, [Place(str(n)) for n in range(places)], dict.fromkeys(LIGHT, 2 * places), seconds)


def table(jobs: Sequence[Row]) -> None:
    """One row a number of places."""
    real = [float(row["real"]) for row in jobs]
    lengths = [int(row["tokens"]) for row in jobs]
    print(f"{len(jobs)} jobs of {min(lengths)} to {max(lengths)} residues, {sum(real):.0f} s\n")
    print("| places | ideal s | this schedule s | of the ideal | first come s | of the ideal | static shares s | of the ideal |")
    print("| --- " * 8 + "|")
    for places in PLACES:
        least, ours, first = ideal(real, places), simulated(jobs, places, in_order=False), simulated(jobs, places, in_order=True)
        static = sharded(real, places)
        shares = " | ".join(f"{span:.0f} | {least / span:.1%}" for span in (ours.makespan, first.makespan, static))
        print(f"| {places} | {least:.0f} | {shares} |", flush=True)


class Pass:
    """Search, Featurise and Write without work; Fold is `Slots`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, row: Row) -> Row:
        return row


class Sleeper:
    """All places to fold in one process: a fold sleeps."""

    async def load(self) -> str:
        return ray.get_runtime_context().get_node_id()

    async def work(self, row: Row) -> Row:
        await asyncio.sleep(float(row["sleep"]))
        return {**row, "fold": str(row["slug"])}


class Slots:
    """A crew of so many places of one `Sleeper`."""

    def __init__(self, places: int) -> None:
        self.free: list[Place] = []
        self.starting: list[Any] = []
        self._places = places
        self._actor: Any = None

    def hire(self, most: int) -> None:
        if self._actor is None:
            self._actor = ray.remote(Sleeper).options(num_cpus=0, max_concurrency=1000).remote()
            self.starting = [self._actor.load.remote()]

    def started(self, ref: Any) -> str:
        node = ray.get(ref)
        self.starting = []
        self.free = [Place(str(n), node) for n in range(self._places)]
        return ""

    def work(self, place: Place, row: Row) -> Any:
        self.free.remove(place)
        return self._actor.work.remote(row)

    def ended(self, place: Place) -> None:
        self.free.append(place)

    def lost(self, place: Place) -> None:
        raise AssertionError("the sleeper died")


def on_ray(jobs: Sequence[Row], places: int, seconds: float, folder: Path) -> tuple[float, float, float]:
    """Ideal and real makespan, with workers that have started, and the driver's own CPU seconds."""
    real = [float(row["real"]) for row in jobs]
    scale = seconds / ideal(real, places)
    asleep = [{**row, "sleep": float(row["real"]) * scale} for row in jobs]
    settings = Settings(model="m", sampling=Sampling())
    run = Run(folder / "run", Store(folder / "store"), settings, model_name="m", weights="w", threads=1)
    line, crew = Line(run, Pass, Pass, Pass, Pass), Slots(places)
    crew.hire(places)
    for ref in ray.wait(crew.starting, num_returns=1)[0]:
        crew.started(ref)
    warm = [{**row, "slug": f"warm{n}", "sleep": 0.0} for n, row in enumerate(jobs[:8])]
    assert len(list(Dispatcher(line, crew, say=print, patience=60.0).run(warm))) == len(warm)
    dispatcher = Dispatcher(line, crew, say=print, patience=60.0)
    began, cpu = time.monotonic(), time.process_time()
    ended = list(dispatcher.run(asleep))
    assert len(ended) == len(jobs) and not any(row["error"] for row in ended)
    return seconds, time.monotonic() - began, time.process_time() - cpu


def main() -> None:
    """Simulate, or run on Ray."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", nargs=2, type=float, action="append", default=[], metavar=("PLACES", "SECONDS"))
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--jobs", type=int, default=2000)
    arguments = parser.parse_args()
    jobs = rows()[: arguments.jobs]
    if not arguments.ray and not arguments.overhead:
        table(jobs)
        return
    with tempfile.TemporaryDirectory(prefix="schedule-") as folder, cluster.connected("local"):
        if arguments.overhead:
            _, wall, cpu = on_ray(jobs, 64, 1e-6, Path(folder))
            each = f"{1000 * wall / len(jobs):.1f} ms a job by the clock, {1000 * cpu / len(jobs):.1f} ms of the driver's CPU"
            print(f"{len(jobs)} jobs that do nothing: {each}")
        for places, seconds in arguments.ray:
            least, wall, cpu = on_ray(jobs, int(places), seconds, Path(folder))
            share, driver = f"{least / wall:.1%}", f"{1000 * cpu / len(jobs):.1f}"
            print(f"| {places:.0f} | {len(jobs)} | {least:.0f} | {wall:.1f} | {share} | {driver} |", flush=True)


if __name__ == "__main__":
    main()
