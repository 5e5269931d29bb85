"""A bucket of a real S3-compatible server as a store: exclusive publication, dying writers, torn answers, rights that expire."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from structgen.errors import ConfigError
from structgen.storage import bucket as module
from structgen.storage import lease
from structgen.storage.bucket import Bucket, StoreError
from structgen.store import ArtifactError, Store, open_store
from tests.s3_server import REPOSITORY
from tests.storage.torn_proxy import Tear, corrupt, cut, proxied, shorten

KEY = "ab" + "0" * 62
PART = 5 * 2**20  # the least that S3 takes, so that uploads in parts are small
LARGE = bytes(range(256)) * (PART // 128 + 1)  # a little more than two parts
SMALL = b"payload" * 1000
NUMBER = itertools.count()


@pytest.fixture
def store(s3: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A place of its own for every test."""
    monkeypatch.setattr(module, "PART", PART)
    return open_store(f"s3://artifacts/test{next(NUMBER)}")


def objects(store: Store) -> set[str]:
    assert isinstance(store.root, Bucket)
    return {item.name for item in store.root._under("")}


def uploads(store: Store) -> list[str]:
    assert isinstance(store.root, Bucket)
    return [item.name for item in store.root._uploads()]


def start(code: str, store: Store, *arguments: str) -> subprocess.Popen[str]:
    """A process that works on the store."""
    before = f"import sys\nfrom structgen.storage import bucket\nfrom structgen.store import open_store\nbucket.PART = {PART}\n"
    words = [sys.executable, "-c", f"{before}store = open_store(sys.argv[1])\n{code}"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([*words, str(store.root), *arguments], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("payload", [b"", b"\n", bytes(range(256)) * 4096, LARGE], ids=["empty", "newline", "1 MiB", "in parts"])
def test_what_is_published_is_read_back(store: Store, payload: bytes):
    """Any bytes come back, from one object, and the second writer of a key loses."""
    assert not store.holds(KEY)
    assert store.publish(KEY, payload)
    assert store.holds(KEY)
    assert store.read(KEY) == payload
    assert not store.publish(KEY, b"other")
    assert payload != LARGE or not store.publish(KEY, LARGE[::-1])
    assert store.read(KEY) == payload
    assert objects(store) == {f"ab/{KEY}"} and uploads(store) == []


RACE = """
import time
for n in range(8):
    time.sleep(max(0.0, float(sys.argv[3]) + 0.2 * n - time.time()))
    payload = f"{sys.argv[2]}:{n}".encode() * (4_000_000 if n == 7 else 1000)
    if store.publish(f"{n:02x}".ljust(64, "0"), payload):
        print(n, flush=True)
"""


def test_racing_processes_publish_each_key_once(store: Store):
    """Of three processes that publish one key at one moment one wins, and its bytes are the ones that are read; in parts too."""
    begin = time.time() + 4
    racers = [start(RACE, store, str(worker), str(begin)) for worker in range(3)]
    won = {int(n): worker for worker, racer in enumerate(racers) for n in racer.communicate(timeout=120)[0].split()}
    assert all(racer.returncode == 0 for racer in racers)
    assert sorted(won) == list(range(8))
    for n, worker in won.items():
        assert store.read(f"{n:02x}".ljust(64, "0")) == f"{worker}:{n}".encode() * (4_000_000 if n == 7 else 1000)
    assert uploads(store) == [] and len(objects(store)) == 8


WRITER = """
n = 0
while True:
    store.publish(f"{n:02x}".ljust(64, "0"), bytes([n]) * 1_000_000)
    print(n, flush=True)
    n += 1
"""


def test_killed_writer_leaves_only_whole_artifacts(store: Store):
    """SIGKILL at any moment: what is visible is whole."""
    for trial in range(3):
        writer = start(WRITER, store)
        assert writer.stdout is not None
        for _ in range(2):
            writer.stdout.readline()
        time.sleep(0.004 * trial)
        writer.kill()
        writer.wait()
    keys = [item.name for item in store.shelf.items()]
    assert len(keys) >= 2
    assert all(store.read(key) == bytes([int(key[:2], 16)]) * 1_000_000 for key in keys)


def test_writer_killed_between_parts_leaves_nothing_visible(store: Store, s3: str, monkeypatch: pytest.MonkeyPatch):
    """The second part never gets its answer: no object; another writer publishes; the dead upload is litter that can be cleared."""
    stuck, release = threading.Event(), threading.Event()

    def hold(handler, answer, body) -> bool:
        if "partNumber=2" in handler.path:
            stuck.set()
            release.wait(60)
        return False

    with proxied(s3, hold) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        writer = start(f"store.publish({KEY!r}, bytes(range(256)) * {len(LARGE) // 256})", store)
        assert stuck.wait(60)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        release.set()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    assert not store.holds(KEY) and objects(store) == set() and len(uploads(store)) == 1
    assert store.publish(KEY, b"from another") and store.read(KEY) == b"from another"
    (litter,) = store.shelf.litter(0)  # moto says of every upload that it began in 2010
    store.shelf.clear(litter)
    assert uploads(store) == [] and store.read(KEY) == b"from another"


@pytest.mark.parametrize(("tear", "payload"), [(cut, SMALL), (shorten, SMALL), (corrupt, SMALL), (cut, LARGE), (corrupt, LARGE)])
def test_torn_answers_are_asked_for_again(store: Store, s3: str, monkeypatch: pytest.MonkeyPatch, tear: Tear, payload: bytes):
    """A body that is cut, shortened or changed on its way never becomes a payload; the next, whole answer does."""
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))
    store.publish(KEY, payload)
    torn = []

    def first(handler, answer, body) -> bool:
        if handler.command == "PUT" or torn:
            return False
        torn.append(handler.path)
        return tear(handler, answer, body)

    with proxied(s3, first) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert store.read(KEY) == payload
    assert len(torn) == 1


