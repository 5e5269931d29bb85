"""A run on three nodes survives the loss of any part: workers, actors, a node, its driver, the head."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.workflows.conftest import REPOSITORY

JOBS = 16


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["worker", "actor", "raylet", "driver", "head", "resource"])
def test_nothing_is_lost_and_nothing_finished_is_done_again(kind: str):
    """After SIGKILL every job has one whole result, none that was finished is worked on again, and a lost resource is named."""
    words = [sys.executable, "-m", "benchmarks.kills", kind, "--jobs", str(JOBS), "--json"]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=1700)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    outcome = json.loads(ended.stdout.splitlines()[-1])
    assert outcome["written"] == outcome["jobs"] == JOBS and outcome["repeated"] == 0 and outcome["before"] >= JOBS
    if kind == "resource":
        assert "waiting: fold needs" in outcome["said"] and "missing folding" in outcome["said"]
