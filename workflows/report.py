"""The `report` command: a run to a page, and what is said about it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from structgen.errors import ConfigError
from structgen.report import Written, write_folder, write_page


def report(run: Path, out: Path | None, limit: int, *, split: bool, console: Console) -> None:
    """Write the report of a run, `<run>/report.html` or with `split` `<run>/report/` when no other place is given."""
    if limit < 0:
        raise ConfigError(f"--limit {limit}: expected megabytes, 0 or more")
    if split:
        written = write_folder(run, out or run / "report")
    else:
        written = write_page(run, out or run / "report.html", limit * 2**20)
    console.print(_text(written), markup=False, highlight=False, soft_wrap=True)


def _text(written: Written) -> str:
    text = f"{written.page}: {written.jobs} job{'s' * (written.jobs != 1)}, {written.size / 2**20:.1f} MiB"
    if not written.left_out:
        return text
    return f"{text}; {written.left_out:,} samples after the best are there with their scores alone: --split or a larger --limit adds them"
