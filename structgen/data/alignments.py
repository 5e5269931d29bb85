"""A folder of alignments by sequence: what `structgen data profiles` writes, one file a distinct sequence, and archives are built with."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from structgen.features.msa import Msa
from structgen.io.a3m import read_a3m, write_a3m
from structgen.search.hmmer import JackhmmerSettings, load_database, search
from structgen.store import replace_file


def alignment_path(folder: Path, sequence: str) -> Path:
    """Where the alignment of a sequence lies or would lie."""
    digest = hashlib.sha256(sequence.encode()).hexdigest()
    return folder / digest[:2] / f"{digest[:32]}.a3m.gz"


def read_alignment(folder: Path, sequence: str) -> Msa | None:
    """The alignment, or None where it has not been searched."""
    path = alignment_path(folder, sequence)
    return read_a3m(path, sequence) if path.exists() else None


def search_into(folder: Path, sequence: str, database: Path, settings: JackhmmerSettings) -> int:
    """Search a sequence's homologues and publish them, unless that has been done; returns the number of rows, 0 where it had been."""
    path = alignment_path(folder, sequence)
    if path.exists():
        return 0
    found = search(sequence, load_database(database), settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, gzip.compress(write_a3m(found), mtime=0))
    return len(found.rows)
