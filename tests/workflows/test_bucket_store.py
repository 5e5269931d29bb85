"""Predictions whose artifacts lie in an object store, in process and on a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from structgen.store import open_store
from tests.workflows.conftest import Command, differing, results, start_command
from tests.workflows.test_cli import attempts, sequence, write_fasta

OPTIONS = ["batch.fasta", "--seeds", "1,2", "--samples", "1", "--steps", "4", "--cycles", "1"]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "batch.fasta", [(f"job{n}", sequence(n)) for n in range(3)])


def test_predict_with_a_bucket_equals_predict_with_a_folder(command: Command, batch: Path, tmp_path: Path, s3: str):
    """The same bytes; a second run elsewhere finds all in the bucket; only artifacts stay there; run.json names it."""
    assert command("predict", *OPTIONS, "--out", "folder").status == 0
    assert command("predict", *OPTIONS, "--out", "first", "--store", "s3://artifacts/predict").status == 0
    assert command("predict", *OPTIONS, "--out", "second", "--store", "s3://artifacts/predict/").status == 0
    assert results(tmp_path / "first") == results(tmp_path / "folder") == results(tmp_path / "second")
    assert {n for (_, stage, _), n in attempts(tmp_path / "second").items() if stage != "write"} == {0}
    assert json.loads((tmp_path / "second" / "run.json").read_text())["store"] == "s3://artifacts/predict"
    names = [item.name for item in open_store("s3://artifacts/predict").root._under("")]  # type: ignore[union-attr]
    assert len(names) == 3 * 3 and not any(name.startswith("tmp/") for name in names)


def test_bucket_that_is_not_there_is_told_before_any_work(command: Command, batch: Path, s3: str):
    """Exit status 2 and one sentence."""
    outcome = command("predict", *OPTIONS, "--store", "s3://nowhere/x")
    assert outcome.status == 2 and "there is no such bucket" in outcome.text


@pytest.mark.slow
def test_cluster_reads_and_writes_a_bucket(command: Command, checkpoint: Path, batch: Path, tmp_path: Path, s3: str):
    """Workers of a cluster publish to the bucket; a run in process finds what they made."""
    process = start_command(checkpoint, tmp_path, *OPTIONS, "--out", "there", "--store", "s3://artifacts/cluster", "--cluster", "local")
    assert process.wait(280) == 0, (tmp_path / "output.txt").read_text()
    assert command("predict", *OPTIONS, "--out", "here", "--store", "s3://artifacts/cluster").status == 0
    assert differing(results(tmp_path / "here"), results(tmp_path / "there")) == {}
    assert {n for (_, stage, _), n in attempts(tmp_path / "here").items() if stage != "write"} == {0}
