"""A run on the terminal: bars where there is one, else a line for each thing that ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from structgen.manifest import STAGES, Event, RunManifest, job_status, stage_entries
from structgen.search.template_index import Seen

POLL = 0.2  # seconds between looks into the journals
SAVE_SHARE = 0.05  # of the time at most goes into writing run.json
SAVE_SECONDS = 1.0  # least time between two writings
SEEN = 0.1  # seconds of a search that are worth a line
TITLES = {"search": "Search", "featurise": "Featurise", "fold": "Fold", "write": "Write"}


class Display(Protocol):
    """Shows a run as it goes on."""

    def show(self, manifest: RunManifest, events: Sequence[Event]) -> None:
        """Take in what happened since the last call."""

    def say(self, text: str) -> None:
        """Show a sentence above everything else."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def display(console: Console, manifest: RunManifest, seeds: int) -> Display:
    """Bars on a terminal, lines elsewhere."""
    return Bars(console, manifest, seeds) if console.is_terminal else Lines(console, manifest)


@contextmanager
def reading(console: Console, title: str) -> Iterator[Seen]:
    """A bar while many files are read, on a terminal; the block says how many are read, and of how many."""
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=None)

        def seen(done: int, of: int) -> None:
            bars.update(task, completed=done, total=of)

        yield seen


class Bars:
    """One bar a stage, and what is being folded."""

    def __init__(self, console: Console, manifest: RunManifest, seeds: int) -> None:
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}"),
        )
        self._progress = Progress(*columns, console=console)
        jobs = len(manifest.jobs)
        folds = sum(len(job["seeds"]) if "seeds" in job else seeds for job in manifest.jobs.values())
        totals = {"search": jobs, "featurise": jobs, "fold": folds, "write": jobs}
        self._tasks: dict[str, TaskID] = {stage: self._progress.add_task(TITLES[stage], total=totals[stage], now="") for stage in STAGES}
        self._now: dict[tuple[str, int], str] = {}
        self._progress.start()

    def show(self, manifest: RunManifest, events: Sequence[Event]) -> None:
        for event in events:
            self._follow(event)
        counts = finished(manifest)
        running = list(self._now.values())
        for stage, task in self._tasks.items():
            self._progress.update(task, completed=counts[stage], now="  ".join(running[:3]) if stage == "fold" else "")
        for line in (line for event in events if (line := failure_line(event))):
            self.say(line)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()

    def _follow(self, event: Event) -> None:
        if event.stage != "fold":
            return
        if event.status in ("started", "step"):
            step = f" step {event.step}/{event.steps}" if event.steps else ""
            self._now[event.job, event.seed] = f"{event.job[:30]} seed {event.seed}{step}"
        else:
            self._now.pop((event.job, event.seed), None)


class Lines:
    """A line for each search that took time, each fold and each job that ends: for logs."""

    def __init__(self, console: Console, manifest: RunManifest) -> None:
        self._console, self._jobs = console, len(manifest.jobs)

    def show(self, manifest: RunManifest, events: Sequence[Event]) -> None:
        for event in events:
            if line := failure_line(event):
                self.say(line)
            elif event.stage == "search" and event.status == "done" and event.seconds >= SEEN:
                self.say(f"{event.job}: evidence searched in {event.seconds:.1f} s")
            elif event.stage == "fold" and event.status == "done":
                self.say(f"{event.job}: seed {event.seed} folded in {event.seconds:.1f} s")
            elif event.stage == "write" and event.status in ("done", "reused"):
                counts = Counter(job_status(job) for job in manifest.jobs.values())
                self.say(
                    f"[{counts['done'] + counts['failed']}/{self._jobs}] {event.job}: {'written' if event.status == 'done' else 'is there'}"
                )

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing to restore."""


def failure_line(event: Event) -> str:
    """What to say of a failure as it happens; the reasons come once, at the end."""
    seed = f" (seed {event.seed})" if event.seed >= 0 else ""
    return f"{event.job}: {event.stage} failed{seed}" if event.status == "failed" else ""


def finished(manifest: RunManifest) -> Counter[str]:
    """How many entries of each stage are done."""
    counts: Counter[str] = Counter()
    for job in manifest.jobs.values():
        for stage in STAGES:
            counts[stage] += sum(entry["status"] == "done" for entry in stage_entries(job, stage))
    return counts


def standing(manifest: RunManifest) -> dict[str, dict[str, float]]:
    """Of every stage, `of` how many pieces of work there are, how many wait, run, are done and failed, and their `seconds` so far.

    What a failed job will not come to does not wait.
    """
    seeds = len(manifest.document.get("settings", {}).get("seeds", (1,)))
    stand = {stage: {"of": 0, "waiting": 0, "running": 0, "done": 0, "failed": 0, "seconds": 0.0} for stage in STAGES}
    for job in manifest.jobs.values():
        failed = job_status(job) == "failed"
        for stage, counts in stand.items():
            pieces = (len(job["seeds"]) if "seeds" in job else seeds) if stage == "fold" else 1
            found = stage_entries(job, stage)
            begun = Counter(entry["status"] for entry in found if entry["status"] != "waiting")
            counts["of"] += pieces
            for status, number in begun.items():
                counts[status] += number
            counts["waiting"] += 0 if failed else pieces - begun.total()
            counts["seconds"] = round(counts["seconds"] + sum(entry["seconds"] for entry in found), 3)
    return stand


@contextmanager
def followed(manifest: RunManifest, shown: Display) -> Iterator[Display]:
    """Keep `run.json` and the display current during the block, from the journals that the stages write wherever they run."""
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(manifest, shown, stop), name="follower", daemon=True)
    follower.start()
    try:
        yield shown
    finally:
        stop.set()
        follower.join()
        shown.show(manifest, manifest.follow())
        shown.close()
        manifest.document["progress"] = standing(manifest)
        manifest.close()


def _follow(manifest: RunManifest, shown: Display, stop: threading.Event) -> None:
    saved, cost = 0.0, 0.0
    while not stop.wait(POLL):
        events = manifest.follow()
        shown.show(manifest, events)
        if events and time.monotonic() - saved > max(SAVE_SECONDS, cost / SAVE_SHARE):
            began = time.monotonic()
            manifest.document["progress"] = standing(manifest)
            manifest.save()
            saved = time.monotonic()
            cost = saved - began
