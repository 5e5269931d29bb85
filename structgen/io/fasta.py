"""FASTA as it is found: records of a header and letters, nothing interpreted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from structgen.errors import InputError
from structgen.io.textfile import read_text_bytes

_LINE_END = re.compile(r"\r\n|\r|\n")
_BLANKS = str.maketrans("", "", " \t\v\f")
_OTHER_FORMATS = (
    (re.compile(r"\s*[\[{]"), "JSON", "give it as a job file"),
    (re.compile(r"\s*(version|sequences)\s*:"), "YAML", "give it as a job file"),
    (re.compile(r"# STOCKHOLM"), "a Stockholm alignment", "give alignments with --msa"),
    (re.compile(r"(HEADER|ATOM  |data_|REMARK|CRYST1)"), "a structure file", "give its sequence as FASTA"),
    (re.compile(r"[A-Za-z*:\s]+$"), "letters without a header", "put a line such as >name before them"),
)


@dataclass(frozen=True)
class Record:
    """One record: `number` from 1 in its file, `header` without '>', `sequence` without blanks and line breaks.

    Bytes that are not UTF-8 are kept as lone surrogates, so that one bad record does not hide the others.
    """

    number: int
    header: str
    sequence: str


def read_fasta(path: Path) -> tuple[list[Record], list[InputError]]:
    """All records of a file and what stands outside of them; lines that start with '#' are skipped.

    Raises `InputError` for a file that holds no record at all.
    """
    return parse_fasta(read_text_bytes(path).decode("utf-8", "surrogateescape"), str(path))


def parse_fasta(text: str, where: str) -> tuple[list[Record], list[InputError]]:
    """`read_fasta` of text; `where` names its source in errors."""
    lines = [line for line in _LINE_END.split(text) if not line.startswith("#")]
    starts = [i for i, line in enumerate(lines) if line.startswith(">")]
    if not starts:
        raise _no_record(text, where)
    before = "".join(lines[: starts[0]]).strip()
    errors = [InputError("text before the first '>'", where=where, found=repr(before[:40]), remedy="remove it")] if before else []
    ends = [*starts[1:], len(lines)]
    records = [
        Record(number, lines[start][1:].strip(), "".join(lines[start + 1 : end]).translate(_BLANKS))
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
    ]
    return records, errors


def _no_record(text: str, where: str) -> InputError:
    for pattern, name, remedy in _OTHER_FORMATS:
        if pattern.match(text):
            return InputError("file is not FASTA", where=where, found=name, expected="records that start with '>'", remedy=remedy)
    found = repr(text.strip()[:40])
    return InputError("file is not FASTA", where=where, found=found, expected="records that start with '>'", remedy="give a FASTA file")
