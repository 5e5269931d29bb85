"""Stockholm: blocks, gaps against the query, and every error with its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from Bio import AlignIO
from hypothesis import given
from hypothesis import strategies as st

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.io.a3m import parse_a3m
from structgen.io.stockholm import first_row, parse_stockholm, read_stockholm

MSAS = Path(__file__).parents[2] / "data" / "examples" / "msas"
BLOCKS = """# STOCKHOLM 1.0
#=GF ID test
#=GS hit/3-9 DE [subseq from] Some protein OS=Homo sapiens OX=9606

query    MK..T
hit/3-9  mkaaT
hit/20-22 --A.T
#=GC RF  xx..x

query    a-
hit/3-9  -B
hit/20-22 AZ
//
"""


def test_blocks_are_joined_and_anchored_to_the_first_row() -> None:
    """Columns where the query has '.' or '-' are insertions of the others; letters are capitals; two ranges of a target stay apart."""
    msa = parse_stockholm(BLOCKS, "x", query="MKTA")
    expected = parse_a3m(">q\nMKTA\n>h\nMKaaT-b\n>i\n--aTAz\n", "x")
    assert np.array_equal(msa.rows, expected.rows) and np.array_equal(msa.deletions, expected.deletions)
    assert msa.descriptions == ("query", "hit/3-9 [subseq from] Some protein OS=Homo sapiens OX=9606", "hit/20-22")
    assert first_row(BLOCKS, "x") == "MKTA"


HEAD = "# STOCKHOLM 1.0\n"
WRONG = [
    (">q\nMK\n", "x: file is not Stockholm; found '>q'; expected # STOCKHOLM 1.0"),
    (HEAD + "q MK\n", "x: file is cut off; found no '//' at the end; remedy: copy the file again"),
    (HEAD + "q MK\n//\n" + HEAD + "q MK\n//\n", "x: file holds more than one alignment; found text after line 3; remedy: split it"),
    (HEAD + "//\n", "x: alignment has no rows"),
    (HEAD + "q MK\nlonely\n//\n", "x: line 3: line is no row; found 'lonely'; expected a name and its letters"),
    (HEAD + "q MK\na M\n//\n", "x: row 2 (a): row has another width; found 1 characters; expected 2 as in the first row"),
    (HEAD + "q MK\na MK\na MR\n//\n", "x: line 4: name stands twice in one block; found a; expected one row a name"),
    (HEAD + "q MK\na M*\n//\n", "x: row 2 (a): illegal character in the alignment; found '*' in column 2"),
    (HEAD + "q MK\na M1\n//\n", "found '1' in column 2"),
    (HEAD + "q --\na MK\n//\n", "x: first row has no letters; expected the query"),
    (HEAD + "q MR\na MK\n//\n", "x: row 1 (q): first row is not the chain; found R in column 2; expected K"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_alignments_name_row_or_line(text: str, message: str) -> None:
    """What was found, and where."""
    with pytest.raises(InputError) as caught:
        parse_stockholm(text, "x", query="MK")
    assert message in str(caught.value)


def test_real_alignment_equals_biopythons_reading() -> None:
    """Names, columns and insertion counts against another parser and a loop over letters."""
    path = MSAS / "2q2k_A_uniprot_hits.sto"
    msa, other = read_stockholm(path), AlignIO.read(path, "stockholm")
    query = str(other[0].seq)
    for row, record in enumerate(other):
        assert msa.descriptions[row].split()[0] == record.id
        columns, counts, run = [], [], 0
        for q, c in zip(query, str(record.seq).upper(), strict=True):
            if q in "-.":
                run += c not in "-."
            else:
                columns.append(chemistry.MSA_OF_LETTER[ord("-" if c == "." else c)])
                counts.append(run)
                run = 0
        assert msa.rows[row].tolist() == columns and msa.deletions[row].tolist() == counts
    assert len(msa.rows) == len(other) == 21


@given(
    st.lists(
        st.sampled_from(["# STOCKHOLM 1.0", "//", "", "q MK", "a M-", "a m.", "#=GS a DE x", "#=GS", "#=GC RF xx", "b", "q é*"]), max_size=9
    )
)
def test_any_text_is_an_alignment_or_an_input_error(lines: list[str]) -> None:
    """No other exception."""
    try:
        msa = parse_stockholm("\n".join(lines) or "\n", "x")
    except InputError:
        return
    assert (msa.rows < 32).all() and (msa.deletions >= 0).all()
