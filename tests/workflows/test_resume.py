"""Runs that are killed: the same command again computes nothing twice and gives what an uninterrupted run gives."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from structgen.manifest import STAGES, RunManifest, is_running, stage_entries
from tests.workflows.conftest import Command, differing, results, start_command
from tests.workflows.test_cli import attempts, sequence, write_fasta

JOBS = 10


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    records = [(f"job{n}", sequence(n) if n % 3 else f"{sequence(n, 5)}:{sequence(n + 20, 4)}") for n in range(JOBS)]
    return write_fasta(tmp_path / "batch.fasta", records)


def finished(run: Path) -> dict[tuple[str, str], int]:
    """Attempts of every stage (and seed) that a run has finished, as the account stands now, journals included."""
    manifest = RunManifest.load(run)
    entries = {(slug, stage, n): e for slug, j in manifest.jobs.items() for stage in STAGES for n, e in enumerate(stage_entries(j, stage))}
    return {(slug, f"{stage} {n}"): e["attempts"] for (slug, stage, n), e in entries.items() if e["status"] == "done"}


def kill_in_the_middle(process: subprocess.Popen[bytes], run: Path, *, written: int, number: int = signal.SIGKILL) -> None:
    """Send the signal once so many jobs are written."""
    deadline = time.monotonic() + 120
    while sum(stage == "write 0" for _, stage in finished(run)) < written:
        assert process.poll() is None, (run.parent / "output.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.wait()


@pytest.fixture
def options(batch: Path) -> list[str | Path]:
    return [batch.name, "--seeds", "1,2", "--samples", "1", "--steps", "6", "--cycles", "1"]


def test_killed_batch_resumes_and_equals_an_uninterrupted_one(
    command: Command, checkpoint: Path, tmp_path: Path, options: list[str | Path]
):
    """kill -9 in a batch of ten, twice: what was finished has one attempt in the end, and every file is as without the kills."""
    run, done = tmp_path / "run", dict[tuple[str, str], int]()
    for kills, written in enumerate((2, 5), 1):
        kill_in_the_middle(start_command(checkpoint, tmp_path, *options, "--out", "run"), run, written=written)
        now = finished(run)
        assert not is_running(run)
        assert sum(n > 1 for n in now.values()) < kills  # only what was at work when an earlier kill came
        done = done | now
    assert len({slug for slug, stage in done if stage == "write 0"}) < JOBS
    outcome = command("predict", *options, "--out", "run")
    assert outcome.status == 0, outcome.text
    counts = finished(run)
    assert {place: counts[place] for place in done} == done  # nothing that was finished at a kill was worked on again
    assert len(counts) == JOBS * 5 and sum(counts.values()) <= JOBS * 4 + 2  # no search is needed; each kill met at most one stage at work
    assert command("predict", *options, "--out", "whole", "--store", "another-store").status == 0
    assert differing(results(run), results(tmp_path / "whole")) == {}
    assert set(attempts(tmp_path / "whole").values()) == {0, 1}


def test_seeds_that_were_folded_are_kept(command: Command, checkpoint: Path, tmp_path: Path):
    """A job killed between its seeds goes on with the next seed."""
    write_fasta(tmp_path / "one.fasta", [("one", sequence(1))])
    options = ["one.fasta", "--out", "run", "--seeds", "1,2,3,4,5,6", "--samples", "1", "--steps", "10"]
    process = start_command(checkpoint, tmp_path, *options)
    while sum(stage.startswith("fold") for _, stage in finished(tmp_path / "run")) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = finished(tmp_path / "run")
    assert ("one", "write 0") not in done
    assert command("predict", *options).status == 0
    counts = finished(tmp_path / "run")
    assert {place: counts[place] for place in done} == done and sum(counts.values()) in (8, 9)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_says_how_to_go_on(command: Command, checkpoint: Path, tmp_path: Path, options: list[str | Path], number: int):
    """Ctrl-C, and the end signal of a batch system, leave a complete account, status 130 and a word on how to resume."""
    process = start_command(checkpoint, tmp_path, *options, "--out", "run")
    kill_in_the_middle(process, tmp_path / "run", written=1, number=number)
    assert process.returncode == 130
    assert "the same command again goes on" in (tmp_path / "output.txt").read_text()
    assert not (tmp_path / "run" / ".journal").exists()
    said = command("status", tmp_path / "run")
    assert said.status == 0 and "not running" in said.text and "to do" in said.text
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(document["jobs"]) == JOBS
