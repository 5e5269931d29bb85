"""The benchmark of runs that share a cluster kills between two checkpoints, well before the end, or says that it could not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
shared = pytest.importorskip("benchmarks.shared_cluster")

STEPS, EVERY = 80, 10


def watched(folder: Path, steps: list[tuple[int, float]]):
    """A run whose record holds these steps and seconds, whose command waits."""
    training = shared.Training("video", {}, folder, STEPS)
    (folder / "video").mkdir()
    (folder / "video" / "log.jsonl").write_text("".join(json.dumps({"step": n, "seconds": s}) + "\n" for n, s in steps))
    return shared.Watched(training, folder / "video", subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))


def test_kills_fall_between_two_checkpoints_in_the_middle_of_a_run(tmp_path):
    """Every step that is due is early; the next checkpoint is not there yet, and the last is some steps back."""
    training = shared.Training("image", {}, tmp_path, STEPS)
    due = [step for step in range(STEPS + 1) if training.is_due(step) and training.is_early(step)]
    assert training.every == EVERY and min(due) >= 0.4 * STEPS and max(due) <= 0.8 * STEPS
    assert {step % EVERY for step in due} == {3, 4, 5, 6, 7}


@pytest.mark.parametrize("step", [64 + 1, STEPS])
def test_a_run_that_is_too_far_is_not_killed(tmp_path, monkeypatch, step):
    """It is named, with how far it is and what to do; no process is ended."""
    run = watched(tmp_path, [(step, 9.0)])
    run.look()
    monkeypatch.setattr(shared, "kill_worker", lambda driver: pytest.fail("killed"))
    monkeypatch.setattr("ray.available_resources", dict)
    with pytest.raises(SystemExit, match=f"video comes too late: step {step} of 80, checkpoints every 10.*Raise --scale"):
        shared.Kills().go_on([run])
    run.process.kill()


def test_where_a_run_went_on_is_read_off_its_record(tmp_path):
    """The seconds of a start begin anew after the step of its checkpoint; a run that was not started again has none."""
    run = watched(tmp_path, [(39, 19.0), (40, 20.0), (41, 0.7), (42, 1.1)])
    assert run.went_on_from() == 40 and run.look() == 42
    run.process.kill()
    (run.out / "log.jsonl").write_text('{"step": 1, "seconds": 0.5}\n{"step": 2, "seconds": 0.9}\n')
    assert run.went_on_from() == 0