@pytest.mark.parametrize("tear", [cut, shorten])
def test_whole_object_that_always_comes_torn_stays(store: Store, s3: str, monkeypatch: pytest.MonkeyPatch, tear: Tear):
    """An error says so, and the object, which is whole where it lies, is not set aside."""
    monkeypatch.setattr(module, "PAUSES", (0.0,))
    store.publish(KEY, b"payload" * 1000)
    with proxied(s3, lambda handler, answer, body: handler.command == "GET" and tear(handler, answer, body)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StoreError):
            store.read(KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    assert store.read(KEY) == b"payload" * 1000 and objects(store) == {f"ab/{KEY}"}


def test_damaged_object_is_set_aside(store: Store):
    """What is damaged where it lies, and not on its way, is refused, and its key is free."""
    store.publish(KEY, b"payload" * 100)
    assert isinstance(store.root, Bucket)
    store.root.replace(f"ab/{KEY}", b"structgen-artifact-1 sha256=0 bytes=4\nbad")
    with pytest.raises(ArtifactError, match="damaged"):
        store.read(KEY)
    assert not store.holds(KEY)
    assert [name.endswith(".damaged") for name in objects(store)] == [True]
    assert store.publish(KEY, b"payload" * 100)


COMPUTE = f"""
import time
with store.exclusive({KEY!r}):
    if not store.holds({KEY!r}):
        print("computed", flush=True)
        time.sleep(1)
        store.publish({KEY!r}, b"x")
"""


def test_exclusive_makes_racing_processes_compute_once(store: Store):
    """The losers wait and find the artifact; nothing else stays."""
    workers = [start(COMPUTE, store) for _ in range(3)]
    assert sorted(worker.communicate(timeout=60)[0] for worker in workers) == ["", "", "computed\n"]
    assert objects(store) == {f"ab/{KEY}"}


def test_right_of_a_dead_holder_expires_and_that_of_a_live_one_does_not(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A right is renewed while its holder lives, however long; without its holder it lasts a while only."""
    monkeypatch.setattr(lease, "SECONDS", 3.0)
    assert isinstance(store.root, Bucket)
    with store.exclusive(KEY):
        time.sleep(4.5)
        assert lease.is_held(store.root, f"tmp/{KEY}.lock")
    store.root.create(f"tmp/{KEY}.lock", b"")  # as one who was killed leaves it
    began = time.monotonic()
    with store.exclusive(KEY):
        assert time.monotonic() - began > 1
    assert objects(store) == set()


def test_nothing_is_removed_while_somebody_uses_the_store(store: Store):
    """A removal sees a user; a user waits for a removal."""
    with store.in_use(), store.shelf.unused() as alone:
        assert not alone

    def use() -> None:
        with store.in_use():
            return

    user = threading.Thread(target=use)
    with store.shelf.unused() as alone:
        assert alone
        user.start()
        user.join(1.5)
        assert user.is_alive()
    user.join(30)
    assert not user.is_alive() and objects(store) == set()


def test_errors_say_what_to_do(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No bucket, no server, no credentials, no name: each in words."""
    with pytest.raises(ConfigError, match="no such bucket"):
        Bucket("s3://absent/x").check()
    for place in ("s3://", "s3://UPPER/x", "s3://artifacts/../x?y", "s3://a"):
        with pytest.raises(ConfigError, match="expected s3://bucket"):
            open_store(place)
    with pytest.raises(ArtifactError, match="run the same command again"):
        open_store("s3://artifacts/none").read(KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL"):
        Bucket("s3://artifacts/x").check()


def test_server_that_overwrites_is_refused(s3: str, monkeypatch: pytest.MonkeyPatch):
    """A server that ignores the condition is found out before anything is published."""

    def check(self, name, content) -> bool:
        self.replace(name, content)
        return True

    monkeypatch.setattr(Bucket, "create", check)
    with pytest.raises(ConfigError, match="does not honour If-None-Match"):
        Bucket("s3://artifacts/x").check()
