"""jackhmmer in process on a small real database."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.msa import query_only
from structgen.features.pairing import species_key
from structgen.io.a3m import parse_a3m, write_a3m
from structgen.io.fasta import read_fasta
from structgen.search.hmmer import Database, JackhmmerSettings, load_database, search

SEQDB = Path(__file__).parents[2] / "data" / "examples" / "seqdb.fasta.gz"
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
SETTINGS = JackhmmerSettings()


@pytest.fixture(scope="module")
def database() -> Database:
    return load_database(SEQDB)


def test_ubiquitin_finds_its_family(database: Database) -> None:
    """Polyubiquitin's copies first, then UBL proteins; row 0 is the query without gaps; every row is in the database as it stands."""
    msa = search(UBIQUITIN, database, SETTINGS)
    assert len(msa.rows) > 40 and np.array_equal(msa.rows[0], query_only(UBIQUITIN).rows[0]) and not msa.deletions[0].any()
    assert any("NEDD8" in line for line in msa.descriptions)
    assert species_key(msa.descriptions[1]) == "number 9606"
    sequences = {record.header.split()[0]: record.sequence for record in read_fasta(SEQDB)[0]}
    alphabet = np.array(list(chemistry.AMINO_ACIDS + "X" + "?" * 10 + "-"))
    for row, deletions, line in zip(msa.rows[1:], msa.deletions[1:], msa.descriptions[1:], strict=True):
        name, _, span = line.split()[0].rpartition("/")
        start, end = map(int, span.split("-"))
        residues = alphabet[row[row != chemistry.GAP]]
        stretch = sequences[name][start - 1 : end]
        assert len(residues) + deletions.sum() <= len(stretch) <= len(residues) + deletions.sum() + 60
        letters = iter(stretch)
        assert all(residue in letters for residue in residues)  # a subsequence of the stretch


def test_the_same_search_gives_the_same_bytes(database: Database) -> None:
    """Twice, and from a database read anew."""
    first = write_a3m(search(UBIQUITIN, database, SETTINGS))
    again = load_database(SEQDB.parent / "." / SEQDB.name)
    assert write_a3m(search(UBIQUITIN, again, SETTINGS)) == first
    read = parse_a3m(first.decode(), "x", UBIQUITIN)
    assert np.array_equal(read.rows, search(UBIQUITIN, database, SETTINGS).rows)


def test_more_iterations_find_no_less(database: Database) -> None:
    """The profile of the first round reaches more distant relatives."""
    one = search(UBIQUITIN, database, JackhmmerSettings(iterations=1))
    three = search(UBIQUITIN, database, SETTINGS)
    assert len(three.rows) > len(one.rows)


def test_rows_are_capped(database: Database) -> None:
    """The query and the best."""
    few, all_rows = search(UBIQUITIN, database, JackhmmerSettings(max_rows=7)), search(UBIQUITIN, database, SETTINGS)
    assert few.descriptions == all_rows.descriptions[:7] and np.array_equal(few.rows, all_rows.rows[:7])


@pytest.mark.parametrize("sequence", ["M", "MKTA", "MKTAY", "X" * 30, "A" * 40, "WWWWWWCCCCCCHHHHHHMMMMMM", "MUOBZJX" * 5])
def test_sequences_without_homologues_are_their_own_alignment(database: Database, sequence: str) -> None:
    """Very short, unknown, simple and odd letters: the query row alone."""
    msa = search(sequence, database, SETTINGS)
    assert np.array_equal(msa.rows, query_only(sequence).rows)


def test_both_chains_of_insulin_find_the_human_precursor(database: Database) -> None:
    """So that the two can be paired by species."""
    for chain in ("GIVEQCCTSICSLYQLENYCN", "FVNQHLCGSHLVEALYLVCGERGFFYTPKT"):
        assert any("P01308" in line and species_key(line) == "number 9606" for line in search(chain, database, SETTINGS).descriptions)


def test_stop_signs_inside_the_database_are_insertions(tmp_path: Path) -> None:
    """HMMER never puts a '*' into a column, so the alignment stays legal; a target without description has its name and range."""
    path = tmp_path / "db.fa"
    path.write_text(f">a\n{UBIQUITIN}\n>b\n{UBIQUITIN[:30]}*{UBIQUITIN[30:]}\n")
    msa = search(UBIQUITIN, load_database(path), SETTINGS)
    assert msa.descriptions == ("query", "a/1-76", "b/1-77")
    assert msa.deletions[2].nonzero()[0].tolist() == [30] and np.array_equal(msa.rows[2], msa.rows[0])


def test_database_is_loaded_once_and_again_when_it_changes(tmp_path: Path) -> None:
    """The same object while the file is the same; its digest is the file's sha256."""
    path = tmp_path / "db.fasta.gz"
    path.write_bytes(gzip.compress(b">a\nMKTAYIAK\n"))
    first = load_database(path)
    assert load_database(path) is first and first.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(gzip.compress(b">a\nMKTAYIAK\n>b\nMKTAY\n"))
    assert len(load_database(path).sequences) == 2


WRONG = [
    ("db.fa", b"", "database is empty; expected at least one sequence"),
    ("db.fa.gz", gzip.compress(b"\n"), "database is empty"),
    ("db.fa", b"no fasta", "expected protein FASTA"),
    ("db.fa", b">a\nMK9T\n", "expected protein FASTA"),
    ("db.fa", gzip.compress(b">a\nMK\n"), "file is packed; found the first bytes of gzip"),
    ("db.fa.gz", b">a\nMK\n", "cannot be unpacked: Not a gzipped file"),
    ("db.fa.gz", SEQDB.read_bytes()[:-5000], "database cannot be read"),
]


@pytest.mark.parametrize(("name", "data", "text"), WRONG)
def test_unreadable_databases_are_named(tmp_path: Path, name: str, data: bytes, text: str) -> None:
    """Empty, not FASTA, illegal characters, packed or not against its name, cut off; and missing."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        load_database(path)
    assert str(caught.value).startswith(f"{path}: ") and text in str(caught.value)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_database(tmp_path / "none.fa")
