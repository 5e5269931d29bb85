"""The store: content addressing, exclusive publication, and survival of killed writers."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from structgen.storage.folder import Folder
from structgen.store import ArtifactError, Store, artifact_key, canonical_json, open_store, replace_file

KEY = "ab" + "0" * 62


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_key_changes_with_everything_that_decides_the_content_and_with_nothing_else():
    """Any one of stage, version, parameters, weights and inputs gives another key; the order of parameters does not."""
    plain = {"parameters": {"a": 1, "b": 0.5}, "inputs": ["x", "y"], "weights": "w"}
    keys = [
        artifact_key("fold", 1, **plain),
        artifact_key("write", 1, **plain),
        artifact_key("fold", 2, **plain),
        artifact_key("fold", 1, **{**plain, "parameters": {"a": 1, "b": 0.25}}),
        artifact_key("fold", 1, **{**plain, "weights": ""}),
        artifact_key("fold", 1, **{**plain, "inputs": ["y", "x"]}),
    ]
    assert len(set(keys)) == len(keys)
    assert artifact_key("fold", 1, **{**plain, "parameters": {"b": 0.5, "a": 1}}) == keys[0]


def test_key_is_the_hash_of_written_down_json():
    """The key can be made by any other program: it pins the canonical form."""
    text = '{"inputs":["x"],"parameters":{"a":1,"b":"\\u00e9"},"stage":"s","version":3,"weights":"w"}'
    assert artifact_key("s", 3, parameters={"b": "é", "a": 1}, inputs=["x"], weights="w") == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


@pytest.mark.parametrize("payload", [b"", b"\n", b"line\nline\n", bytes(range(256)) * 4096])
def test_what_is_published_is_read_back(store: Store, payload: bytes):
    """Any bytes, also empty ones and newlines, come back as they were."""
    assert not store.holds(KEY)
    assert store.publish(KEY, payload)
    assert store.holds(KEY)
    assert store.read(KEY) == payload
    assert Folder(store.root).path(KEY) == store.root / "ab" / KEY


def test_second_writer_loses(store: Store):
    """The first content stays, and the second writer is told."""
    assert store.publish(KEY, b"first")
    assert not store.publish(KEY, b"second")
    assert store.read(KEY) == b"first"
    assert not list((store.root / "tmp").iterdir())


def test_nothing_is_writable_by_others_whatever_the_umask(tmp_path: Path):
    """Files are 0644 and folders 0755 even under umask 0."""
    old = os.umask(0)
    try:
        store = Store(tmp_path / "a" / "b" / "store")
        store.publish(KEY, b"x")
        replace_file(store.root / "run.json", b"{}")
    finally:
        os.umask(old)
    assert stat.S_IMODE(Folder(store.root).path(KEY).stat().st_mode) == 0o644
    assert stat.S_IMODE((store.root / "run.json").stat().st_mode) == 0o644
    for folder in [Folder(store.root).path(KEY).parent, store.root, store.root / "tmp", tmp_path / "a", tmp_path / "a" / "b"]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755, folder


def _cut(content: bytes) -> bytes:
    return content[:-3]


def _flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _headless(content: bytes) -> bytes:
    return content.partition(b"\n")[2]


@pytest.mark.parametrize("damage", [_cut, _flip, _headless, lambda content: b"", lambda content: content + b"more"])
def test_damaged_artifact_is_refused_and_made_again(store: Store, damage, caplog):
    """A reader never gets bytes that differ from those published; the damaged file is set aside and the key is free."""
    store.publish(KEY, b"payload" * 100)
    path = Folder(store.root).path(KEY)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match="damaged"):
        store.read(KEY)
    assert "damaged" in caplog.text
    assert not store.holds(KEY)
    assert store.publish(KEY, b"payload" * 100)
    path.write_bytes(damage(path.read_bytes()))
    assert not store.holds(KEY)
    assert len(list((store.root / "tmp").glob("*.damaged"))) == 2


def test_missing_artifact_says_what_to_do(store: Store):
    """The error names the key and the remedy."""
    with pytest.raises(ArtifactError, match=f"{KEY}.*run the same command again"):
        store.read(KEY)


def _race(root: str, worker: int, barrier, wins) -> None:
    store = Store(Path(root))
    for n in range(50):
        barrier.wait()
        key = f"{n:02x}".ljust(64, "0")
        if store.publish(key, f"{worker}:{n}".encode() * 1000):
            wins.put((worker, n))


def test_racing_processes_publish_each_key_once(store: Store):
    """Of several processes that publish one key at one moment exactly one wins, and its bytes are the ones that are read."""
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_race, args=(str(store.root), worker, barrier, wins)) for worker in range(3)]
    for worker in workers:
        worker.start()
    won = dict(sorted((n, worker) for worker, n in (wins.get(timeout=60) for _ in range(50))))
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert wins.empty() and list(won) == list(range(50))
    for n, worker in won.items():
        assert store.read(f"{n:02x}".ljust(64, "0")) == f"{worker}:{n}".encode() * 1000
    assert not list((store.root / "tmp").iterdir())


def _compute_once(root: str, log: str) -> None:
    store = Store(Path(root))
    with store.exclusive(KEY):
        if not store.holds(KEY):
            with open(log, "a") as file:
                file.write("computed\n")
            time.sleep(0.2)
            store.publish(KEY, b"x")


def test_exclusive_makes_racing_processes_compute_once(store: Store, tmp_path: Path):
    """The losers of a race wait and find the artifact; no lock file stays."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_compute_once, args=(str(store.root), str(tmp_path / "log"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert (tmp_path / "log").read_text() == "computed\n"
    assert not list((store.root / "tmp").iterdir())


