"""What is read of a run: order, statuses, and what is made of folders that are damaged or not to be trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from structgen.errors import ConfigError
from structgen.report.account import read_run
from structgen.report.index import COLUMNS, index
from tests.report.conftest import HOSTILE, make_run


def _edit(run: Path, change) -> None:
    document = json.loads((run / "run.json").read_text())
    change(document)
    (run / "run.json").write_text(json.dumps(document))


def test_jobs_are_ranked_and_those_without_results_follow(run: Path):
    """Best score first; failed and lost ones after them in the order of the input, with what is wrong."""
    jobs = read_run(run).jobs
    assert [job.slug for job in jobs] == ["complex", "alone", "failed", "lost"]
    assert [job.status for job in jobs] == ["done", "done", "failed", "done"]
    assert jobs[2].errors == (("featurise", f"too large {HOSTILE}"),)
    assert "not in" in jobs[3].problem and not jobs[3].samples
    assert [sample.score for sample in jobs[0].samples] == [0.9, 0.8]


def test_the_table_says_what_the_files_say(run: Path):
    """Every column of a complex and of a chain alone against the files of results."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in index(read_run(run))["rows"]]
    summary = json.loads((run / "complex/complex_summary_confidences.json").read_text())
    extras = json.loads(next((run / "complex").glob("seed-1_sample-0/*_extras.json")).read_text())
    wanted = {"score": 0.9, "plddt": summary["mean_plddt"], "ptm": 0.61, "iptm": 0.34, "clash": 0, "chains": 2, "depth": 1, "samples": 2}
    assert {name: rows[0][name] for name in wanted} == wanted
    assert rows[0]["stereo"] == sum(extras["geometry"]["stereocentres"]["wrong"]) and rows[0]["seconds"] == 3.5
    assert rows[1]["iptm"] is None and rows[1]["depth"] == 17 and rows[1]["name"] == f"alone {HOSTILE}"
    assert rows[2]["status"] == "failed" and rows[2]["score"] is None and rows[2]["note"] == f"featurise: too large {HOSTILE}"
    assert rows[3]["status"] == "missing"


@pytest.mark.parametrize("slug", ["../other", "a/b", "..", ""])
def test_a_name_that_leaves_the_folder_is_not_followed(tmp_path: Path, slug: str):
    """Results are read inside the run's folder alone."""
    run = make_run(tmp_path)
    shutil.copytree(run / "alone", tmp_path / "other")
    _edit(run, lambda document: document["jobs"].update({slug: document["jobs"]["alone"]}))
    job = next(job for job in read_run(run).jobs if job.slug == slug)
    assert "is not the name of a folder" in job.problem and not job.samples


@pytest.mark.parametrize("ranking", [None, "x", [[1]], [[1, 0, "best"]], [["../..", 0, 1.0]], [[1, 0, float("nan")]], [[1, 9, 0.5]], []])
def test_a_damaged_manifest_is_a_problem_of_its_job_alone(tmp_path: Path, ranking: object):
    """The other job is still there."""
    run = make_run(tmp_path)
    path = run / "alone/alone_manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ranking": ranking}))
    jobs = {job.slug: job for job in read_run(run).jobs}
    assert "results are not in" in jobs["alone"].problem and jobs["complex"].samples and not jobs["complex"].problem


def test_what_is_no_run_is_one_error(tmp_path: Path):
    """No run.json, one that is not ours, one whose jobs are something else."""
    with pytest.raises(ConfigError, match="holds no run"):
        read_run(tmp_path)
    for text in ("{", "[]", '{"schema": 1, "jobs": {"a": 3}, "rejected": [], "journals": {}}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ConfigError, match=r"run\.json is not"):
            read_run(tmp_path)
