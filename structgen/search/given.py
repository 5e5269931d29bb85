"""Alignments that the user already has: a file, or a folder in which every chain's is found by its first row."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.job import Chain, Given
from structgen.features.msa import Msa
from structgen.io.a3m import check_query, first_record, parse_a3m, read_a3m
from structgen.io.stockholm import first_row, parse_stockholm, read_stockholm
from structgen.io.textfile import decode, files_in, read_head, read_text_bytes

SUFFIXES = (".a3m", ".sto", ".stockholm")
_FIRST_RECORD = 2**20  # bytes; holds the longest chain and its header


@dataclass(frozen=True)
class GivenAlignments:
    """Alignment files by their queries. `path` is what the user gave: a file, or a folder."""

    path: Path
    files: Mapping[bytes, tuple[Path, ...]]  # classes of the first row -> files, by name

    def files_of(self, sequence: str) -> tuple[Path, ...]:
        """The files whose first row is the sequence, compared as alignment letters; empty where there is none."""
        return self.files.get(_key(sequence), ())

    def alignment_of(self, sequence: str) -> Msa | None:
        """The chain's alignment, or None: the rows of all its files, one below the other. Raises `InputError` for a broken file."""
        parts = [_read(file, sequence) for file in self.files_of(sequence)]
        return joined(parts) if parts else None

    def note_on(self, sequence: str) -> str:
        """What a report says of the chain's evidence."""
        names = ", ".join(file.name for file in self.files_of(sequence))
        return f"alignment from {names}" if names else f"no alignment in {self.path}: predicted from the sequence alone"


def find_alignments(path: Path) -> GivenAlignments:
    """Index of a file or of a folder's files by their first rows. Raises `InputError` where there is no alignment to read."""
    found = files_in(path, SUFFIXES) if os.path.isdir(path) else [path]
    if not found:
        expected = f"files that end in {', '.join(SUFFIXES)} or one of these and .gz"
        raise InputError("folder holds no alignment", where=str(path), expected=expected)
    files: dict[bytes, tuple[Path, ...]] = {}
    for file in found:
        key = _key(_first(file))
        files[key] = (*files.get(key, ()), file)
    return GivenAlignments(path, files)


def require_use(given: GivenAlignments, sequences: Iterable[str]) -> None:
    """Raises `InputError` where a single given file is the alignment of none of the chains, with the first differing column.

    In a folder a chain may well have no alignment; a file that serves nothing is a mistake.
    """
    chains = list(sequences)
    if os.path.isdir(given.path) or any(given.files_of(chain) for chain in chains):
        return
    first = _first(given.path)
    if not chains:
        raise InputError("alignment serves no chain", where=str(given.path), found="no protein that is not aligned already")
    nearest = min(chains, key=lambda chain: (abs(len(chain) - len(first)), _differences(chain, first)))
    check_query(first, nearest, f"{given.path}: row 1, against the most similar of {len(chains)} chain(s)")


def own_digests(chain: Chain) -> list[str]:
    """Role and sha256 of every alignment that a job gives its chain. Raises `InputError` for a file that cannot be read."""
    if chain.msa is None:
        return []
    roles = [("unpaired", given) for given in chain.msa.unpaired] + [("paired", given) for given in chain.msa.paired]
    return [f"{role} {hashlib.sha256(_content(given)).hexdigest()}" for role, given in roles]


def own_alignment(chain: Chain) -> Msa | None:
    """The alignments that a job gives its chain, one below the other, or None where there are none: unpaired rows, then paired ones.

    Only the headers of paired rows are kept: those of the others never pair. Raises `InputError` for a broken one.
    """
    if chain.msa is None or not (chain.msa.unpaired or chain.msa.paired):
        return None
    unpaired = [_unnamed(_own(given, chain)) for given in chain.msa.unpaired]
    return joined(unpaired + [_own(given, chain) for given in chain.msa.paired])


def _own(given: Given, chain: Chain) -> Msa:
    where = given.path or f"alignment of chain {chain.id}"
    data = _content(given)
    if data.startswith(b"PAR1"):
        remedy = "write its rows as A3M or as CSV with the columns key and sequence"
        raise InputError("Parquet tables are not read", where=where, found="Chai's table of rows", remedy=remedy)
    text = decode(data, where)
    if text.startswith("# STOCKHOLM"):
        return parse_stockholm(text, where, chain.sequence)
    start = text.lstrip("\0 \r\n")
    return parse_a3m(text if start.startswith((">", "#")) else _rows_of_table(text, where), where, chain.sequence, chain.kind)


def _content(given: Given) -> bytes:
    """The bytes of something given, unpacked."""
    return read_text_bytes(Path(given.path)) if given.path else given.text.removeprefix("\ufeff").encode()


def _rows_of_table(text: str, where: str) -> str:
    """A3M with the pairing keys of a table, columns `key` and `sequence`, in its headers; a row without a key is never paired."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if sorted(header) != ["key", "sequence"]:
        expected = "A3M, Stockholm, or a table with the columns key and sequence"
        raise InputError("file is not known as an alignment", where=where, found=repr(text[:40]), expected=expected)
    key, sequence = header.index("key"), header.index("sequence")
    if wrong := next((number for number, row in enumerate(rows, 1) if row and len(row) != 2), None):
        raise InputError("row has another width", where=f"{where}: line {wrong}", found=f"{len(rows[wrong - 1])} columns", expected="2")
    names = ("pairing_key=" + "_".join(row[key].split()) if row[key].strip() else "" for row in rows[1:] if row)
    return "".join(f">{name}\n{row[sequence]}\n" for name, row in zip(names, filter(None, rows[1:]), strict=True))


def _unnamed(msa: Msa) -> Msa:
    return replace(msa, descriptions=("query", *("" for _ in msa.descriptions[1:])))


def _differences(chain: str, first: str) -> int:
    return sum(a != b for a, b in zip(chain, first, strict=False))


def _suffix(file: Path) -> str:
    """The suffix that says the format, or nothing."""
    name = file.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def _first(file: Path) -> str:
    """Letters of the first row."""
    suffix = _suffix(file)
    if not suffix:
        expected = f"a name that ends in {', '.join(SUFFIXES)} or one of these and .gz"
        raise InputError("file is not known as an alignment", where=str(file), expected=expected, remedy="rename it")
    if suffix == ".a3m":
        return first_record(read_head(file, _FIRST_RECORD), str(file))
    return first_row(decode(read_text_bytes(file), str(file)), str(file))


def _read(file: Path, sequence: str) -> Msa:
    return read_a3m(file, sequence) if _suffix(file) == ".a3m" else read_stockholm(file, sequence)


def joined(parts: list[Msa]) -> Msa:
    """The rows of all, the query once."""
    rest = [slice(0 if i == 0 else 1, None) for i in range(len(parts))]
    return Msa(
        np.concatenate([part.rows[r] for part, r in zip(parts, rest, strict=True)]),
        np.concatenate([part.deletions[r] for part, r in zip(parts, rest, strict=True)]),
        tuple(line for part, r in zip(parts, rest, strict=True) for line in part.descriptions[r]),
    )


def _key(letters: str) -> bytes:
    return chemistry.encode(letters, chemistry.MSA_OF_LETTER).tobytes()
