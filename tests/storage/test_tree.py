"""Artifacts of many files, in a folder and in a bucket: whole or not at all, whoever dies, and inside their own folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from structgen.errors import InputError
from structgen.storage import tree
from structgen.storage.tree import holds_tree, publish_tree, restore_tree, tree_key, tree_parts
from structgen.store import ArtifactError, Store, canonical_json, open_store
from tests.s3_server import REPOSITORY

KEY = "cd" + "1" * 62


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "store")
    request.getfixturevalue("s3")
    return open_store(f"s3://artifacts/tree-{tmp_path.name.lower()}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of several parts, an empty one, two equal ones, an empty folder, a name with blanks and letters of its own."""
    monkeypatch.setattr(tree, "PART", 1000)
    root = tmp_path / "made"
    large = bytes(range(256)) * 10
    for name, content in {"a.bin": large, "sub/é b.txt": b"x", "sub/deep/none": b"", "copy.bin": large}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "empty" / "inner").mkdir(parents=True)
    return root


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_folder_comes_back_as_it_was(store: Store, folder: Path, tmp_path: Path):
    """Every file and empty folder; equal parts lie there once; the second writer loses; an earlier target is replaced."""
    assert not holds_tree(store, KEY)
    assert publish_tree(store, KEY, folder)
    assert holds_tree(store, KEY)
    assert len(list(tree_parts(store, KEY))) == 7 and len(list(store.shelf.items())) == 1 + 4
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "old").touch()
    restore_tree(store, KEY, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)
    (folder / "a.bin").write_bytes(b"other")
    assert not publish_tree(store, KEY, folder)
    restore_tree(store, KEY, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "back")


def test_nothing_is_restored_where_a_part_is_gone(store: Store, folder: Path, tmp_path: Path):
    """The target appears with all files or not at all; the artifact says that it is not whole."""
    publish_tree(store, KEY, folder)
    store.shelf.remove(sorted(set(tree_parts(store, KEY)))[0])
    assert not holds_tree(store, KEY)
    with pytest.raises(ArtifactError, match="run the same command again"):
        restore_tree(store, KEY, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".back")]


WRITER = """
import os, sys
from pathlib import Path
from structgen.storage import tree
from structgen.store import Store, open_store
tree.PART = 1000
publish, published = Store.publish, []
def dying(store, key, payload):
    if len(published) == 2:
        os.kill(os.getpid(), 9)
    published.append(key)
    return publish(store, key, payload)
Store.publish = dying
tree.publish_tree(open_store(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
"""


def test_writer_that_dies_between_files_leaves_no_artifact(store: Store, folder: Path, tmp_path: Path):
    """Parts alone are no artifact; another writer uses them and publishes the whole."""
    words = [sys.executable, "-c", WRITER, str(store.root), KEY, str(folder)]
    assert subprocess.run(words, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}).returncode == -9
    assert len(list(store.shelf.items())) == 2 and not holds_tree(store, KEY)
    assert publish_tree(store, KEY, folder)
    restore_tree(store, KEY, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "", ".", "a//b", "a\0b"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str):
    """A list that somebody else wrote cannot place a file anywhere else; nothing is written at all."""
    store = Store(tmp_path / "store")
    store.publish(tree_key(KEY), canonical_json({"files": {"good": [], name: []}, "folders": []}).encode())
    with pytest.raises(ArtifactError, match="not in its folder"):
        restore_tree(store, KEY, tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc"), lambda path: os.mkfifo(path)], ids=["link", "pipe"])
def test_links_and_devices_are_refused(tmp_path: Path, folder: Path, make: Callable[[Path], None]):
    """They would mean something else elsewhere."""
    make(folder / "sub" / "odd")
    with pytest.raises(InputError, match="a link or a device"):
        publish_tree(Store(tmp_path / "store"), KEY, folder)
    assert not holds_tree(Store(tmp_path / "store"), KEY)
