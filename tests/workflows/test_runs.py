"""`structgen runs`: what it says of runs, work taken up again exactly or refused, and what is removed and what never."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from pathlib import Path

import pytest

from structgen.manifest import run_lock
from structgen.storage.folder import Folder
from structgen.storage.tree import publish_tree, tree_key, tree_parts
from structgen.store import open_store
from tests.workflows.conftest import Command, differing, results, start_command
from tests.workflows.test_cli import attempts, sequence, write_fasta
from tests.workflows.test_resume import kill_in_the_middle

FAST = ["--samples", "1", "--steps", "4", "--cycles", "1"]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "in" / "batch.fasta", [(f"job{n}", sequence(n)) for n in range(6)])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - 86400 * days,) * 2)


def artifacts(tmp_path: Path) -> set[str]:
    return {item.name for item in Folder(tmp_path / "store").items()}


def test_list_and_show_say_what_runs_are(command: Command, tmp_path: Path, batch: Path):
    """Done, failed, running and damaged runs, one line each; every stage with its attempts; refused records; as JSON too."""
    write_fasta(tmp_path / "bad.fasta", [("good", sequence(1)), ("bad", "AC4GT")])
    assert command("predict", "in/batch.fasta", "--out", "runs/a", "--seeds", "1,2", *FAST).status == 0
    assert command("predict", "bad.fasta", "--out", "runs/deep/er/b", *FAST).status == 2
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "run.json").write_text('{"schema": 1, "jobs"')
    outcome = command("runs", "list")
    assert outcome.status == 3
    lines = [re.split(r"\s+", line)[:5] for line in outcome.text.splitlines()]
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("done", "6/6", "runs/a"),
        ("damaged", "0/0", "runs/c"),
        ("failed", "1/2", "runs/deep/er/b"),
    ]
    assert "tiny" in outcome.text and "1 refused" in outcome.text
    shutil.rmtree(tmp_path / "runs" / "c")
    with run_lock(tmp_path / "runs" / "a"):
        (first, second) = json.loads(command("runs", "list", "runs", "--json").text)
    assert first["state"] == "running" and second["refused"] == 1
    shown = command("runs", "show", "runs/a", "--job", "job3").text
    assert re.search(r"fold +seed 2 +done +1 attempts +\d+\.\d s +[0-9a-f]{12}", shown) and "job2" not in shown
    assert "in/batch.fasta" in shown and str(tmp_path) in shown and "in process" in shown
    assert "refused  bad.fasta: record 2" in command("runs", "show", "runs/deep/er/b").text
    assert json.loads(command("runs", "show", "runs/a", "--json").text)["request"]["inputs"] == ["in/batch.fasta"]
    assert command("runs", "show", "runs/a", "--job", "absent").status == 2
    assert command("runs", "show", "runs").status == 2 and command("runs", "list", "absent").status == 2


def test_resume_asks_for_the_same_again_from_anywhere(
    command: Command, checkpoint: Path, batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A killed run, moved to another place and resumed from another folder, ends as one that was never killed."""
    (tmp_path / "config.yaml").write_text("seeds: [3, 4]\nsampling: {samples: 1, steps: 5, cycles: 1}\n")
    options = ["in", "--config", "config.yaml"]
    kill_in_the_middle(start_command(checkpoint, tmp_path, *options, "--out", "first"), tmp_path / "first", written=2)
    (tmp_path / "first").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    outcome = command("runs", "resume", tmp_path / "moved")
    assert outcome.status == 0 and "6 of 6 done" in outcome.text, outcome.text
    assert Path.cwd() == tmp_path
    assert command("predict", *options, "--out", "whole", "--store", "other").status == 0
    assert differing(results(tmp_path / "moved"), results(tmp_path / "whole")) == {}
    before = attempts(tmp_path / "moved")
    assert command("runs", "resume", "moved").status == 0 and attempts(tmp_path / "moved") == before


