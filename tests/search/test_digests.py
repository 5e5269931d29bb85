"""Digests of large files are computed once."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from structgen.errors import InputError
from structgen.search import digests
from structgen.search.digests import file_digest
from structgen.store import Store


def test_a_settled_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by path, size, time of change and inode; anything else is read; a file that just changed is never taken as known."""
    store, path, reads = Store(tmp_path / "store"), tmp_path / "db.fasta", []
    real = hashlib.file_digest

    def counting(file, name):
        reads.append(name)
        return real(file, name)

    monkeypatch.setattr(digests.hashlib, "file_digest", counting)
    path.write_bytes(b">a\nMKT\n")
    for expected in (1, 2):  # young: it may change again within the same tick
        assert file_digest(path, store) == hashlib.sha256(path.read_bytes()).hexdigest() and len(reads) == expected
    past = time.time() - 60
    os.utime(path, (past, past))
    for _ in range(3):
        assert file_digest(path, store) == hashlib.sha256(path.read_bytes()).hexdigest() and len(reads) == 3
    path.write_bytes(b">a\nMKV\n")
    os.utime(path, (past + 1, past + 1))
    assert file_digest(path, store) == hashlib.sha256(b">a\nMKV\n").hexdigest() and len(reads) == 4
    os.replace(_copy(path), path)  # the same bytes and times in another inode
    assert file_digest(path, store) and len(reads) == 5
    with pytest.raises(InputError, match="absent: cannot be read: No such file or directory; expected a readable file"):
        file_digest(tmp_path / "absent", store)


def _copy(path: Path) -> Path:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    return other
