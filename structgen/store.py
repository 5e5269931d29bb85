"""Artifacts by content: what was computed from the same inputs, with the same settings and weights, is computed once.

An artifact lies at `<store>/<first two hex digits>/<key>`: one header line, which holds the payload's sha256 and length, then the payload.
Execution is at-least-once, publication exactly-once: an artifact appears under its name complete or not at all, a second writer of the
same key loses without harm, and a reader checks the payload against the header before it uses it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from structgen.errors import ConfigError, StructgenError

logger = logging.getLogger(__name__)

MAGIC = b"structgen-artifact-1"
LITTER_AGE = 24 * 3600.0  # seconds; a temp file so old belongs to a writer that was killed


class ArtifactError(StructgenError):
    """An artifact that a stage relies on is gone or damaged; running the same command again makes it anew."""


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no blanks, ASCII, no NaN. Raises `ValueError` or `TypeError` for what JSON cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def artifact_key(stage: str, version: int, *, parameters: Mapping[str, Any], inputs: Sequence[str], weights: str = "") -> str:
    """sha256 over everything that decides an artifact's content; `weights` is the checkpoint's digest, `inputs` are keys or digests."""
    identity = {"stage": stage, "version": version, "parameters": dict(parameters), "weights": weights, "inputs": list(inputs)}
    return hashlib.sha256(canonical_json(identity).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of artifacts that any number of processes and nodes may read and write at once."""

    root: Path

    def path(self, key: str) -> Path:
        """Where the artifact lies or would lie."""
        return self.root / key[:2] / key

    def holds(self, key: str) -> bool:
        """Whether the artifact is there and whole. A damaged one is set aside, with a warning, so that it can be made again."""
        try:
            with open(self.path(key), "rb") as file:
                whole = _is_whole(file)
        except FileNotFoundError:
            return False
        if not whole:
            self._set_aside(key)
        return whole

    def read(self, key: str) -> bytes:
        """The payload. Raises `ArtifactError` when it is missing or does not match its header."""
        try:
            content = self.path(key).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactError(f"artifact {key} is not in {self.root}; run the same command again to make it anew") from error
        header, _, payload = content.partition(b"\n")
        if header != _header(hashlib.sha256(payload).hexdigest(), len(payload)):
            self._set_aside(key)
            raise ArtifactError(f"artifact {key} in {self.root} is damaged and was set aside; run the same command again to make it anew")
        return payload

    def publish(self, key: str, payload: bytes) -> bool:
        """Make the artifact visible, whole and durable. False when another writer was first (its bytes stay)."""
        final = self.path(key)
        _make_folder(final.parent)
        temporary = self._temporary(key)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            with open(descriptor, "wb") as file:
                file.write(_header(hashlib.sha256(payload).hexdigest(), len(payload)) + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            first = _link(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(final.parent)
        return first

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        """Hold the right to compute `key`; others wait, then find it published. The kernel frees it when its holder dies.

        This only saves double work (a file system without locks loses nothing else): publication is exclusive by itself.
        """
        path = self._temporary_folder() / f"{key}.lock"
        with _locked(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what killed writers left behind; returns how many files."""
        oldest = time.time() - LITTER_AGE
        litter = [path for path in self._temporary_folder().iterdir() if path.suffix == ".tmp" and path.stat().st_mtime < oldest]
        for path in litter:
            path.unlink(missing_ok=True)
        return len(litter)

    def _temporary_folder(self) -> Path:
        folder = self.root / "tmp"
        _make_folder(folder)
        return folder

    def _temporary(self, key: str) -> Path:
        return self._temporary_folder() / f"{key}.{uuid.uuid4().hex}.tmp"

    def _set_aside(self, key: str) -> None:
        aside = self._temporary_folder() / f"{key}.{uuid.uuid4().hex}.damaged"
        logger.warning("artifact %s is damaged; moved to %s", key, aside)
        try:
            os.replace(self.path(key), aside)
        except FileNotFoundError:
            logger.info("artifact %s was set aside by another reader", key)


def default_store() -> Path:
    """$STRUCTGEN_STORE, else structgen/store in the user's cache folder."""
    chosen = os.environ.get("STRUCTGEN_STORE")
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "structgen" / "store"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in the block; at its end it takes the name `path` atomically: a reader sees the old file or the new one, also
    after a power cut. An exception in the block leaves the old one.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` atomically."""
    with replacing(path) as file:
        file.write(content)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file that bears the name now: one that its last holder removed while this caller waited does not count."""
    while True:
        with open(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                logger.info("%s: no locks on this file system (%s); work may be done twice", path.parent, error)
                yield
                return
            if not _is_same_file(file, path):
                continue
            yield
            return


def _is_same_file(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _header(digest: str, length: int) -> bytes:
    return b"%s sha256=%s bytes=%d" % (MAGIC, digest.encode("ascii"), length)


def _is_whole(file: BinaryIO) -> bool:
    """Compare the payload with the header without holding it in memory."""
    header = file.readline(200)
    start = file.tell()
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return header == _header(digest, file.tell() - start) + b"\n"


def _link(temporary: Path, final: Path) -> bool:
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigError(f"store {final.parent.parent}: no hard links there ({error}); choose a folder on another file system") from error
    return True


def _make_folder(folder: Path) -> None:
    """The folder and its parents, none of them writable by others whatever the umask."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir(mode=0o755)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"cannot make the folder {path}: {error.strerror}; choose another with --store") from error
