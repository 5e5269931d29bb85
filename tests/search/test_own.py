"""Alignments that a job itself gives: every form of them, their rows, their keys, and which rows pair."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from structgen.errors import InputError
from structgen.features.job import Alignments, Chain, Given, Kind
from structgen.features.pairing import pair_rows, species_key
from structgen.io.a3m import parse_a3m
from structgen.search.given import find_alignments, own_alignment, own_digests

A3M = ">tr|A0A1|X_HUMAN\nMKTA\n>tr|A0A2|Y_HUMAN\nMRtTA\n>tr|A0A3|Z_YEAST\nM-TA\n"
STOCKHOLM = "# STOCKHOLM 1.0\nq MK.TA\nb MRaTA\n//\n"
TABLE = "sequence,key\nMKTA,\nMRtTA,12\nM-TA,\nMKTV,a b\n"


def chain(*, unpaired: tuple[Given, ...] = (), paired: tuple[Given, ...] = (), kind: Kind = Kind.PROTEIN, sequence: str = "MKTA") -> Chain:
    return Chain("A", kind, sequence, msa=Alignments(unpaired, paired))


def test_given_text_and_file_are_the_alignment_of_the_option(tmp_path: Path):
    """Rows and deletions are those that --msa gives of the same file."""
    (tmp_path / "x.a3m").write_text(A3M)
    by_option = find_alignments(tmp_path / "x.a3m").alignment_of("MKTA")
    assert by_option is not None
    for given in (Given(text=A3M), Given(path=str(tmp_path / "x.a3m"))):
        own = own_alignment(chain(unpaired=(given,)))
        assert own is not None
        assert np.array_equal(own.rows, by_option.rows) and np.array_equal(own.deletions, by_option.deletions)


def test_rows_of_unpaired_alignments_never_pair():
    """Their headers may name species; those of paired ones do pair."""
    unpaired, paired = own_alignment(chain(unpaired=(Given(text=A3M),))), own_alignment(chain(paired=(Given(text=A3M),)))
    assert unpaired and paired
    assert len(pair_rows([unpaired.descriptions] * 2, per_species=9)) == 0
    assert pair_rows([paired.descriptions] * 2, per_species=9).tolist() == [[1, 1], [2, 2]]
    both = own_alignment(chain(unpaired=(Given(text=A3M),), paired=(Given(text=A3M),)))
    assert both and len(both.rows) == 5 and pair_rows([both.descriptions] * 2, per_species=9).tolist() == [[3, 3], [4, 4]]


def test_tables_pair_by_their_keys():
    """Equal keys pair, an empty key never does, whatever the order of the columns."""
    own = own_alignment(chain(paired=(Given(text=TABLE),)))
    assert own and [species_key(line) for line in own.descriptions] == [None, "key 12", None, "key a_b"]
    other = own_alignment(chain(paired=(Given(text="key,sequence\n,MKTA\na b,MKTL\n99,MKTV\n"),)))
    assert other and pair_rows([own.descriptions, other.descriptions], per_species=9).tolist() == [[3, 1]]
    assert np.array_equal(own.rows, parse_a3m(">q\nMKTA\n>a\nMRtTA\n>b\nM-TA\n>c\nMKTV\n", "x").rows)


def test_several_files_are_joined_in_order(tmp_path: Path):
    """A3M, packed or not, and Stockholm: the query once."""
    (tmp_path / "b.sto").write_text(STOCKHOLM)
    own = own_alignment(chain(unpaired=(Given(text=A3M), Given(path=str(tmp_path / "b.sto")))))
    assert own and len(own.rows) == 4 and own.deletions[3].tolist() == [0, 0, 1, 0] and own.descriptions == ("query", "", "", "")


def test_rows_of_rna_are_read_as_bases():
    """Not as amino acids."""
    own = own_alignment(chain(unpaired=(Given(text=">q\nGGCA\n>h\nGG-A\n"),), kind=Kind.RNA, sequence="GGCA"))
    as_protein = own_alignment(chain(unpaired=(Given(text=">q\nGGCA\n>h\nGG-A\n"),), sequence="GGCA"))
    assert own and as_protein and not np.array_equal(own.rows, as_protein.rows)


def test_none_and_nothing_are_no_alignment():
    """A chain that is to be searched, and one that shall stand alone."""
    assert own_alignment(Chain("A", Kind.PROTEIN, "MKTA")) is None and own_alignment(chain()) is None
    assert own_digests(Chain("A", Kind.PROTEIN, "MKTA")) == own_digests(chain()) == []


def test_digests_know_content_and_role(tmp_path: Path):
    """A file and its text are one; another role or content is another."""
    (tmp_path / "x.a3m").write_text(A3M)
    text, file = chain(unpaired=(Given(text=A3M),)), chain(unpaired=(Given(path=str(tmp_path / "x.a3m")),))
    assert own_digests(text) == own_digests(file)
    assert own_digests(text) != own_digests(dataclasses.replace(text, msa=Alignments(paired=(Given(text=A3M),))))
    (tmp_path / "x.a3m").write_text(A3M + ">more\nMKTA\n")
    assert own_digests(text) != own_digests(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PAR1\x00rest", "Parquet tables are not read"),
        ("a,b\n1,2\n", "file is not known as an alignment"),
        ("key,sequence\n,MKTA\n1\n", "line 3: row has another width"),
        ("key,sequence\n,MKTV\n", "first row is not the chain; found V in column 4; expected A"),
        (">q\nMKTA\n>s\nMK\n", "row 2 (>s): row has another width"),
    ],
)
def test_broken_alignments_are_named(tmp_path: Path, text: str, message: str):
    """With the file, or the chain that was given them as text."""
    (tmp_path / "x.bin").write_text(text)
    for given, where in ((Given(text=text), "alignment of chain A"), (Given(path=str(tmp_path / "x.bin")), "x.bin")):
        with pytest.raises(InputError) as caught:
            own_alignment(chain(paired=(given,)))
        assert message in str(caught.value) and where in str(caught.value)
