"""What a run will take, said before it begins: calibrated by folds of the model itself, kept, and used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workflows.conftest import Command
from tests.workflows.test_cli import sequence, write_fasta
from workflows import calibrate
from workflows.calibrate import Size
from workflows.estimate import duration


@pytest.fixture(autouse=True)
def calibrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRUCTGEN_CALIBRATION", str(tmp_path / "calibration"))
    return tmp_path / "calibration"


def test_estimate_names_every_job_and_what_cannot_run(command: Command, tmp_path: Path):
    """One line a job with its sizes, costliest first; the makespan; bad records as errors; that nothing was calibrated; nothing is run."""
    write_fasta(tmp_path / "in.fasta", [("short", sequence(1, 10)), ("pair", f"{sequence(2, 30)}:{sequence(3, 12)}"), ("bad", "AC1")])
    outcome = command("estimate", "in.fasta", "--seeds", "1,2", "--samples", "3", "--places", "2", "--threads", "1")
    assert outcome.status == 2
    lines = outcome.text.splitlines()
    assert lines[0].split()[:4] == ["job", "tokens", "atoms", "rows"]
    assert [line.split()[:2] for line in lines[1:3]] == [["pair", "42"], ["short", "10"]] and "2 x 3" in lines[1]
    assert "2 jobs, 4 folds" in outcome.text and "on 2 places to fold" in outcome.text and "record 3" in outcome.text
    assert "not calibrated on this machine" in outcome.text
    assert not (tmp_path / "runs").exists() and not (tmp_path / "store").exists()


def test_estimate_as_json_is_complete(command: Command, tmp_path: Path):
    """The same for programs: sizes, phases that sum to the fold, makespan between the ideal and the whole."""
    write_fasta(tmp_path / "in.fasta", [(f"job{n}", sequence(n, 10 + n)) for n in range(5)])
    outcome = command("estimate", "in.fasta", "--places", "2", "--threads", "1", "--json")
    document = json.loads(outcome.text)
    assert outcome.status == 0 and document["calibrated"] is False and document["errors"] == []
    assert document["least"] <= document["makespan"] <= document["seconds"]
    for job in document["jobs"]:
        assert sum(job["phases"].values()) == pytest.approx(job["fold_seconds"]) and job["peak_mib"] > 50 and job["at_once"] == 5


def test_job_over_the_memory_limit_is_refused_before_anything_runs(command: Command, tmp_path: Path):
    """Neither searched nor folded; the numbers are in the account, the other settings of the run are not needed for it; status 2."""
    write_fasta(tmp_path / "in.fasta", [("small", sequence(1, 10))])
    outcome = command("predict", "in.fasta", "--out", "run", "--memory", "0.1", "--threads", "1")
    assert outcome.status == 2 and "does not fit the memory" in outcome.text and "at most 102 MiB" in outcome.text
    job = json.loads((tmp_path / "run" / "run.json").read_text())["jobs"]["small"]
    assert list(job["stages"]) == ["fold"] and job["stages"]["fold"]["1"]["kind"] == "input"
    assert command("predict", "in.fasta", "--out", "run", "--threads", "1").status == 0


def test_resources_of_a_configuration_are_checked(command: Command, tmp_path: Path):
    """Unknown keys, wrong types and negative amounts are named with their path."""
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1, 8))])
    for text, message in (
        ("resources: {fold: {gpu: 1}}", "did you mean 'gpus'?"),
        ("resources: {search: {labels: {zone: 3}}}", "resources.search.labels.zone: found 3"),
        ("resources: {fold: {cpus: -1}}", "resources.fold.cpus: found -1.0; expected 0 or more"),
        ("resources: {ahead: 0}", "expected at least 1 job"),
    ):
        (tmp_path / "run.yaml").write_text(text)
        outcome = command("estimate", "in.fasta", "--config", "run.yaml")
        assert outcome.status == 2 and message in outcome.text, outcome.text


def test_calibration_measures_the_model_and_is_used_from_then_on(
    command: Command, checkpoint: Path, calibrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Real folds in processes of their own; afterwards estimates for this model and number of threads are calibrated, for others not."""
    monkeypatch.setattr(calibrate, "QUICK", (Size(12, 1, 1), Size(24, 4, 2), Size(40, 2, 1, cycles=2)))
    monkeypatch.setenv("PYTHONPATH", str(Path(calibrate.__file__).parents[1]))
    outcome = command("calibrate", "--model", checkpoint, "--quick", "--threads", "1", "--precision", "float32")
    assert outcome.status == 0, outcome.text
    (path,) = calibrations.glob("*.json")
    kept = json.loads(path.read_text())
    assert kept["measured"] and kept["subject"]["threads"] == 1 and kept["resident"] > 100
    assert all(sum(terms.values()) > 0 for part in ("seconds", "mib") for terms in kept[part].values())
    write_fasta(tmp_path / "in.fasta", [("a", sequence(1, 24))])
    options = ["in.fasta", "--model", checkpoint, "--set", "precision=float32", "--json"]
    (here, other) = (json.loads(command("estimate", *options, "--threads", n).text)["calibrated"] for n in ("1", "2"))
    assert here is True and other is False


def test_durations_read_well():
    assert [duration(s) for s in (4.24, 59.9, 61, 3599, 3600, 123456)] == [
        "4.2 s",
        "59.9 s",
        "1 min 01 s",
        "59 min 59 s",
        "1 h 00 min",
        "34 h 17 min",
    ]
