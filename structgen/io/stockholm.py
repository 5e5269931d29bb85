"""Stockholm alignments, anchored to their first row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.msa import Msa
from structgen.io.a3m import check_query
from structgen.io.textfile import decode, read_text_bytes

_GAPS = b".-_~"


def read_stockholm(path: Path, query: str | None = None) -> Msa:
    """The alignment in a file, `.gz` or not; see `parse_stockholm`."""
    return parse_stockholm(decode(read_text_bytes(path), str(path)), str(path), query)


def parse_stockholm(text: str, where: str, query: str | None = None) -> Msa:
    """The alignment in Stockholm text; its first row is the query, and columns where that has a gap are insertions of the others.

    Pieces of a row in several blocks are joined by name; a name twice in one block is an error, as two hits of one target would be.
    A description line (`#=GS name DE`) follows the name. Raises `InputError` for a file that is cut off, holds several alignments,
    an illegal character, rows of unequal width, or a first row that is not `query` (compared as alignment letters).
    """
    rows, remarks = _rows(text, where)
    width = len(next(iter(rows.values())))
    for number, (name, letters) in enumerate(rows.items(), 1):
        if len(letters) != width:
            found, expected = f"{len(letters)} characters", f"{width} as in the first row"
            raise InputError("row has another width", where=f"{where}: row {number} ({name})", found=found, expected=expected)
    aligned = np.frombuffer("".join(rows.values()).upper().encode("ascii", "replace"), np.uint8).reshape(len(rows), width)
    _refuse_illegal(aligned, list(rows), where)
    classes, deletions = anchor(aligned)
    if not classes.shape[1]:
        raise InputError("first row has no letters", where=where, expected="the query")
    if query is not None:
        first = aligned[0][~np.isin(aligned[0], list(_GAPS))].tobytes().decode()
        check_query(first, query, f"{where}: row 1 ({next(iter(rows))})")
    return Msa(classes, deletions, tuple(f"{name} {remarks.get(name, '')}".strip() for name in rows))


def anchor(aligned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[S, W] capitals and gaps as ASCII to [S, n] classes in the n columns where row 0 has a letter, and the letters before each."""
    gap = np.isin(aligned, list(_GAPS))
    columns = ~gap[0]
    inserted = np.cumsum(~gap & ~columns, axis=1, dtype=np.int32)[:, columns]
    classes = chemistry.MSA_OF_LETTER[np.where(gap, ord("-"), aligned)[:, columns]]
    return classes, np.diff(inserted, axis=1, prepend=0)


def first_row(text: str, where: str) -> str:
    """The letters of the first row in capitals, without gaps."""
    letters = next(iter(_rows(text, where)[0].values()))
    return letters.upper().translate({gap: None for gap in _GAPS})


def _rows(text: str, where: str) -> tuple[dict[str, str], dict[str, str]]:
    """Joined pieces and description of every name, in order of appearance."""
    lines = text.splitlines()
    if not lines[0].startswith("# STOCKHOLM 1."):
        raise InputError("file is not Stockholm", where=where, found=repr(lines[0][:40]), expected="# STOCKHOLM 1.0")
    end = next((i for i, line in enumerate(lines) if line.strip() == "//"), None)
    if end is None:
        raise InputError("file is cut off", where=where, found="no '//' at the end", remedy="copy the file again")
    if any(line.strip() for line in lines[end + 1 :]):
        raise InputError("file holds more than one alignment", where=where, found=f"text after line {end + 1}", remedy="split it")
    pieces: dict[str, list[str]] = {}
    remarks: dict[str, str] = {}
    block: set[str] = set()
    for number, line in enumerate(lines[1:end], 2):
        if line.startswith("#=GS"):
            _, name, feature, *rest = [*line.split(maxsplit=3), "", ""]
            if feature == "DE":
                remarks[name] = rest[0]
        elif not line.strip():
            block = set()
        elif not line.startswith("#"):
            name, letters = _name_and_letters(line, number, where)
            if name in block:
                raise InputError("name stands twice in one block", where=f"{where}: line {number}", found=name, expected="one row a name")
            block.add(name)
            pieces.setdefault(name, []).append(letters)
    if not pieces:
        raise InputError("alignment has no rows", where=where, expected="the query and its homologues")
    return {name: "".join(parts) for name, parts in pieces.items()}, remarks


def _name_and_letters(line: str, number: int, where: str) -> tuple[str, str]:
    fields = line.split()
    if len(fields) != 2:
        raise InputError("line is no row", where=f"{where}: line {number}", found=repr(line[:40]), expected="a name and its letters")
    return fields[0], fields[1]


def _refuse_illegal(aligned: np.ndarray, names: list[str], where: str) -> None:
    known = (chemistry.MSA_OF_LETTER != chemistry.ILLEGAL).copy()
    known[list(_GAPS)] = True
    wrong = np.argwhere(~known[aligned])
    if len(wrong):
        row, column = wrong[0]
        found = f"{chr(aligned[row, column])!r} in column {column + 1}"
        raise InputError("illegal character in the alignment", where=f"{where}: row {row + 1} ({names[row]})", found=found)
