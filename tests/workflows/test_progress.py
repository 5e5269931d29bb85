"""What a run shows: bars on a terminal, lines elsewhere, both from the journals."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console

from structgen.manifest import Event, Journal, RunManifest
from workflows.progress import Bars, Lines, display, finished, followed, standing

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
    assert document["progress"]["fold"]["running"] == 1 and document["progress"]["fold"]["seconds"] == 2.0


def test_standing_counts_every_piece_of_work_once(tmp_path: Path):
    """Of each stage as many pieces as jobs, of Fold as many as seeds; what comes after a failure does not wait; seconds add up."""
    manifest = planned(tmp_path / "run")
    manifest.document["settings"] = {"seeds": [1, 2]}
    before = standing(manifest)
    assert (before["search"]["waiting"], before["fold"]["waiting"], before["fold"]["of"]) == (2, 4, 4)
    for event in EVENTS:
        manifest.apply(event)
    stand = standing(manifest)
    assert stand["search"] == {"of": 2, "waiting": 0, "running": 0, "done": 1, "failed": 1, "seconds": 0.0}
    assert stand["featurise"] == {"of": 2, "waiting": 0, "running": 0, "done": 1, "failed": 0, "seconds": 0.1}
    assert stand["fold"] == {"of": 4, "waiting": 0, "running": 1, "done": 1, "failed": 0, "seconds": 2.0}
    assert stand["write"]["waiting"] == 1


def scraped(text: str, name: str, run: str) -> dict[tuple[str, ...], float]:
    """A run's samples of a metric in Prometheus' text format: values of stage, how and status, to the number."""
    found: dict[tuple[str, ...], float] = {}
    for line in text.splitlines():
        if line.startswith(name + "{"):
            labels = dict(part.split("=", 1) for part in line[len(name) + 1 : line.index("}")].split(",") if "=" in part)
            key = tuple(labels[label].strip('"') for label in ("stage", "how", "status") if label in labels)
            if labels["run"].strip('"') != run:
                continue
            found[key] = found.get(key, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


@pytest.mark.timeout(600)
def test_metrics_are_exported_for_prometheus(ray_session: None, tmp_path: Path):
    """The endpoint of a node tells ends by stage, cache hits, seconds, GPU seconds and the queue, as a scrape reads them."""
    import ray

    from workflows.metrics import Metered

    manifest = planned(tmp_path / "run")
    run = "a run of its own"  # the cluster is that of all tests
    shown = Metered(Lines(Console(file=io.StringIO()), manifest), run, gpus=2.0)
    for event in EVENTS:
        manifest.apply(event)
    shown.show(manifest, EVENTS)
    node = next(node for node in ray.nodes() if node["Alive"])
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline, text = time.monotonic() + 240, ""
    while not all(scraped(text, f"ray_structgen_{name}", run) for name in ("gpu_seconds_total", "stage")):
        assert time.monotonic() < deadline, text[-2000:]
        time.sleep(1.0)
        with urllib.request.urlopen(url, timeout=30) as reply:
            text = reply.read().decode()
    ended = scraped(text, "ray_structgen_stage_ended_total", run)
    assert ended["fold", "done"] == 1 and ended["search", "failed"] == 1 and ended["search", "reused"] == 1
    assert scraped(text, "ray_structgen_cache_hits_total", run) == {("search",): 1.0}
    assert scraped(text, "ray_structgen_stage_seconds_total", run)["fold",] == 2.0
    assert sum(scraped(text, "ray_structgen_gpu_seconds_total", run).values()) == 4.0
    now = scraped(text, "ray_structgen_stage", run)
    assert now["fold", "running"] == 1 and now["write", "waiting"] == 1
