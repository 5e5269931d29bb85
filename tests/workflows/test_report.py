"""The command: a real prediction to a page, what it says, and its errors."""

from __future__ import annotations

from pathlib import Path

from tests.workflows.conftest import Command


def test_a_run_becomes_a_page(command: Command, tmp_path: Path) -> None:
    """Predict, report: the page has every job, beside the run or where it is wanted; a folder for --split; predict tells of it."""
    (tmp_path / "two.fasta").write_text(">pair\nMKV:\nGSH\n>one\nMKVLA\n")
    outcome = command("predict", "two.fasta", "--samples", "2", "--steps", "2", "--out", "run")
    assert outcome.status == 0 and f"structgen report {tmp_path / 'run'}" in outcome.text
    outcome = command("report", "run")
    assert outcome.status == 0 and outcome.text.startswith("run/report.html: 2 jobs, ")
    text = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert all(f'id="job{number}-{k}"' in text for number in (0, 1) for k in (0, 1)) and '"pair"' in text
    outcome = command("report", "run", "--limit", "0", "--out", "deep/er/page.html")
    assert outcome.status == 0 and "2 samples after the best" in outcome.text and (tmp_path / "deep/er/page.html").is_file()
    outcome = command("report", "run", "--split")
    assert outcome.status == 0 and len(list((tmp_path / "run/report/data").iterdir())) == 6


def test_errors_are_one_line_and_status_2(command: Command, tmp_path: Path) -> None:
    """No run, a name that is no page's, a limit below nothing."""
    for arguments, text in ((("report", "."), "holds no run"), (("report", ".", "--limit", "-1"), "--limit -1")):
        outcome = command(*arguments)
        assert outcome.status == 2 and text in outcome.text
    (tmp_path / "run.json").write_text("{}")
    outcome = command("report", ".", "--out", "page.pdf")
    assert outcome.status == 2 and "HTML" in outcome.text
