"""The bytes of a user's text file: unpacked, within a size limit, and certainly text."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from structgen.errors import InputError

LARGEST_BYTES = 512 * 2**20
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstandard"}
_ENCODINGS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_text_bytes(path: Path, largest: int = LARGEST_BYTES) -> bytes:
    """The file's content without a UTF-8 byte-order mark; `.gz` is unpacked.

    Raises `InputError` for a file that cannot be read, is empty, larger than `largest` bytes when unpacked, packed although its name
    does not say so, or not in a byte-wise encoding.
    """
    where = str(path)
    data = _read(path, largest + 1)
    if len(data) > largest:
        raise InputError("file is too large", where=where, found=f"more than {largest:,} bytes", remedy="split it")
    _refuse_packed(data, where)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise InputError("file is empty", where=where, found="no text", remedy="give a file with at least one record")
    return data


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The folder's files by name that end in one of the suffixes, or in one of them and .gz, in any case of letters."""
    try:
        return sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().removesuffix(".gz").endswith(suffixes))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(folder), expected="a readable folder") from error


def read_head(path: Path, size: int) -> str:
    """The first `size` bytes of a text file, as far as they are UTF-8. Raises `InputError` as `read_text_bytes` does."""
    data = _read(path, size)
    _refuse_packed(data, str(path))
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def decode(data: bytes, where: str) -> str:
    """The text of UTF-8 bytes. Raises `InputError` that names the first line which is not."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            "text is not UTF-8", where=where, found=f"byte 0x{data[error.start]:02x} in line {line}", remedy="save as UTF-8"
        ) from error


def _read(path: Path, size: int) -> bytes:
    """At most `size` bytes, unpacked where the name ends in .gz."""
    where = str(path)
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            return file.read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        remedy = "unpack it or drop .gz from its name" if isinstance(error, gzip.BadGzipFile) else "copy the file again"
        raise InputError(f"cannot be unpacked: {error}", where=where, expected="a complete gzip file", remedy=remedy) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=where, expected="a readable file") from error


def _refuse_packed(data: bytes, where: str) -> None:
    for magic, name in _PACKED.items():
        if data.startswith(magic):
            remedy = "add .gz to its name" if name == "gzip" else "unpack it"
            raise InputError("file is packed", where=where, found=f"the first bytes of {name}", expected="text or .gz", remedy=remedy)
    wide = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), None)
    if wide is None and data[:1000].count(0) * 4 > len(data[:1000]):
        wide = "UTF-16 without a mark"
    if wide:
        raise InputError("encoding is not supported", where=where, found=wide, expected="UTF-8", remedy="save as UTF-8")