def test_resume_names_what_changed_and_touches_nothing(command: Command, batch: Path, tmp_path: Path):
    """A changed, a new and a gone input, a changed alignment: each is named; the results stay; --accept-changes goes on."""
    (tmp_path / "msa").mkdir()
    (tmp_path / "msa" / "one.a3m").write_text(f">q\n{sequence(1)}\n")
    shutil.copy(batch, tmp_path / "in" / "more.fasta")
    assert command("predict", "in", "--out", "run", "--msa", "msa", *FAST).status == 0
    before = results(tmp_path / "run")
    (tmp_path / "in" / "more.fasta").unlink()
    write_fasta(tmp_path / "in" / "new.fasta", [("new", sequence(11))])
    batch.write_text(batch.read_text().replace("job0", "renamed"))
    (tmp_path / "msa" / "one.a3m").write_text(f">q\n{sequence(1)}\n>r\n{sequence(1)}\n")
    outcome = command("runs", "resume", "run")
    assert outcome.status == 2
    for text in ("batch.fasta changed", "more.fasta is gone", "new.fasta is new", "one.a3m changed", "--accept-changes"):
        assert text in outcome.text
    assert differing(results(tmp_path / "run"), before) == {}
    assert command("runs", "resume", "run", "--accept-changes").status == 0
    assert (tmp_path / "run" / "new").is_dir() and (tmp_path / "run" / "renamed").is_dir()
    assert command("runs", "resume", "run").status == 0


