"""A folder as a shelf: what shared file systems do to links and names, use and removal, litter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from structgen.errors import ConfigError
from structgen.storage.folder import Folder
from structgen.storage.seal import seal
from tests.s3_server import REPOSITORY

KEY = "ab" + "0" * 62


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "store")


def test_lost_answer_to_a_link_is_no_lost_race(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """NFS makes a link, loses the answer, asks again and finds the name taken: the writer still was the first."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert folder.put(KEY, seal(b"mine"))
    assert not folder.put(KEY, seal(b"other"))
    assert folder.get(KEY) == seal(b"mine")


def test_name_that_a_node_has_not_seen_yet_is_looked_up_again(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """A node that remembers the absence of a file finds it after a look into the folder."""
    folder.put(KEY, seal(b"x"))
    looked = []
    listdir, opened = os.listdir, open

    def stale(path, *arguments, **options):
        if path == folder.path(KEY) and not looked:
            raise FileNotFoundError(path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", stale)
    monkeypatch.setattr(os, "listdir", lambda path: looked.append(path) or listdir(path))
    assert folder.holds(KEY)
    assert looked == [folder.path(KEY).parent]


def test_folder_without_hard_links_is_refused_before_anything_is_computed(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """The error names the folder and the remedy, and nothing stays there."""

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ConfigError, match=r"no hard links .* on another file system"):
        folder.check()
    assert list((folder.root / "tmp").iterdir()) == []


USER = """
import sys, time
from pathlib import Path
from structgen.storage.folder import Folder
with Folder(Path(sys.argv[1])).in_use():
    print("in use", flush=True)
    time.sleep(60)
"""


def test_store_is_in_use_as_long_as_its_users_live(folder: Folder):
    """Two users at once; a removal is refused until the last of them ends, be it by SIGKILL."""
    words = [sys.executable, "-c", USER, str(folder.root)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    users = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for user in users:
        assert user.stdout is not None and user.stdout.readline() == "in use\n"
    for user in users:
        with folder.unused() as alone:
            assert not alone
        user.kill()
        user.wait()
    with folder.unused() as alone:
        assert alone


def test_litter_is_what_the_dead_left_and_nothing_that_is_held(folder: Folder):
    """Old temp files and forgotten locks go; a lock that is held and whatever is published stay."""
    folder.put(KEY, seal(b"x"))
    with folder.exclusive("held"):
        for name in ("dead.1.tmp", "dead.2.damaged", "forgotten.lock"):
            (folder.root / "tmp" / name).write_bytes(b"half")
        for path in (folder.root / "tmp").iterdir():
            os.utime(path, (time.time() - 100,) * 2)
        assert folder.litter(200) == []
        litter = folder.litter(50)
        assert len(litter) == 4 and sum(item.size for item in litter) == 12
        for item in litter:
            folder.clear(item)
        assert [path.name for path in (folder.root / "tmp").iterdir()] == ["held.lock"]
    assert [item.name for item in folder.items()] == [KEY]
    folder.remove(KEY)
    folder.remove(KEY)
    assert list(folder.items()) == []
