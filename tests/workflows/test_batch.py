"""A batch as laboratories send them, through the whole pipeline on a local cluster, twice: what the benchmark measures holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows.conftest import REPOSITORY


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_records_are_all_accounted_for_and_searched_once(tmp_path: Path):
    """Duplicates are searched once, broken records are told, the second run repeats nothing: the benchmark fails otherwise."""
    words = ["-m", "benchmarks.search_batch", "data/examples/seqdb.fasta.gz", "--folder", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| refused, each with file, record and reason | 10 |" in done.stdout and "| predicted | 190 |" in done.stdout
    assert "190 of 190 jobs are done" in done.stdout
