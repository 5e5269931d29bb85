"""jackhmmer in process: the homologues of a sequence in a FASTA database, as an alignment."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from pyhmmer.easel import DigitalSequenceBlock, SequenceFile, TextSequence
from pyhmmer.plan7 import Pipeline

from structgen.errors import InputError
from structgen.features.msa import Msa, query_only
from structgen.io.stockholm import anchor
from structgen.io.textfile import read_head
from structgen.search.nearest import AMINO

SHORTEST_QUERY = 5  # residues; below, chance finds everything


@dataclass(frozen=True)
class JackhmmerSettings:
    """How a search is run. Everything here is part of its result, and nothing else but the sequence and the database is."""

    iterations: int = 3
    e_value: float = 1e-4  # of a target and of a domain, for reporting and for the next iteration's profile
    max_rows: int = 10_000
    seed: int = 42


@dataclass(frozen=True, eq=False)
class Database:
    """Digitised sequences in memory. `digest` is the sha256 of the file, for the keys of cached searches."""

    path: Path
    digest: str
    sequences: DigitalSequenceBlock


def load_database(path: Path) -> Database:
    """The sequences of a protein FASTA file, `.gz` or not, kept for the process's life, the last eight of them.

    Raises `InputError` for a file that cannot be read or holds no proteins.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), expected="a FASTA database") from error
    return _load(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _load(path: Path, size: int, modified: int) -> Database:
    """Size and time of change are part of the key, so that an edited file is read again."""
    if not read_head(path, 64).strip():  # which also says plainly what is wrong with a file that is packed, or not, against its name
        raise InputError("database is empty", where=str(path), expected="at least one sequence")
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            with SequenceFile(cast(BinaryIO, file), format="fasta", digital=True, alphabet=AMINO) as records:
                sequences = records.read_block()
    except (OSError, ValueError, EOFError, SystemError) as error:  # the last where the file fails below the reader
        remedy = "check that it is protein FASTA, gzip only where its name ends in .gz"
        raise InputError(f"database cannot be read: {error}", where=str(path), expected="protein FASTA", remedy=remedy) from error
    return Database(path, digest, cast(DigitalSequenceBlock, sequences))


def search(sequence: str, database: Database, settings: JackhmmerSettings) -> Msa:
    """The query and its homologues by E-value, a row a domain; ends early when an iteration finds nothing new.

    Queries below five residues are not searched. The same arguments give the same alignment.
    """
    if len(sequence) < SHORTEST_QUERY:
        return query_only(sequence)
    query = TextSequence(name="query", sequence=sequence).digitize(AMINO)
    results = _pipeline(settings).iterate_seq(query, database.sequences)
    for result in islice(results, settings.iterations):
        if result.converged:
            break
    found = result.msa.textize()
    letters = "".join(islice(found.alignment, settings.max_rows)).upper().encode()
    rows, deletions = anchor(np.frombuffer(letters, np.uint8).reshape(-1, len(found.alignment[0])))
    return Msa(rows, deletions, tuple(_description(row) for row in islice(found.sequences, settings.max_rows)))


def _description(row: TextSequence) -> str:
    """`name/from-to` and the target's description, for which HMMER puts the name again where the database has none."""
    description = row.description.removeprefix("[subseq from] ")
    return row.name if description in ("", row.name.rpartition("/")[0]) else f"{row.name} {description}"


def _pipeline(settings: JackhmmerSettings) -> Pipeline:
    e = settings.e_value
    return Pipeline(AMINO, seed=settings.seed, E=e, domE=e, incE=e, incdomE=e)
