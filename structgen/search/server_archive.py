"""The archive that a ColabFold server answers with: read in memory, within limits, and never unpacked to the disk.

Nothing of it is trusted. Only members of known names are read, only plain files; the archive is refused as a whole where a member has a
path that leads elsewhere or is a link or a device, or where it unpacks to more than the limits.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from structgen.errors import ServerError


class DamagedArchive(ServerError):
    """The archive is cut off or is none: the download failed, and another one may not."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What one answer may hold once it is unpacked."""

    members: int = 1_000
    bytes: int = 2 * 2**30  # of all members, headers among them
    member: int = 2**30  # of one


def read_archive(file: BinaryIO, wanted: Collection[str], where: str, limits: ArchiveLimits) -> dict[str, bytes]:
    """The wanted members of a tar.gz by name. Raises `DamagedArchive`, or `ServerError` for one that no honest server sends."""
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            counted = _Counted(unpacked, where, limits)
            with tarfile.open(fileobj=counted, mode="r|") as archive:
                members = dict(_members(archive, wanted, where, limits))
            while counted.read(2**20):  # to the end, where gzip keeps its sum
                continue
            return members
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise DamagedArchive(f"{where}: the archive is damaged: {error}") from error


def _members(archive: tarfile.TarFile, wanted: Collection[str], where: str, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    for number, member in enumerate(archive, 1):
        if number > limits.members:
            raise ServerError(f"{where}: the archive is refused: more than {limits.members} members")
        _refuse_hostile(member, where)
        if member.size > limits.member:
            raise ServerError(f"{where}: the archive is refused: {member.name!r} has {member.size:,} bytes, over {limits.member:,}")
        if member.name in seen:
            raise ServerError(f"{where}: the archive is refused: {member.name!r} is in it twice")
        seen.add(member.name)
        content = archive.extractfile(member) if member.name in wanted and member.isfile() else None
        if content is not None:
            yield member.name, content.read()


def _refuse_hostile(member: tarfile.TarInfo, where: str) -> None:
    """Folders and plain files with a path inside are let through; Python's own filter for data looks at them too."""
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or "\0" in member.name or not member.name.isprintable():
        raise ServerError(f"{where}: the archive is refused: the path {member.name!r} leads out of it")
    if member.issparse() or not (member.isfile() or member.isdir()):
        raise ServerError(f"{where}: the archive is refused: {member.name!r} is a link, a device or something else that is no file")
    try:
        tarfile.data_filter(member, ".")
    except tarfile.FilterError as error:
        raise ServerError(f"{where}: the archive is refused: {error}") from error


class _Counted(io.RawIOBase):
    """What is unpacked, up to a limit: a small file can hold an endless one."""

    def __init__(self, file: gzip.GzipFile, where: str, limits: ArchiveLimits) -> None:
        self._file, self._where, self._limits, self._read = file, where, limits, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises `ServerError` past the limit, before more are in memory."""
        left = self._limits.bytes - self._read
        data = self._file.read(left + 1 if size < 0 else min(size, left + 1))
        self._read += len(data)
        if self._read > self._limits.bytes:
            raise ServerError(f"{self._where}: the archive is refused: it unpacks to more than {self._limits.bytes:,} bytes")
        return data
