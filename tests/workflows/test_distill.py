"""Rounds of distillation and the table of steps, by the commands that a user gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from structgen.alphafold3.model import load_model
from tests.archive import random_chains, write_archive
from tests.workflows.conftest import Command

CONFIG = """
kind: student
seed: 3
steps: 3
device: cpu
log_every: 1
checkpoint_every: 2
task:
  distillation: {teacher_steps: 4, noise_levels: 2}
  crops: {tokens: 10}
  held_out: {crops: 1}
optimisation: {warmup_steps: 1}
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return write_archive(tmp_path / "chains", [*random_chains(rng, 2, 12), *random_chains(rng, 2, 11, split="val")], rng)


@pytest.mark.usefixtures("one_thread")
def test_rounds_lead_to_a_student_of_one_step(command: Command, checkpoint: Path, archive: Path, tmp_path: Path) -> None:
    """4 steps to 2 to 1: each round starts from the one before; again, nothing is made again; then the table of steps, twice the same."""
    (tmp_path / "few.yaml").write_text(CONFIG)
    words = ("distill", "few.yaml", "--data", archive, "--init", checkpoint, "--to", "1", "--out", "few")
    outcome = command(*words)
    assert outcome.status == 0, outcome.text
    models = [tmp_path / "few" / name / "model.safetensors" for name in ("4-to-2", "2-to-1")]
    assert [load_model(str(path)).config.sampling.steps for path in models] == [2, 1]
    assert json.loads((tmp_path / "few/2-to-1/run.json").read_text())["init"] == "few/4-to-2/model.safetensors"
    assert any("validation" in line for line in (tmp_path / "few/2-to-1/log.jsonl").read_text().splitlines())
    before = [path.stat().st_mtime_ns for path in models]
    assert command(*words).status == 0 and [path.stat().st_mtime_ns for path in models] == before

    words = ("steps", checkpoint, *models, "--data", archive, "--out", "steps", "--steps", "1,3", "--chains", "2", "--samples", "1")
    outcome = command(*words)
    assert outcome.status == 0 and "progressive student of 1 steps" in outcome.text
    summary = json.loads((tmp_path / "steps/steps.json").read_text())
    assert summary["chains"] == 2 and len(summary["curves"]) == 4 and (tmp_path / "steps/steps.png").stat().st_size > 5000
    rows = (tmp_path / "steps/steps.jsonl").read_text()
    assert len(rows.splitlines()) == 2 * 4 * 2
    assert command(*words).status == 0 and (tmp_path / "steps/steps.jsonl").read_text() == rows
    found = [json.loads(row) for row in rows.splitlines()]
    mean = np.mean([row["lddt"] for row in found if row["curve"] == "teacher, deterministic" and row["steps"] == 3])
    assert summary["curves"]["teacher, deterministic"]["3"]["lddt"] == pytest.approx(mean)


def test_what_cannot_be_distilled_is_said_before_anything_runs(command: Command, checkpoint: Path, archive: Path, tmp_path: Path) -> None:
    """A number of steps that no round reaches, another kind of run, no teacher."""
    (tmp_path / "few.yaml").write_text(CONFIG)
    (tmp_path / "other.yaml").write_text("kind: structure\nsteps: 1\n")
    for config, to, text in (("few.yaml", 3, "are never 3"), ("other.yaml", 1, "kind 'student'")):
        outcome = command("distill", config, "--data", archive, "--init", checkpoint, "--to", str(to))
        assert outcome.status == 2 and text in outcome.text and not (tmp_path / "runs").exists()
    outcome = command("distill", "few.yaml", "--data", archive, "--to", "2")
    assert outcome.status == 2 and "name its file" in outcome.text