def test_resume_refuses_other_weights_and_runs_without_a_request(command: Command, checkpoint: Path, batch: Path, tmp_path: Path):
    """The checkpoint under the same name is another one; a run.json of an older structgen has no request."""
    shutil.copy(checkpoint, tmp_path / "own.safetensors")
    assert command("predict", "in", "--out", "run", "--model", "own.safetensors", *FAST).status == 0
    content = bytearray((tmp_path / "own.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "own.safetensors").write_bytes(content)
    outcome = command("runs", "resume", "run")
    assert outcome.status == 2 and "weights:" in outcome.text
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({k: v for k, v in document.items() if k != "request"}))
    assert "does not say by which request" in command("runs", "resume", "run").text


def test_gc_removes_what_no_run_needs_and_is_old(command: Command, batch: Path, tmp_path: Path):
    """Dry: nothing goes. Then old artifacts of a deleted run go, young ones and those of the run that is left stay, and it is all hits."""
    write_fasta(tmp_path / "other.fasta", [("other", sequence(13)), ("job1", sequence(1))])
    assert command("predict", "in", "--out", "runs/kept", *FAST).status == 0
    kept = artifacts(tmp_path)
    assert command("predict", "other.fasta", "--out", "runs/gone", *FAST).status == 0
    shutil.rmtree(tmp_path / "runs" / "gone")
    extra = sorted(artifacts(tmp_path) - kept)
    assert len(extra) == 2  # features and fold of `other`; job1 is shared
    for key in artifacts(tmp_path) - {extra[0]}:
        age(Folder(tmp_path / "store").path(key), 40)
    for name in ("store/tmp/x.1.tmp", "store/tmp/x.2.damaged", "runs/kept/.run.json.0.tmp"):
        (tmp_path / name).write_bytes(b"half" * 300)
        age(tmp_path / name, 2)
    said = command("runs", "gc", "runs", "--dry-run", "--list")
    assert said.status == 0 and "2 litter of the store would go, 2.3 KiB" in said.text and extra[1] in said.text
    assert "1 litter of the runs would go, 1.2 KiB" in said.text and "1 artifacts that none of 1 runs needs would go" in said.text
    assert artifacts(tmp_path) == kept | set(extra) and (tmp_path / "store/tmp/x.1.tmp").exists()
    assert command("runs", "gc").status == 0  # no folders: litter of the store alone
    assert artifacts(tmp_path) == kept | set(extra) and not list((tmp_path / "store" / "tmp").glob("x.*"))
    assert command("runs", "gc", "runs").status == 0
    assert artifacts(tmp_path) == kept | {extra[0]} and not list((tmp_path / "runs" / "kept").glob(".*.tmp"))
    assert command("runs", "gc", "runs", "--older-than", "0s").status == 0
    assert artifacts(tmp_path) == kept
    assert command("predict", "in", "--out", "runs/again", *FAST).status == 0
    assert {n for (_, stage, _), n in attempts(tmp_path / "runs" / "again").items() if stage != "write"} == {0}


def test_gc_never_touches_what_a_live_run_uses(command: Command, checkpoint: Path, batch: Path, tmp_path: Path):
    """While a run is at work, wherever its folder is, no artifact of its store goes."""
    (tmp_path / "runs").mkdir()
    assert command("predict", "in", "--out", "runs/other", *FAST).status == 0
    slow = ["in", "--out", "elsewhere/run", "--seeds", "7", "--samples", "1", "--steps", "400", "--cycles", "1"]
    process = start_command(checkpoint, tmp_path, *slow)
    try:
        deadline = time.monotonic() + 120
        while len(artifacts(tmp_path)) < 13 and time.monotonic() < deadline:
            time.sleep(0.05)
        before = artifacts(tmp_path)
        outcome = command("runs", "gc", "runs", "--older-than", "0s")
        assert process.poll() is None, (tmp_path / "output.txt").read_text()
        assert outcome.status == 0 and "artifacts stay: a run uses" in outcome.text
        assert before <= artifacts(tmp_path)
    finally:
        process.kill()
        process.wait()
    assert command("runs", "gc", "runs", "--older-than", "0s").status == 0
    assert artifacts(tmp_path) < before


def test_gc_is_refused_where_it_cannot_be_known_what_is_needed(command: Command, batch: Path, tmp_path: Path):
    """A folder without a run of this store, a damaged account, a wrong age: nothing goes."""
    assert command("predict", "in", "--out", "runs/a", *FAST).status == 0
    before = artifacts(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no run under empty uses the store" in command("runs", "gc", "empty", "--older-than", "0s").text
    assert command("runs", "gc", "runs", "--older-than", "soon").status == 2
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "run.json").write_text("{")
    assert command("runs", "gc", "runs", "--older-than", "0s").status == 2
    assert artifacts(tmp_path) == before


def test_gc_of_a_bucket(command: Command, batch: Path, tmp_path: Path, s3: str):
    """The same in an object store: what a run needs stays, the rest goes, and a user of the bucket keeps all."""
    store = open_store("s3://artifacts/gc")
    assert command("predict", "in", "--out", "runs/a", "--store", "s3://artifacts/gc", *FAST).status == 0
    needed = {item.name for item in store.shelf.items()}
    store.publish("f" * 64, b"of nobody")
    publish_tree(store, min(needed), batch.parent)  # a folder that belongs to an artifact of the run
    needed |= {tree_key(min(needed)), *tree_parts(store, min(needed))}
    time.sleep(1.1)  # times of an object store are whole seconds
    with store.in_use():
        outcome = command("runs", "gc", "runs", "--store", "s3://artifacts/gc", "--older-than", "0s")
        assert outcome.status == 0 and "artifacts stay" in outcome.text and store.holds("f" * 64)
    assert command("runs", "gc", "runs", "--store", "s3://artifacts/gc", "--older-than", "0s").status == 0
    assert {item.name for item in store.shelf.items()} == needed


def test_nothing_of_a_run_is_writable_by_others_whatever_the_umask(command: Command, batch: Path, tmp_path: Path):
    """Every file and folder of a run and its store, made under umask 0."""
    old = os.umask(0)
    try:
        assert command("predict", "in", "--out", "run", *FAST).status == 0
    finally:
        os.umask(old)
    made = [path for root in ("run", "store") for path in [tmp_path / root, *(tmp_path / root).rglob("*")]]
    assert len(made) > 60
    assert [str(path) for path in made if stat.S_IMODE(path.lstat().st_mode) & (stat.S_IWOTH | stat.S_IWGRP)] == []
