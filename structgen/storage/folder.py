"""A folder as a shelf: local, or on a file system that all nodes share.

Content is written to a file of its own, made durable, and given its name by a hard link, which is exclusive: that holds on NFS too,
where two nodes may not trust each other's view of a folder. Rights are kernel locks, which end with the process that holds them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from structgen.errors import ConfigError
from structgen.storage.seal import is_sealed
from structgen.storage.shelf import Item, Shelf

logger = logging.getLogger(__name__)

LITTER = (".tmp", ".damaged", ".lock")
USERS = "users.lock"  # held together by all who use the folder, alone by who removes from it


@dataclass(frozen=True)
class Folder(Shelf):
    """Content of key `abcd..` lies at `<root>/ab/abcd..`; what is being written, or was set aside, in `<root>/tmp`."""

    root: Path

    def path(self, key: str) -> Path:
        """Where the content lies or would lie."""
        return self.root / key[:2] / key

    def check(self) -> None:
        probe = self._temporary("probe", "tmp")
        try:
            os.close(new_file(probe))
            linked = probe.with_suffix(".linked.tmp")
            _link(probe, linked)
            linked.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"store {self.root}: cannot be written to ({error.strerror}); choose another with --store") from error
        finally:
            probe.unlink(missing_ok=True)

    def put(self, key: str, content: bytes) -> bool:
        final, temporary = self.path(key), self._temporary(key, "tmp")
        make_folder(final.parent)
        try:
            with open(new_file(temporary), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            first = _link(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(final.parent)
        return first

    def get(self, key: str) -> bytes:
        with self._open(key) as file:
            return file.read()

    def holds(self, key: str) -> bool:
        with self._open(key) as file:
            return is_sealed(file)

    def set_aside(self, key: str) -> None:
        os.replace(self.path(key), self._temporary(key, "damaged"))

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        path = self._folder() / f"{key}.lock"
        with _locked(path, fcntl.LOCK_EX):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        with _locked(self._folder() / USERS, fcntl.LOCK_SH):
            yield

    @contextmanager
    def unused(self) -> Iterator[bool]:
        with open(_lock_file(self._folder() / USERS), "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:  # held by a user, or no locks on this file system
                logger.info("%s: %s", self.root, error)
                yield False
                return
            yield True

    def items(self) -> Iterator[Item]:
        for path in sorted(self.root.glob("??/*")):
            item = _item(path, path.name)
            if item and path.name.startswith(path.parent.name):
                yield item

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def litter(self, age: float) -> list[Item]:
        found = [_item(path, str(path)) for path in sorted(self._folder().iterdir()) if path.suffix in LITTER and path.name != USERS]
        return [item for item in found if item and item.age > age]

    def clear(self, litter: Item) -> None:
        path = Path(litter.name)
        if path.suffix != ".lock":
            path.unlink(missing_ok=True)
            return
        with open(_lock_file(path), "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # held: no litter
            path.unlink(missing_ok=True)

    def __str__(self) -> str:
        return str(self.root)

    def _open(self, key: str) -> BinaryIO:
        """A node of a shared file system may remember for a while that a name was not there: looking into the folder makes it ask again."""
        try:
            return open(self.path(key), "rb")
        except FileNotFoundError:
            if key not in os.listdir(self.path(key).parent):
                raise
            return open(self.path(key), "rb")

    def _folder(self) -> Path:
        folder = self.root / "tmp"
        make_folder(folder)
        return folder

    def _temporary(self, key: str, suffix: str) -> Path:
        return self._folder() / f"{key}.{uuid.uuid4().hex}.{suffix}"


def close_to_others() -> None:
    """Whatever this process makes from now on, no other user can write to it, however it was started."""
    os.umask(os.umask(0o022) | 0o022)


def new_file(path: Path) -> int:
    """The descriptor of a file that was not there; others cannot write to it, whatever the umask."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)


def make_folder(folder: Path) -> None:
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


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: Path, final: Path) -> bool:
    """Give a file its name. False where the name is taken by another one."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return temporary.stat().st_nlink == 2  # NFS may lose the answer to a link that was made, and ask again
    except OSError as error:
        raise ConfigError(f"store {final.parent.parent}: no hard links there ({error}); choose a folder on another file system") from error
    return True


def _lock_file(path: Path) -> int:
    """NFS locks for sharing what is open for reading, and alone what is open for writing."""
    return os.open(path, os.O_CREAT | os.O_RDWR, 0o644)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Hold the lock of the file that bears the name now: one that its last holder removed while this caller waited does not count."""
    while True:
        with open(_lock_file(path), "ab") as file:
            try:
                fcntl.flock(file, how)
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


def _item(path: Path, name: str) -> Item | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None  # it went while the folder was listed
    return Item(name, state.st_size, time.time() - state.st_mtime)
