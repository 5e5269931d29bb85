"""Parts of an archive: groups of zarr v3 arrays that one writer writes once and readers trust.

A part is made under another name, renamed, and then marked with `_COMMITTED.json`, which holds the sha256 of all its files. Whatever is
not marked does not exist: it is removed and made again. Every array is one shard, so no two writers ever meet in a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from structgen.errors import InputError
from structgen.store import fsync_folder, replace_file

MARK = "_COMMITTED.json"
CHUNK = 1 << 20  # bytes, about: what is read at once


def is_committed(part: Path) -> bool:
    """Whether the part is there, whole."""
    return (part / MARK).is_file()


def write_part(part: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Publish arrays and what is said of them (plain JSON) as one part. One that is there already stays; an unmarked one is replaced."""
    if is_committed(part):
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    for litter in (part, *part.parent.glob(f".{part.name}.tmp-*")):
        shutil.rmtree(litter, ignore_errors=True)
    temporary = part.with_name(f".{part.name}.tmp-{uuid.uuid4().hex}")
    group = zarr.create_group(temporary, zarr_format=3, attributes=dict(attributes))
    for name, array in arrays.items():
        _write(group, name, array)
    digests = file_digests(temporary, sync=True)
    os.rename(temporary, part)
    fsync_folder(part.parent)
    replace_file(part / MARK, json.dumps({"files": digests}, indent=1, sort_keys=True).encode())


def _write(group: zarr.Group, name: str, array: np.ndarray) -> None:
    """One array in one shard, cut along its first axis into chunks."""
    array = np.ascontiguousarray(array)
    row = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    rows = max(1, min(len(array), CHUNK // row))
    whole = rows * max(1, -(-len(array) // rows))
    tail = tuple(max(1, size) for size in array.shape[1:])
    stored = group.create_array(
        name, shape=array.shape, dtype=array.dtype, chunks=(rows, *tail), shards=(whole, *tail), compressors=[ZstdCodec(level=5)]
    )
    if array.size:
        stored[...] = array


def open_part(part: Path) -> zarr.Group:
    """The arrays of a part, read only. Raises `InputError` for one that is not marked as whole."""
    if not is_committed(part):
        remedy = "run the command that makes it again: it goes on where it stopped"
        raise InputError("part of an archive is not complete", where=str(part), found=f"no {MARK}", remedy=remedy)
    return zarr.open_group(part, mode="r", zarr_format=3)


def read_array(group: zarr.Group, name: str) -> np.ndarray:
    """A whole array in memory."""
    return np.asarray(group[name][...])  # type: ignore[index]


def array_names(part: Path) -> list[str]:
    """Names of the arrays of a part that is marked as whole."""
    return sorted({name.split("/")[0] for name in json.loads((part / MARK).read_bytes())["files"] if "/" in name})


def file_digests(folder: Path, *, sync: bool = False) -> dict[str, str]:
    """sha256 of every file below a folder but the mark, by relative path. `sync`: and make them durable."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK):
        with open(path, "rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
            if sync:
                os.fsync(file.fileno())
    return found


def mark_digest(part: Path) -> str:
    """One digest for the content of a part: the sha256 of its mark."""
    return hashlib.sha256((part / MARK).read_bytes()).hexdigest()


def damaged(part: Path) -> list[str]:
    """Files of a part that are not what its mark says, missing and unknown ones among them."""
    wanted = json.loads((part / MARK).read_bytes())["files"]
    found = file_digests(part)
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
