"""The sha256 of a large file, computed once for as long as the file stays what it is."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from structgen.errors import InputError
from structgen.store import ArtifactError, Store, artifact_key

_SETTLED = 2.0  # seconds since the last change, by which clocks of file systems may be wrong: a younger file can change unseen


def file_digest(path: Path, store: Store, expected: str = "a readable file") -> str:
    """Hex sha256 of the content, from the store where path, size, time of change and inode are as they were when it was computed.

    A file that changed less than two seconds ago is never taken as known. Raises `InputError` where it cannot be read.
    """
    try:
        state = os.stat(path)
        key = artifact_key("file digest", 1, parameters=_identity(path, state), inputs=[])
        if known := _known(store, key):
            return known
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), expected=expected) from error
    if time.time() - state.st_mtime > _SETTLED and _identity(path, os.stat(path)) == _identity(path, state):
        store.publish(key, digest.encode())
    return digest


def _known(store: Store, key: str) -> str:
    try:
        return store.read(key).decode()
    except ArtifactError:
        return ""


def _identity(path: Path, state: os.stat_result) -> dict[str, str | int]:
    return {"path": str(path.resolve()), "size": state.st_size, "modified": state.st_mtime_ns, "inode": state.st_ino}
