"""The account of a run: events, journals, attempts, resuming, locks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from structgen.errors import ClusterError, ConfigError, InputError
from structgen.manifest import (
    Event,
    Journal,
    RunManifest,
    error_kind,
    error_text,
    is_running,
    job_errors,
    job_status,
    run_lock,
)


def _computed(stage: str, key: str, seed: int = -1, job: str = "a") -> list[Event]:
    started = Event(job, stage, "started", seed=seed, key=key)
    return [started, replace(started, status="done", seconds=1.5)]


def _manifest(run: Path, *events: Event) -> RunManifest:
    run.mkdir(exist_ok=True)
    manifest = RunManifest.load(run)
    manifest.plan({"a": {"name": "A"}}, seeds=[1, 2])
    for event in events:
        manifest.apply(event)
    return manifest


def test_account_of_a_job_from_its_events(tmp_path: Path):
    """Stages hold status, key, attempts and seconds; fold holds one entry a seed."""
    manifest = _manifest(tmp_path, *_computed("search", "s"), *_computed("fold", "f1", 1), Event("a", "fold", "started", seed=2, key="f2"))
    stages = manifest.jobs["a"]["stages"]
    assert stages["search"] == {"status": "done", "key": "s", "attempts": 1, "seconds": 1.5, "error": "", "kind": ""}
    assert stages["fold"]["1"]["status"] == "done" and stages["fold"]["2"]["status"] == "running"
    assert job_status(manifest.jobs["a"]) == "running"
    manifest.apply(Event("a", "fold", "step", seed=2, key="f2", step=3, steps=40))
    assert stages["fold"]["2"] | {"step": 3, "steps": 40} == stages["fold"]["2"]
    for event in [*_computed("fold", "f2", 2), *_computed("write", "w")]:
        manifest.apply(event)
    assert job_status(manifest.jobs["a"]) == "done"
    assert job_errors(manifest.jobs["a"]) == []


def test_attempts_count_for_a_key_and_reuse_is_no_attempt(tmp_path: Path):
    """A repeated attempt adds one, reuse adds none, a new key starts again."""
    manifest = _manifest(tmp_path, *_computed("search", "k"), *_computed("search", "k"), Event("a", "search", "reused", key="k"))
    entry = manifest.jobs["a"]["stages"]["search"]
    assert (entry["status"], entry["attempts"], entry["seconds"]) == ("done", 2, 1.5)
    manifest.apply(Event("a", "search", "reused", key="other"))
    entry = manifest.jobs["a"]["stages"]["search"]
    assert (entry["status"], entry["attempts"], entry["key"]) == ("done", 0, "other")


def test_failure_is_on_record_until_an_attempt_succeeds(tmp_path: Path):
    """A failed entry names kind and error, makes the job failed, and is cleared by a later success."""
    failed = Event("a", "fold", "failed", seed=1, key="f", error="out of range", kind="run")
    manifest = _manifest(tmp_path, Event("a", "fold", "started", seed=1, key="f"), failed, replace(failed, seed=2))
    assert job_status(manifest.jobs["a"]) == "failed"
    assert job_errors(manifest.jobs["a"]) == [("fold", "run", "out of range")]
    for event in _computed("fold", "f", 1) + _computed("fold", "f", 2):
        manifest.apply(event)
    assert job_errors(manifest.jobs["a"]) == []
    assert manifest.jobs["a"]["stages"]["fold"]["1"]["attempts"] == 2


def test_plan_keeps_the_record_of_jobs_and_seeds_that_are_still_wanted(tmp_path: Path):
    """What had not ended waits again with its attempts; other seeds and other jobs are dropped."""
    manifest = _manifest(tmp_path, *_computed("fold", "f1", 1), *_computed("fold", "f2", 2), *_computed("search", "s"))
    manifest.plan({"a": {"name": "A"}, "b": {"name": "B"}}, seeds=[2, 3])
    assert set(manifest.jobs) == {"a", "b"}
    assert set(manifest.jobs["a"]["stages"]["fold"]) == {"2"}
    assert manifest.jobs["a"]["stages"]["fold"]["2"]["attempts"] == 1
    assert job_status(manifest.jobs["a"]) == "waiting" == job_status(manifest.jobs["b"])


def test_an_event_counts_once_whenever_the_driver_dies(tmp_path: Path):
    """After saves in the middle, a reader that starts anew sees every event exactly once; the end leaves no journal."""
    journals = [Journal(tmp_path), Journal(tmp_path, writer="another-node-1")]
    manifest = _manifest(tmp_path)
    manifest.save()
    for n in range(6):
        journals[n % 2].emit(Event("a", "search", "started", key="k"))
        if n % 3 == 0:
            manifest.follow()
            manifest.save()
        assert RunManifest.load(tmp_path).jobs["a"]["stages"]["search"]["attempts"] == n + 1
    manifest = RunManifest.load(tmp_path)
    manifest.close()
    assert not (tmp_path / ".journal").exists()
    assert RunManifest.load(tmp_path).jobs["a"]["stages"]["search"]["attempts"] == 6


def test_unfinished_line_waits(tmp_path: Path):
    """A line without its end (its writer was killed, or is writing) is not read, and is read when it is whole."""
    journal = Journal(tmp_path)
    journal.emit(Event("a", "search", "started", key="k"))
    (path,) = (tmp_path / ".journal").iterdir()
    line = path.read_bytes()
    manifest = _manifest(tmp_path)
    assert manifest.jobs["a"]["stages"]["search"]["attempts"] == 1
    with open(path, "ab") as file:
        file.write(line[:20])
    assert manifest.follow() == []
    with open(path, "ab") as file:
        file.write(line[20:])
    assert len(manifest.follow()) == 1


WRITER = """
import sys
from pathlib import Path
from structgen.manifest import Event, Journal
journal = Journal(Path(sys.argv[1]))
while True:
    print("another", flush=True)
    journal.emit(Event("a", "search", "started", key="k", error="x" * 1500))
