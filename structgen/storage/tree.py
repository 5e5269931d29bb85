"""An artifact of many files: a list of them, published last, and their content in parts that are artifacts by content.

So a folder is there with all of its files or not at all, on any shelf, without renaming or locking a folder; equal parts of several
folders lie there once; and no file has to fit into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from structgen.errors import InputError
from structgen.io.folder import publish_folder
from structgen.store import ArtifactError, Store, artifact_key, canonical_json

PART = 16 * 2**20  # bytes


def tree_key(key: str) -> str:
    """Of the list of files of the artifact `key`."""
    return artifact_key("tree", 1, parameters={}, inputs=[key])


def publish_tree(store: Store, key: str, folder: Path) -> bool:
    """Make a folder visible as the artifact `key`, whole and durable. False when another writer was first (its files stay).

    Raises `InputError` for what is neither file nor folder: a link would point to something else where the artifact is restored.
    """
    files: dict[str, list[str]] = {}
    empty: list[str] = []
    for parent, folders, names in os.walk(folder):
        place = Path(parent)
        for path in (place / name for name in sorted([*folders, *names])):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise InputError("cannot be part of an artifact", where=str(path), found="a link or a device", expected="files and folders")
        files |= {str(PurePosixPath((place / name).relative_to(folder))): _publish_parts(store, place / name) for name in sorted(names)}
        empty += [] if folders or names or place == folder else [str(PurePosixPath(place.relative_to(folder)))]
    return store.publish(tree_key(key), canonical_json({"files": files, "folders": sorted(empty)}).encode())


def restore_tree(store: Store, key: str, target: Path) -> None:
    """Put the files of an artifact at `target`, which appears with all of them. Raises `ArtifactError` where one is missing or damaged."""
    listed = _listed(store, key)
    names = [*listed["files"], *listed["folders"]]
    for name in names:
        if not _is_inside(name):
            raise ArtifactError(f"artifact {key} in {store.root} names {name!r}, which is not in its folder; it is not restored")

    def fill(folder: Path) -> None:
        for name in listed["folders"]:
            (folder / name).mkdir(parents=True)
        for name, parts in listed["files"].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "xb") as file:
                file.writelines(store.read(part) for part in parts)

    publish_folder(target, fill)


def holds_tree(store: Store, key: str) -> bool:
    """Whether the artifact is there with all of its files."""
    return store.holds(tree_key(key)) and all(store.holds(part) for part in tree_parts(store, key))


def tree_parts(store: Store, key: str) -> Iterator[str]:
    """Keys of all parts of its files."""
    return (part for parts in _listed(store, key)["files"].values() for part in parts)


def _listed(store: Store, key: str) -> dict[str, Any]:
    return json.loads(store.read(tree_key(key)))


def _publish_parts(store: Store, path: Path) -> list[str]:
    keys = []
    with open(path, "rb") as file:
        while content := file.read(PART):
            key = artifact_key("part", 1, parameters={}, inputs=[hashlib.sha256(content).hexdigest()])
            if not store.holds(key):
                store.publish(key, content)
            keys.append(key)
    return keys


def _is_inside(name: str) -> bool:
    """Whether a name, read as a path, stays in the folder that it is joined to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name and str(path) == name
