"""What a run shows: bars on a terminal, lines elsewhere, both from the journals."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

from rich.console import Console

from structgen.manifest import Event, Journal, RunManifest
from workflows.progress import Bars, Lines, display, finished, followed

EVENTS = [
    Event("a", "search", "reused"),
    Event("a", "featurise", "started", key="f"),
    Event("a", "featurise", "done", key="f", seconds=0.1),
    Event("a", "fold", "started", seed=1, key="1"),
    Event("a", "fold", "step", seed=1, key="1", step=3, steps=40),
    Event("a", "fold", "done", seed=1, key="1", seconds=2.0),
    Event("a", "fold", "started", seed=2, key="2"),
    Event("a", "fold", "step", seed=2, key="2", step=7, steps=40),
    Event("b", "search", "started", key="s"),
    Event("b", "search", "failed", key="s", error="bad alignment", kind="input"),
]


def planned(run: Path) -> RunManifest:
    run.mkdir()
    manifest = RunManifest.load(run)
    manifest.plan({"a": {"name": "A", "source": "x", "tokens": 5}, "b": {"name": "B", "source": "y", "tokens": 5}}, seeds=[1, 2])
    return manifest


def test_lines_where_there_is_no_terminal(tmp_path: Path):
    """One line for each fold, written job and failure; no control characters, no brackets taken as markup."""
    text = io.StringIO()
    manifest = planned(tmp_path / "run")
    shown = display(Console(file=text, width=1000), manifest, 2)
    assert isinstance(shown, Lines)
    more = [
        Event("a", "fold", "done", seed=2, key="2", seconds=3.0),
        Event("a", "write", "started", key="w"),
        Event("a", "write", "done", key="w"),
    ]
    for event in [*EVENTS, *more]:
        manifest.apply(event)
        shown.show(manifest, [event])
    shown.say("waiting: [red] fold needs 1 GPU")
    shown.close()
    assert text.getvalue().splitlines() == [
        "a: seed 1 folded in 2.0 s",
        "b: search failed",
        "a: seed 2 folded in 3.0 s",
        "[2/2] a: written",
        "waiting: [red] fold needs 1 GPU",
    ]


def test_bars_on_a_terminal(tmp_path: Path):
    """Stages with their counts and the step of the fold at work; a failure is a line above the bars."""
    text = io.StringIO()
    manifest = planned(tmp_path / "run")
    shown = display(Console(file=text, width=160, force_terminal=True), manifest, 2)
    assert isinstance(shown, Bars)
    for event in EVENTS:
        manifest.apply(event)
        shown.show(manifest, [event])
    assert finished(manifest) == {"search": 1, "featurise": 1, "fold": 1, "write": 0}
    shown.close()
    last = text.getvalue()
    for part in ("Search", "1/2", "Fold", "1/4", "a seed 2 step 7/40", "b: search failed"):
        assert part in last


def test_followed_run_keeps_its_manifest_current(tmp_path: Path):
    """Events that a worker journals reach the display and run.json while the block runs, and all are there at its end."""
    text = io.StringIO()
    manifest = planned(tmp_path / "run")
    journal = Journal(tmp_path / "run", writer="worker-1")
    with followed(manifest, display(Console(file=text, width=1000), manifest, 2)):
        for event in EVENTS[:6]:
            journal.emit(event)
        deadline = time.monotonic() + 60
        while "seed 1 folded" not in text.getvalue() or not (tmp_path / "run" / "run.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for event in EVENTS[6:]:
            journal.emit(event)
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert document["jobs"]["a"]["stages"]["fold"]["1"]["status"] == "done"
    assert document["jobs"]["b"]["stages"]["search"]["error"] == "bad alignment"
    assert "b: search failed" in text.getvalue() and not (tmp_path / "run" / ".journal").exists()
