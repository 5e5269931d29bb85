"""The user's alignments are found by their queries."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from structgen.errors import InputError
from structgen.io.a3m import read_a3m
from structgen.io.jobs.read import read_jobs
from structgen.search.given import find_alignments, require_use

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
A3M = ">q\nMKTA\n>a\nMRTA\n"
STOCKHOLM = "# STOCKHOLM 1.0\nq MK.TA\nb MRaTV\n//\n"


def test_every_chain_of_the_demo_has_its_alignment() -> None:
    """A folder with other alignments in it: each chain gets the file whose first row it is."""
    given = find_alignments(EXAMPLES / "msas")
    chains = [chain for job in read_jobs([EXAMPLES / "demo.fasta"])[0] for chain in job.chains]
    names = [[file.name for file in given.files_of(chain.sequence)] for chain in chains]
    assert names == [["ubiquitin.a3m"], ["insulin_a.a3m"], ["insulin_b.a3m"]]
    alignment = given.alignment_of(chains[0].sequence)
    assert alignment is not None
    assert np.array_equal(alignment.rows, read_a3m(EXAMPLES / "msas" / "ubiquitin.a3m").rows)
    assert given.note_on(chains[0].sequence) == "alignment from ubiquitin.a3m"


def test_files_of_one_chain_are_joined_with_one_query(tmp_path: Path) -> None:
    """Two databases' hits: rows of both, by file name, in both formats, packed or not."""
    (tmp_path / "b.sto").write_text(STOCKHOLM)
    (tmp_path / "a.a3m.gz").write_bytes(gzip.compress(A3M.encode()))
    (tmp_path / "c.txt").write_text("not an alignment")
    alignment = find_alignments(tmp_path).alignment_of("MKTA")
    assert alignment is not None
    assert alignment.descriptions == ("q", "a", "b") and alignment.deletions[2].tolist() == [0, 0, 1, 0]
    real = find_alignments(EXAMPLES / "msas").alignment_of("MGSSHHHHHHSSGLVPGSHMDKKETKHLLKIKKEDYPQIFDFLENVPRGTKTAHIREALRRYIEEIGENP")
    assert real is not None and len(real.rows) == 4 + 21 - 1


def test_chains_without_alignment_in_a_folder_are_noted(tmp_path: Path) -> None:
    """None, a note, and no error."""
    (tmp_path / "a.a3m").write_text(A3M)
    given = find_alignments(tmp_path)
    assert given.alignment_of("GSH") is None and given.files_of("GSH") == ()
    assert given.note_on("GSH") == f"no alignment in {tmp_path}: predicted from the sequence alone"
    require_use(given, ["GSH"])


def test_queries_are_compared_as_alignment_letters(tmp_path: Path) -> None:
    """A chain with selenocysteine finds the alignment that has a cysteine there."""
    (tmp_path / "a.a3m").write_text(">q\nMCD\n")
    assert find_alignments(tmp_path).alignment_of("MUB") is not None


def test_a_file_that_serves_no_chain_is_an_error_with_the_column(tmp_path: Path) -> None:
    """The most similar chain is compared; a file that serves one of several is fine."""
    path = tmp_path / "x.stockholm"
    path.write_text(STOCKHOLM)
    given = find_alignments(path)
    require_use(given, ["GSH", "MKTA"])
    with pytest.raises(
        InputError, match=r"against the most similar of 3 chain\(s\): first row is not the chain; found T in column 3; expected S"
    ):
        require_use(given, ["GSHM", "MKSA", "MK"])
    with pytest.raises(InputError, match="found 4 residues; expected 3"):
        require_use(given, ["GSH"])


WRONG = [
    ("x.fasta", A3M, "x.fasta: file is not known as an alignment; expected a name that ends in .a3m, .sto, .stockholm"),
    ("x.a3m", "", "x.a3m: file is not A3M; found no record"),
    ("x.a3m", "MKT", "x.a3m: file is not A3M; found 'MKT'"),
    ("x.sto", A3M, "x.sto: file is not Stockholm; found '>q'"),
    ("x.a3m.gz", A3M, "x.a3m.gz: cannot be unpacked"),
]


@pytest.mark.parametrize(("name", "text", "message"), WRONG)
def test_files_that_are_no_alignment_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    """In time, before anything is computed."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        find_alignments(path)
    assert message in str(caught.value)


def test_missing_paths_and_empty_folders_are_named(tmp_path: Path) -> None:
    """Nothing to read is an error."""
    with pytest.raises(InputError, match=r"none\.a3m: cannot be read: No such file"):
        find_alignments(tmp_path / "none.a3m")
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        find_alignments(Path("M" * 5000 + ".a3m"))
    with pytest.raises(InputError, match=r"folder holds no alignment; expected files that end in \.a3m"):
        find_alignments(tmp_path)


def test_broken_rows_are_named_when_the_alignment_is_used(tmp_path: Path) -> None:
    """Only the first row is read for the index."""
    (tmp_path / "a.a3m").write_text(">q\nMKTA\n>short\nMK\n")
    given = find_alignments(tmp_path)
    with pytest.raises(InputError, match=r"a\.a3m: row 2 \(>short\): row has another width"):
        given.alignment_of("MKTA")


def test_the_index_travels_to_other_processes() -> None:
    """It is plain data."""
    given = find_alignments(EXAMPLES / "msas")
    assert pickle.loads(pickle.dumps(given)) == given
