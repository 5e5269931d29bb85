"""The account of a run: `run.json` says what was done for every job and stage, under which key, how often, how long, with what error.

Workers append events to journals, one file a process, in `<run>/.journal`; whoever drives the run follows these, folds them into the
manifest and replaces `run.json` atomically. So a killed driver or worker loses nothing of the account: the next command reads what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from structgen.errors import ConfigError, InputError, StructgenError
from structgen.store import canonical_json, replace_file

SCHEMA = 1
LONGEST_TEXT = 2000  # characters of an error: a line of a journal is written by one call
STAGES = ("search", "featurise", "fold", "write")  # in the order of the work; fold has one entry a seed

Status = Literal["started", "step", "done", "reused", "failed"]
Kind = Literal["", "input", "run"]  # whose fault: the user's record (exit status 2) or the run's (3)


@dataclass(frozen=True)
class Event:
    """One thing that happened to one job in one stage. Small: a line of a journal."""

    job: str  # slug
    stage: str
    status: Status
    seed: int = -1  # of fold only
    key: str = ""
    error: str = ""
    kind: Kind = ""
    seconds: float = 0.0
    step: int = 0
    steps: int = 0
    time: float = field(default_factory=time.time)


def error_kind(error: BaseException) -> Kind:
    """Whether the user's input or the run is to blame."""
    return "input" if isinstance(error, (InputError, ConfigError)) else "run"


