"""A run in numbers for Prometheus, through Ray's metrics: what every node of the cluster exports, and its dashboard can draw.

`authentication.declare` comes first, before Ray is imported.
"""

from __future__ import annotations

from collections.abc import Sequence

import ray
from ray.util.metrics import Counter, Gauge

from structgen.manifest import Event, RunManifest
from workflows.progress import Display, standing

ENDS = ("done", "reused", "failed")


class Metered:
    """A display that also counts. Nothing is counted while there is no cluster."""

    def __init__(self, shown: Display, run: str, gpus: float) -> None:
        self._shown, self._run, self._gpus = shown, run, gpus  # GPUs of one fold
        self._meter: Meter | None = None
        self._early: list[Event] = []

    def show(self, manifest: RunManifest, events: Sequence[Event]) -> None:
        self._shown.show(manifest, events)
        self._early += events
        if not ray.is_initialized():
            return
        self._meter = self._meter or Meter(self._run, self._gpus)
        self._meter.count(self._early)
        self._meter.stand(manifest)
        self._early = []

    def say(self, text: str) -> None:
        self._shown.say(text)

    def close(self) -> None:
        self._shown.close()


class Meter:
    """The metrics of one run: `ray_structgen_...` on the nodes' endpoints, with the run's folder as a tag."""

    def __init__(self, run: str, gpus: float) -> None:
        self._gpus = gpus
        self._tags = {"run": run}
        self._ended = Counter("structgen_stage_ended", "Pieces of work that ended, by how", tag_keys=("run", "stage", "how"))
        self._seconds = Counter("structgen_stage_seconds", "Seconds of work in a stage", tag_keys=("run", "stage"))
        self._gpu_seconds = Counter("structgen_gpu_seconds", "Seconds of GPUs that folds held", tag_keys=("run",))
        self._hits = Counter("structgen_cache_hits", "Pieces of work found in the store", tag_keys=("run", "stage"))
        self._now = Gauge("structgen_stage", "Pieces of work, by what they do now", tag_keys=("run", "stage", "status"))

    def count(self, events: Sequence[Event]) -> None:
        """Take in what happened."""
        for event in events:
            if event.status not in ENDS:
                continue
            stage = self._tags | {"stage": event.stage}
            self._ended.inc(1, tags=stage | {"how": event.status})
            if event.status == "reused":
                self._hits.inc(1, tags=stage)
            if event.seconds > 0 and event.status != "reused":
                self._seconds.inc(event.seconds, tags=stage)
            if event.stage == "fold" and self._gpus and event.seconds > 0:
                self._gpu_seconds.inc(event.seconds * self._gpus, tags=self._tags)

    def stand(self, manifest: RunManifest) -> None:
        """How much waits, runs, is done and failed in every stage: the queue."""
        for stage, counts in standing(manifest).items():
            for status in ("waiting", "running", "done", "failed"):
                self._now.set(counts[status], tags=self._tags | {"stage": stage, "status": status})