WRITER = """
import sys
from pathlib import Path
from structgen.store import Store
store = Store(Path(sys.argv[1]))
n = 0
while True:
    key = f"{n % 256:02x}{n:062x}"
    with store.exclusive(key):
        store.publish(key, n.to_bytes(4, "big") * 200_000)
    print(n, flush=True)
    n += 1
"""


def test_killed_writer_leaves_only_whole_artifacts(store: Store):
    """SIGKILL at any moment: every visible artifact is whole, its key's lock is free, and the next writer goes on."""
    for trial in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(store.root)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(3 + trial):
            writer.stdout.readline()
        time.sleep(0.0007 * trial)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        visible = [path for path in store.root.glob("??/*") if path.parent.name != "tmp"]
        assert len(visible) >= 3
        for path in visible:
            assert store.read(path.name) == int(path.name[2:], 16).to_bytes(4, "big") * 200_000
    with store.exclusive(f"{0:02x}{0:062x}"):
        assert store.holds(f"{0:02x}{0:062x}")


def test_torn_temp_file_is_harmless_and_swept_when_old(store: Store):
    """A half-written temp file is never read; it goes when it is a day old, and a fresh one (a live writer's) stays."""
    store.publish(KEY, b"x")
    old, fresh = store.root / "tmp" / f"{KEY}.1.tmp", store.root / "tmp" / f"{KEY}.2.tmp"
    for path in (old, fresh):
        path.write_bytes(b"structgen-artifact-1 sha256=0")
    os.utime(old, (time.time() - 90000,) * 2)
    assert store.read(KEY) == b"x"
    assert store.sweep() == 1
    assert fresh.exists() and not old.exists()


def test_default_store_follows_the_environment(monkeypatch: pytest.MonkeyPatch):
    """STRUCTGEN_STORE first, then XDG_CACHE_HOME, then HOME."""
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("STRUCTGEN_STORE", raising=False)
    assert open_store().root == Path("/home/someone/.cache/structgen/store")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert open_store().root == Path("/cache/structgen/store")
    monkeypatch.setenv("STRUCTGEN_STORE", "/elsewhere")
    assert open_store().root == Path("/elsewhere")