def error_text(error: BaseException) -> str:
    """structgen's own errors as they are; others with their type and place, since their text was not written for the user."""
    if isinstance(error, StructgenError):
        return str(error)[:LONGEST_TEXT]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (in {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[:LONGEST_TEXT] + place


def _this_process() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class Journal:
    """Where one process writes its events. Every line is written by one call, so that a killed writer leaves whole lines."""

    run: Path
    writer: str = field(default_factory=_this_process)

    def emit(self, event: Event) -> None:
        """Append one event."""
        folder = self.run / ".journal"
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(folder / f"{self.writer}.jsonl", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        try:
            os.write(descriptor, (canonical_json(asdict(event)) + "\n").encode("ascii"))
        finally:
            os.close(descriptor)


class RunManifest:
    """The document of `run.json`, kept current by `apply` and written by `save`."""

    def __init__(self, run: Path, document: dict[str, Any]) -> None:
        self.run, self.document = run, document

    @classmethod
    def load(cls, run: Path) -> RunManifest:
        """The manifest in a run's folder, current to the last line of its journals; an empty one where there is none."""
        path = run / "run.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            document = {"schema": SCHEMA, "jobs": {}, "rejected": [], "journals": {}}
        except ValueError as error:
            raise ConfigError(f"{path} is not a run manifest ({error}); choose another folder with --out or remove the file") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ConfigError(f"{path} is not a run manifest of schema {SCHEMA}; choose another folder with --out or remove the file")
        manifest = cls(run, document)
        manifest.follow()
        return manifest

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """Slug to the account of one job."""
        return self.document["jobs"]

    def plan(self, jobs: Mapping[str, Mapping[str, Any]], *, seeds: Sequence[int], finished: Collection[str] = (), **facts: Any) -> None:
        """Set what this run is to do. Of the same jobs and seeds the attempts of earlier runs stay on record; `finished` ones stay done.

        A job's own `seeds`, where it has them, come before those of the run.
        """
        before = self.jobs
        self.document.update(facts)
        wanted = {slug: {str(seed) for seed in about.get("seeds", seeds)} for slug, about in jobs.items()}
        stages = {slug: before[slug]["stages"] if slug in finished else _resumed(before.get(slug, {}), wanted[slug]) for slug in jobs}
        self.document["jobs"] = {slug: {**about, "stages": stages[slug]} for slug, about in jobs.items()}

    def apply(self, event: Event) -> None:
        """Take one event into the account. Attempts are counted for a key: another key (changed settings) starts at none."""
        stages = self.jobs.setdefault(event.job, {"stages": {}})["stages"]
        place, name = (stages, event.stage) if event.seed < 0 else (stages.setdefault(event.stage, {}), str(event.seed))
        entry = place.get(name, _entry())
        if event.key and event.key != entry["key"]:
            entry = _entry(event.key)
        if event.status == "step":
            entry |= {"step": event.step, "steps": event.steps}
        elif event.status == "started":
            entry |= {"status": "running", "attempts": entry["attempts"] + 1, "error": "", "kind": ""}
        else:
            ended = "failed" if event.status == "failed" else "done"
            seconds = entry["seconds"] if event.status == "reused" else round(event.seconds, 3)
            entry = _entry(entry["key"]) | {"status": ended, "attempts": entry["attempts"], "seconds": seconds}
            entry |= {"error": event.error, "kind": event.kind}
        place[name] = entry

    def follow(self) -> list[Event]:
        """Take in what was appended to the journals since the last call, in the order of its time.

        How far each journal was read is part of the document: an event counts once, whenever its driver is killed.
        """
        events = [event for path in sorted((self.run / ".journal").glob("*.jsonl")) for event in self._tail(path)]
        events.sort(key=lambda event: event.time)
        for event in events:
            self.apply(event)
        return events

    def save(self) -> None:
        """Replace `run.json`."""
        text = json.dumps(self.document, indent=1, ensure_ascii=False)
        replace_file(self.run / "run.json", text.encode("utf-8", "backslashreplace") + b"\n")  # undecodable file names stay valid JSON

    def close(self) -> None:
        """Save the whole account and remove the journals."""
        self.follow()
        self.save()
        for path in (self.run / ".journal").glob("*.jsonl"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process writes there, or nothing ever did
            (self.run / ".journal").rmdir()
        self.document["journals"] = {}
        self.save()

    def _tail(self, path: Path) -> list[Event]:
        """Whole lines of one journal that were not read before."""
        offsets = self.document["journals"]
        with open(path, "rb") as file:
            file.seek(offsets.get(path.name, 0))
            whole, newline, _ = file.read().rpartition(b"\n")
        offsets[path.name] = offsets.get(path.name, 0) + len(whole + newline)
        return [Event(**json.loads(line)) for line in whole.split(b"\n") if line]


def stage_entries(job: Mapping[str, Any], stage: str) -> list[dict[str, Any]]:
    """The entries of one stage of one job: one, or one a seed for fold; none where it has not begun."""
    entry = job["stages"].get(stage)
    if entry is None:
        return []
    return list(entry.values()) if stage == "fold" else [entry]


def job_status(job: Mapping[str, Any]) -> str:
    """waiting, running, failed or done, from the entries of its stages."""
    entries = [entry for stage in STAGES for entry in stage_entries(job, stage)]
    if any(entry["status"] == "failed" for entry in entries):
        return "failed"
    if job["stages"].get("write", {}).get("status") == "done":
        return "done"
    return "running" if any(entry["status"] in ("running", "done") for entry in entries) else "waiting"


def job_errors(job: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(stage, kind, text) of every failure on record, in the order of the work; equal texts of several seeds once."""
    failed = [(stage, entry) for stage in STAGES for entry in stage_entries(job, stage) if entry["status"] == "failed"]
    return list(dict.fromkeys((stage, entry["kind"], entry["error"]) for stage, entry in failed))


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold a run's folder. Raises `ConfigError` when it cannot be made, or another process drives a run there."""
    try:
        run.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = open(run / ".lock", "ab")
    except OSError as error:
        raise ConfigError(f"{run} cannot be written to ({error.strerror}); choose another folder with --out") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another structgen is at work in {run}; wait for it, stop it, or choose another folder with --out"
            ) from error
        yield


def is_running(run: Path) -> bool:
    """Whether a process drives a run in this folder now."""
    try:
        with open(run / ".lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _entry(key: str = "") -> dict[str, Any]:
    return {"status": "waiting", "key": key, "attempts": 0, "seconds": 0.0, "error": "", "kind": ""}


def _resumed(job: Mapping[str, Any], seeds: set[str]) -> dict[str, Any]:
    """The stages of a job as a new run finds them: what had not ended waits again, seeds that are not wanted any more are dropped."""
    stages = {stage: entry for stage, entry in job.get("stages", {}).items() if stage != "fold"}
    folds = {seed: entry for seed, entry in job.get("stages", {}).get("fold", {}).items() if seed in seeds}
    kept = {stage: _waiting(entry) for stage, entry in stages.items()} | {"fold": {seed: _waiting(e) for seed, e in folds.items()}}
    return {stage: kept[stage] for stage in STAGES if kept.get(stage)}


def _waiting(entry: Mapping[str, Any]) -> dict[str, Any]:
    keep = {name: entry[name] for name in ("key", "attempts", "seconds")}
    return _entry() | keep