"""


def test_killed_writer_leaves_whole_lines(tmp_path: Path):
    """SIGKILL at any moment of writing: every line that is there can be read."""
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    lines = sum(path.read_bytes().count(b"\n") for path in (tmp_path / ".journal").iterdir())
    assert lines >= 12
    assert _manifest(tmp_path).jobs["a"]["stages"]["search"]["attempts"] == lines


def test_foreign_manifest_is_refused(tmp_path: Path):
    """A run.json that is none of ours is never overwritten."""
    for text in ["[]", '{"schema": 99}', "not json"]:
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ConfigError, match=r"run\.json.*--out"):
            RunManifest.load(tmp_path)
        assert (tmp_path / "run.json").read_text() == text


def test_undecodable_names_survive(tmp_path: Path):
    """A file name that is not UTF-8 does not stop the account, and run.json stays valid JSON in UTF-8."""
    manifest = _manifest(tmp_path)
    manifest.plan({"a": {"name": "ü", "source": os.fsdecode(b"\xff.fasta")}}, seeds=[1])
    manifest.save()
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["jobs"]["a"]["source"] == "\udcff.fasta"


def test_one_driver_a_folder(tmp_path: Path):
    """The second driver is told which folder is taken; the lock ends with its holder."""
    run = tmp_path / "run"
    assert not is_running(run)
    with run_lock(run):
        assert is_running(run)
        with pytest.raises(ConfigError, match="another structgen is at work"), run_lock(run):
            raise AssertionError("two holders")
    assert not is_running(run)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (InputError("bad letter", where="x.fasta record 2"), "input", "x.fasta record 2: bad letter"),
        (ConfigError("no"), "input", "no"),
        (ClusterError("lost"), "run", "lost"),
        (ZeroDivisionError("division by zero"), "run", "ZeroDivisionError: division by zero"),
    ],
)
def test_errors_as_the_user_reads_them(error: Exception, kind: str, text: str):
    """Our own text is the user's; foreign errors keep their type."""
    assert (error_kind(error), error_text(error)) == (kind, text)
