"""The seal of an artifact: one header line with the payload's sha256 and length, so that whoever reads sees damage and loss."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

MAGIC = b"structgen-artifact-1"
LONGEST_HEADER = 200  # bytes; a header takes 120


def seal(payload: bytes) -> bytes:
    """The header line, then the payload."""
    return _header(hashlib.sha256(payload).hexdigest(), len(payload)) + payload


def unseal(content: bytes) -> bytes | None:
    """The payload; nothing where it is not what the header says."""
    header, newline, payload = content.partition(b"\n")
    return payload if header + newline == _header(hashlib.sha256(payload).hexdigest(), len(payload)) else None


def is_sealed(file: BinaryIO) -> bool:
    """Whether a file is what its header says, without holding it in memory."""
    header = file.readline(LONGEST_HEADER)
    start = file.tell()
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return header == _header(digest, file.tell() - start)


def _header(digest: str, length: int) -> bytes:
    return b"%s sha256=%s bytes=%d\n" % (MAGIC, digest.encode("ascii"), length)
