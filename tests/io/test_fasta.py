"""FASTA files as bytes: what is read, and what every unreadable file is told."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from structgen.errors import InputError
from structgen.io.fasta import Record, parse_fasta, read_fasta
from structgen.io.textfile import decode, read_text_bytes


def write(folder: Path, data: bytes, name: str = "x.fasta") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_records_are_the_same_for_every_line_end_and_with_a_byte_order_mark(tmp_path: Path, end: bytes, mark: bytes) -> None:
    """Headers keep their text, sequences lose blanks and line breaks, '#' lines are skipped."""
    lines = [b"# note", b">first one ", b"MK T", b"# inside", b"AY:", b"GG\t", b">second", b"", b"AC"]
    records, errors = read_fasta(write(tmp_path, mark + end.join(lines)))
    assert records == [Record(1, "first one", "MKTAY:GG"), Record(2, "second", "AC")]
    assert errors == []


def test_gzip_is_read_by_its_suffix(tmp_path: Path) -> None:
    """A .gz file holds the same records as its content."""
    assert read_fasta(write(tmp_path, gzip.compress(b">a\nMK\n"), "x.fa.gz"))[0] == [Record(1, "a", "MK")]


def test_text_before_the_first_record_is_an_error_beside_the_records(tmp_path: Path) -> None:
    """Nothing is skipped in silence, and nothing is lost by it."""
    records, (error,) = read_fasta(write(tmp_path, b"MKT\n>a\nMK\n"))
    assert records == [Record(1, "a", "MK")]
    assert "text before the first '>'; found 'MKT'; remedy: remove it" in str(error)


def test_bytes_that_are_not_utf8_stay_in_their_record(tmp_path: Path) -> None:
    """A Latin-1 letter spoils one record, not the file."""
    records, _ = read_fasta(write(tmp_path, b">caf\xe9\nMK\n>b\nAC\n"))
    assert records[0].header == "caf\udce9"
    assert records[1] == Record(2, "b", "AC")


UNREADABLE = [
    (b"", "x.fasta", "file is empty; found no text; remedy: give a file with at least one record"),
    (b" \r\n\n", "x.fasta", "file is empty"),
    (b"\xef\xbb\xbf", "x.fasta", "file is empty"),
    (gzip.compress(b""), "x.fasta.gz", "file is empty"),
    (">a\nMK\n".encode("utf-16"), "x.fasta", "encoding is not supported; found UTF-16; expected UTF-8; remedy: save as UTF-8"),
    (">a\nMK\n".encode("utf-16-le"), "x.fasta", "found UTF-16 without a mark"),
    (">a\nMK\n".encode("utf-32"), "x.fasta", "found UTF-32"),
    (
        gzip.compress(b">a\nMK\n"),
        "x.fasta",
        "file is packed; found the first bytes of gzip; expected text or .gz; remedy: add .gz to its name",
    ),
    (b"PK\x03\x04rest", "x.fasta", "the first bytes of zip; expected text or .gz; remedy: unpack it"),
    (b"\xfd7zXZ\x00rest", "x.fasta", "the first bytes of xz"),
    (b">a\nMK\n", "x.fasta.gz", "cannot be unpacked: Not a gzipped file"),
    (gzip.compress(b">a\nMKTAYIAKQR\n" * 50)[:-12], "x.fasta.gz", "expected a complete gzip file; remedy: copy the file again"),
    (
        b'{"name": 1}',
        "x.fasta",
        "file is not FASTA; found JSON; expected records that start with '>'; remedy: give it as a job file",
    ),
    (b"version: 1\nsequences:\n", "x.fasta", "found YAML"),
    (
        b"# STOCKHOLM 1.0\na MK\n//\n",
        "x.fasta",
        "found a Stockholm alignment; expected records that start with '>'; remedy: give alignments",
    ),
    (b"HEADER    X\nATOM  \n", "x.fasta", "found a structure file"),
    (
        b"MKTAYIAK\nQRQ*\n",
        "x.fasta",
        "found letters without a header; expected records that start with '>'; remedy: put a line such as >name",
    ),
    (b"12 drummers", "x.fasta", "found '12 drummers'; expected records that start with '>'; remedy: give a FASTA file"),
]


@pytest.mark.parametrize(("data", "name", "text"), UNREADABLE)
def test_unreadable_files_say_what_was_found_and_what_to_do(tmp_path: Path, data: bytes, name: str, text: str) -> None:
    """Every file without records is one InputError that names the file."""
    path = write(tmp_path, data, name)
    with pytest.raises(InputError) as caught:
        read_fasta(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    """The operating system's reason is passed on."""
    with pytest.raises(InputError, match=r"none\.fa: cannot be read: No such file or directory; expected a readable file"):
        read_text_bytes(tmp_path / "none.fa")
    with pytest.raises(InputError, match="Is a directory"):
        read_text_bytes(tmp_path)


def test_size_limit_counts_unpacked_bytes(tmp_path: Path) -> None:
    """A small file that unpacks to a large one is refused, without unpacking it all."""
    path = write(tmp_path, gzip.compress(b">a\n" + b"M" * 100_000), "x.fa.gz")
    assert path.stat().st_size < 1000
    with pytest.raises(InputError, match="file is too large; found more than 1,000 bytes; remedy: split it"):
        read_text_bytes(path, largest=1000)
    assert len(read_text_bytes(path, largest=100_003)) == 100_003


def test_decode_names_the_line() -> None:
    """Where a whole file must be UTF-8, the first bad byte is named with its line."""
    assert decode("é\n".encode(), "x") == "é\n"
    with pytest.raises(InputError, match="x: text is not UTF-8; found byte 0xe9 in line 2; remedy: save as UTF-8"):
        decode(b"a\n\xe9", "x")


def test_parse_names_its_source() -> None:
    """Text from elsewhere carries its name into the error."""
    with pytest.raises(InputError, match="standard input: file is not FASTA"):
        parse_fasta("?", "standard input")
