"""Artifacts by content: what was computed from the same inputs, with the same settings and weights, is computed once.

An artifact lies at `<store>/<first two hex digits>/<key>`, in a folder or in a bucket of an object store: one header line, which holds the
payload's sha256 and length, then the payload.
Execution is at-least-once, publication exactly-once: an artifact appears under its name complete or not at all, a second writer of the
same key loses without harm, and a reader checks the payload against the header before it uses it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from structgen.errors import StructgenError
from structgen.storage.bucket import Bucket
from structgen.storage.folder import Folder, fsync_folder, new_file
from structgen.storage.seal import seal, unseal
from structgen.storage.shelf import Shelf

logger = logging.getLogger(__name__)

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
    """Artifacts that any number of processes and nodes may read and write at once: in a folder that all see, or in a bucket."""

    root: Path | Bucket

    @property
    def shelf(self) -> Shelf:
        """Where the artifacts lie."""
        return Folder(self.root) if isinstance(self.root, Path) else self.root

    def holds(self, key: str) -> bool:
        """Whether the artifact is there and whole. A damaged one is set aside, with a warning, so that it can be made again.

        In a bucket, which keeps objects whole, damage shows when the artifact is read.
        """
        try:
            whole = self.shelf.holds(key)
        except FileNotFoundError:
            return False
        if not whole:
            self._set_aside(key)
        return whole

    def read(self, key: str) -> bytes:
        """The payload. Raises `ArtifactError` when it is missing or does not match its header."""
        try:
            payload = unseal(self.shelf.get(key))
        except FileNotFoundError as error:
            raise ArtifactError(f"artifact {key} is not in {self.root}; run the same command again to make it anew") from error
        if payload is None:
            self._set_aside(key)
            raise ArtifactError(f"artifact {key} in {self.root} is damaged and was set aside; run the same command again to make it anew")
        return payload

    def publish(self, key: str, payload: bytes) -> bool:
        """Make the artifact visible, whole and durable. False when another writer was first (its bytes stay)."""
        return self.shelf.put(key, seal(payload))

    def exclusive(self, key: str) -> AbstractContextManager[None]:
        """Hold the right to compute `key`; others wait, then find it published. It is freed when its holder dies.

        This only saves double work (a file system without locks loses nothing else): publication is exclusive by itself.
        """
        return self.shelf.exclusive(key)

    def in_use(self) -> AbstractContextManager[None]:
        """Keep artifacts from being removed while the block runs. Raises `ConfigError` where artifacts cannot be published."""
        self.shelf.check()
        return self.shelf.in_use()

    def sweep(self) -> int:
        """Remove what killed writers left behind; returns how many pieces."""
        litter = self.shelf.litter(LITTER_AGE)
        for item in litter:
            self.shelf.clear(item)
        return len(litter)

    def _set_aside(self, key: str) -> None:
        logger.warning("artifact %s in %s is damaged; it is set aside", key, self.root)
        try:
            self.shelf.set_aside(key)
        except FileNotFoundError:
            logger.info("artifact %s was set aside by another reader", key)


def open_store(place: str = "") -> Store:
    """The store at a folder or an s3:// URL; where nothing is said $STRUCTGEN_STORE, else structgen/store in the user's cache folder."""
    chosen = place or os.environ.get("STRUCTGEN_STORE", "")
    return Store(Bucket(chosen.rstrip("/")) if chosen.startswith("s3://") else Path(chosen or _cache()).resolve())


def _cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "structgen" / "store"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in the block; at its end it takes the name `path` atomically: a reader sees the old file or the new one, also
    after a power cut. An exception in the block leaves the old one.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    descriptor = new_file(temporary)
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
