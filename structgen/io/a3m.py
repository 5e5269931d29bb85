"""A3M: alignments as FASTA in which small letters are insertions against the query, the first row. Of proteins, or of RNA."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.job import Kind
from structgen.features.msa import Msa, letters_of
from structgen.io.textfile import decode, read_text_bytes

_COLABFOLD = re.compile(r"#(\d+(?:,\d+)+)\t")
_COLUMN, _INSERTION, _IGNORED, _ILLEGAL = range(4)


def _character_kinds() -> np.ndarray:
    kinds = np.full(256, _ILLEGAL, np.uint8)
    kinds[ord("A") : ord("Z") + 1] = kinds[ord("-")] = _COLUMN
    kinds[ord("a") : ord("z") + 1] = _INSERTION
    kinds[ord(".")] = _IGNORED
    kinds.flags.writeable = False
    return kinds


_KINDS = _character_kinds()
_WRITTEN = np.frombuffer((chemistry.AMINO_ACIDS + "X" + "AGCUN" + "AGCTN" + "-").encode(), np.uint8)


def read_a3m(path: Path, query: str | None = None, kind: Kind = Kind.PROTEIN) -> Msa:
    """The alignment in a file, `.gz` or not; see `parse_a3m`."""
    return parse_a3m(decode(read_text_bytes(path), str(path)), str(path), query, kind)


def parse_a3m(text: str, where: str, query: str | None = None, kind: Kind = Kind.PROTEIN) -> Msa:
    """The alignment in A3M text whose first row is the query, without gaps and insertions; letters are read as those of `kind`.

    '.' and NUL are ignored, rows may be wrapped, '#' lines may stand before the first record. Raises `InputError` for text before
    the first record, an illegal character, a row of another width, a first row that is not `query` (compared as alignment letters).
    """
    records = a3m_records(text, where)
    first = records[0][1].replace(".", "")
    if wrong := re.search("[^A-Z]", first):
        found = f"{wrong[0]!r} at position {wrong.start() + 1}" if first else "no letters"
        raise InputError("first row is not a query", where=_row(where, 1, records[0][0]), found=found, expected="capitals only")
    if not first:
        raise InputError("first row is empty", where=_row(where, 1, records[0][0]), expected="the query")
    if query is not None:
        check_query(first, query, _row(where, 1, records[0][0]), kind)
    rows = np.empty((len(records), len(first)), np.uint8)
    deletions = np.empty(rows.shape, np.int32)
    for i, (header, letters) in enumerate(records):
        rows[i], deletions[i] = _aligned(letters, len(first), _row(where, i + 1, header), kind)
    return Msa(rows, deletions, tuple(header for header, _ in records))


def write_a3m(msa: Msa) -> bytes:
    """The alignment as A3M, the same bytes for the same alignment. Inserted letters are not kept in an `Msa`: they are written as 'x'."""
    lines: list[bytes] = []
    for row, deletions, description in zip(_WRITTEN[msa.rows], msa.deletions, msa.descriptions, strict=True):
        letters = row.tobytes()
        places = np.flatnonzero(deletions)
        pieces = [letters[start:end] for start, end in zip([0, *places], [*places, len(letters)], strict=True)]
        inserted = [b"x" * int(deletions[place]) for place in places]
        lines += [b">" + description.encode(), pieces[0] + b"".join(x + y for x, y in zip(inserted, pieces[1:], strict=True))]
    return b"\n".join(lines) + b"\n"


def check_query(first: str, query: str, where: str, kind: Kind = Kind.PROTEIN) -> None:
    """Raises `InputError` with the first differing column where the first row of an alignment is not the query."""
    row, wanted = (chemistry.encode(text, letters_of(kind)) for text in (first, query))
    if np.array_equal(row, wanted):
        return
    message, remedy = "first row is not the chain", "give the alignment that was made for this chain"
    if len(row) != len(wanted):
        raise InputError(message, where=where, found=f"{len(row)} residues", expected=f"{len(wanted)}", remedy=remedy)
    column = int(np.flatnonzero(row != wanted)[0])
    raise InputError(message, where=where, found=f"{first[column]} in column {column + 1}", expected=query[column], remedy=remedy)


def first_record(text: str, where: str) -> str:
    """The letters of the first record; the rest of the text may be cut off."""
    return a3m_records(text, where)[0][1].replace(".", "")


def a3m_records(text: str, where: str) -> list[tuple[str, str]]:
    """Header and letters of every record, blanks and line breaks removed. Raises `InputError` for text that is not A3M."""
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    head, *parts = re.split(r"^>", text, flags=re.MULTILINE)
    if found := _COLABFOLD.match(head):
        remedy = "give one A3M file a chain"
        raise InputError("alignments of several chains in one file are not built yet", where=where, found=found[0].strip(), remedy=remedy)
    outside = [line for line in head.splitlines() if line.strip() and not line.startswith("#")]
    if outside or not parts:
        found_text = repr(outside[0][:40]) if outside else "no record"
        raise InputError("file is not A3M", where=where, found=found_text, expected="records that start with '>'")
    records = [part.partition("\n") for part in parts]
    return [(header.strip(), re.sub(r"[ \t\n\v\f]", "", letters)) for header, _, letters in records]


def _aligned(letters: str, width: int, where: str, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """[width] classes and insertions before each column; those after the last column are dropped."""
    codes = np.frombuffer(letters.encode("ascii", "replace"), np.uint8)
    kinds = _KINDS[codes]
    illegal = np.flatnonzero(kinds == _ILLEGAL)
    if len(illegal):
        found = f"{letters[illegal[0]]!r} at position {illegal[0] + 1}"
        expected = "A-Z and '-' (columns), a-z (insertions), '.'"
        raise InputError("illegal character in the alignment", where=where, found=found, expected=expected)
    columns = kinds == _COLUMN
    if (found_width := int(columns.sum())) != width:
        found, expected = f"{found_width} columns", f"{width} as in the first row"
        raise InputError("row has another width", where=where, found=found, expected=expected)
    inserted = np.cumsum(kinds == _INSERTION)[columns]
    return letters_of(kind)[codes[columns]], np.diff(inserted, prepend=0)


def _row(where: str, number: int, header: str) -> str:
    return f"{where}: row {number} (>{''.join(c for c in header[:60] if c.isprintable())})"
