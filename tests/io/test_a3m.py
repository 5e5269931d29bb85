"""A3M: letters, insertions, and every error with its row."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.msa import Msa
from structgen.io.a3m import parse_a3m, read_a3m, write_a3m

MSAS = Path(__file__).parents[2] / "data" / "examples" / "msas"


def letters(msa: Msa) -> list[str]:
    alphabet = chemistry.AMINO_ACIDS + "X" + "?" * 10 + "-"
    return ["".join(alphabet[c] for c in row) for row in msa.rows]


def test_columns_and_insertions() -> None:
    """Small letters count before the next column, those at the end are dropped, '.' is nothing, B Z U J O read as D E C X X."""
    msa = parse_a3m("#note\n>q one\nMKTA\n>a\nabM-cT.Adef\n>b\nBZ\nUJ\n>c\nO---\n", "x")
    assert letters(msa) == ["MKTA", "M-TA", "DECX", "X---"]
    assert msa.deletions.tolist() == [[0, 0, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert msa.descriptions == ("q one", "a", "b", "c")


@pytest.mark.parametrize("text", [">q\r\nMK\r\n>a\r\nM-\r\n", "\ufeff>q\nMK\n>a\nM-", ">q\nMK\n\0>a\nM-\n\0", ">q\nM\nK\n\n>a\nM-\n"])
def test_line_ends_marks_nul_and_wrapping_do_not_matter(tmp_path: Path, text: str) -> None:
    """The variants that tools write are one alignment."""
    path = tmp_path / "x.a3m"
    path.write_text(text, newline="")
    assert letters(read_a3m(path)) == ["MK", "M-"]


WRONG = [
    (">q\nMK\n>second hit\nMKT\n", "x: row 2 (>second hit): row has another width; found 3 columns; expected 2 as in the first row"),
    (">q\nMK\n>a\n", "x: row 2 (>a): row has another width; found 0 columns; expected 2"),
    (">q\nMK\n>a\nM*\n", "x: row 2 (>a): illegal character in the alignment; found '*' at position 2; expected A-Z and '-'"),
    (">q\nMK\n>a\nM1K\n", "found '1' at position 2"),
    (">q\nMK\n>a\nMé\n", "found 'é' at position 2"),
    (">q\nM-\n>a\nMK\n", "x: row 1 (>q): first row is not a query; found '-' at position 2; expected capitals only"),
    (">q\nMkT\n", "first row is not a query; found 'k' at position 2"),
    (">q\n\n>a\nMK\n", "x: row 1 (>q): first row is empty; expected the query"),
    ("MK\n>q\nMK\n", "x: file is not A3M; found 'MK'; expected records that start with '>'"),
    ("", "x: file is not A3M; found no record"),
    (
        "#76,30\t1,2\n>101\t102\nMK\n",
        "alignments of several chains in one file are not built yet; found #76,30; remedy: give one A3M file a chain",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_alignments_name_row_and_header(text: str, message: str) -> None:
    """Row number from 1, header, what was found and expected."""
    with pytest.raises(InputError) as caught:
        parse_a3m(text, "x")
    assert message in str(caught.value)


def test_first_row_must_be_the_query() -> None:
    """Compared as alignment letters: the first differing column and both letters, or both lengths."""
    with pytest.raises(InputError, match=r"x: row 1 \(>q\): first row is not the chain; found T in column 3; expected S; remedy"):
        parse_a3m(">q\nMKTA\n", "x", query="MKSV")
    with pytest.raises(InputError, match="found 4 residues; expected 3"):
        parse_a3m(">q\nMKTA\n", "x", query="MKT")
    assert len(parse_a3m(">q\nMDEC\n", "x", query="MBZU").rows) == 1


def test_single_chain_of_colabfold_is_read() -> None:
    """Its first line with one chain is a comment like any other."""
    assert letters(parse_a3m("#2\t1\n>101\nMK\n>hit\t9\nMR\n", "x")) == ["MK", "MR"]


@pytest.mark.parametrize("name", ["ubiquitin.a3m", "2q2k_A_bfd_hits.a3m", "7wux_1_pairing.a3m.gz", "7wux_2_pairing.a3m.gz"])
def test_real_alignments_equal_a_reading_letter_by_letter(name: str) -> None:
    """Against a loop over characters, the slow way."""
    data = (MSAS / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    msa = read_a3m(MSAS / name)
    for row, record in enumerate(text.removeprefix(">").split("\n>")):
        header, *lines = record.split("\n")
        columns, deletions, run = [], [], 0
        for c in "".join(lines):
            if c.islower():
                run += 1
            else:
                columns.append(chemistry.MSA_OF_LETTER[ord(c)])
                deletions.append(run)
                run = 0
        assert msa.descriptions[row] == header.strip()
        assert msa.rows[row].tolist() == columns and msa.deletions[row].tolist() == deletions
    again = parse_a3m(write_a3m(msa).decode(), "x")
    assert (
        np.array_equal(again.rows, msa.rows) and np.array_equal(again.deletions, msa.deletions) and again.descriptions == msa.descriptions
    )


ROWS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.text(chemistry.AMINO_ACIDS + "X", min_size=n, max_size=n),
        st.lists(
            st.tuples(st.text(chemistry.AMINO_ACIDS + "X-", min_size=n, max_size=n), st.lists(st.integers(0, 3), min_size=n, max_size=n)),
            max_size=4,
        ),
    )
)


@given(ROWS)
def test_writing_and_reading_is_the_identity(rows: tuple[str, list[tuple[str, list[int]]]]) -> None:
    """Classes, deletion counts and headers survive; the bytes are those of one alignment."""
    query, others = rows
    texts = [query, *(row for row, _ in others)]
    deletions = [[0] * len(query), *(counts for _, counts in others)]
    classes = np.stack([chemistry.encode(text, chemistry.MSA_OF_LETTER) for text in texts])
    msa = Msa(classes, np.array(deletions, np.int32), tuple(f"row {i}" for i in range(len(texts))))
    written = write_a3m(msa)
    again = parse_a3m(written.decode(), "x", query)
    assert (
        np.array_equal(again.rows, msa.rows) and np.array_equal(again.deletions, msa.deletions) and again.descriptions == msa.descriptions
    )
    assert write_a3m(again) == written


@given(st.text(">MKmk-.#*\n\r\0 1é", max_size=60))
def test_any_text_is_an_alignment_or_an_input_error(text: str) -> None:
    """No other exception, and what is read is consistent."""
    try:
        msa = parse_a3m(text, "x")
    except InputError:
        return
    assert msa.rows.shape[1] > 0 and (msa.rows < 32).all() and (msa.deletions >= 0).all() and (msa.rows[0] != chemistry.GAP).all()
