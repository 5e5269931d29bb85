"""Rows of a complex: species keys, pairing, deduplication, limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structgen.features import chemistry
from structgen.features.atoms import Structure, build_atoms
from structgen.features.job import Job, protein_chains
from structgen.features.msa import Msa, RowLimits, alignment_features, deduplicate, first_equal_rows
from structgen.features.pairing import pair_rows, species_key

KEYS = [
    ("sp|P0CG48|UBC_HUMAN Polyubiquitin-C OS=Homo sapiens OX=9606", "mnemonic HUMAN"),
    ("tr|A0A024R1R8|A0A024R1R8_HUMAN/12-80 Uncharacterised", "mnemonic HUMAN"),
    ("tr|Q9XYZ1_2|Q9XYZ1_9BACT", "mnemonic 9BACT"),
    ("UniRef100_A0A0B4J2F0_9606/3-90", "number 9606"),
    ("UniRef100_UPI0003108055_10090", "number 10090"),
    ("UniRef90_A0A1 protein n=3 Tax=Mus TaxID=10090 RepID=X", "number 10090"),
    ("P12345 thing OS=Homo sapiens OX=9606 GN=X", "number 9606"),
    ("x|W0FSK4 Polyprotein OS=Dengue virus 3 PE=4", "name Dengue virus"),
    ("x OS=Escherichia coli (strain K12) GN=a", "name Escherichia coli"),
    ("UniRef90_X n=1 TaxID=1", None),
    ("UniRef90_X n=1 TaxID=0", None),
    ("x OS=uncultured bacterium PE=4", None),
    ("x OS=Virus PE=4", None),
    ("UniRef100_A0A0B4J2F0", None),
    ("101\t0.5\t1e-9", None),
    ("sp|P0CG48|UBC", None),
    ("see sp|P0CG48|UBC_HUMAN", None),
    ("", None),
]


@pytest.mark.parametrize(("description", "key"), KEYS)
def test_species_of_header_lines(description: str, key: str | None) -> None:
    """Every source's pattern, in order; mnemonics and numbers never mix; roots of the taxonomy are no key."""
    assert species_key(description) == key


def lines(*species: str) -> list[str]:
    return ["query", *(f"sp|P{i}|X_{s}" if s else "nothing" for i, s in enumerate(species))]


def test_kth_rows_of_a_species_pair_up_to_the_smaller_count() -> None:
    """Two chains: HUMAN has 2 and 3 rows, MOUSE 1 and 1, YEAST stands alone; small products of row numbers come first."""
    paired = pair_rows([lines("HUMAN", "YEAST", "HUMAN", "MOUSE"), lines("MOUSE", "HUMAN", "HUMAN", "HUMAN")], per_species=600)
    assert paired.tolist() == [[1, 2], [4, 1], [3, 3]]


def test_species_in_more_chains_come_first_and_missing_chains_have_gaps() -> None:
    """Three chains: MOUSE in all three precedes HUMAN in two, although HUMAN's product is smaller."""
    paired = pair_rows([lines("HUMAN", "MOUSE"), lines("HUMAN", "MOUSE"), lines("", "MOUSE")], per_species=600)
    assert paired.tolist() == [[2, 2, 2], [1, 1, -1]]


def test_at_most_so_many_rows_a_species() -> None:
    """The cap holds per species."""
    assert len(pair_rows([lines(*["HUMAN"] * 9), lines(*["HUMAN"] * 9)], per_species=4)) == 4
    assert pair_rows([lines("HUMAN"), lines("MOUSE")], per_species=4).shape == (0, 2)


@given(st.lists(st.lists(st.sampled_from(["A", "B", "C", ""]), max_size=6), min_size=2, max_size=3), st.integers(1, 3))
def test_pairing_equals_a_literal_transcription(species: list[list[str]], cap: int) -> None:
    """Loop over species and k, then sort: chains present descending, product of row numbers ascending."""
    expected = []
    for s in "ABC":
        rows = [[i + 1 for i, x in enumerate(chain) if x == s] for chain in species]
        present = [r for r in rows if r]
        for k in range(min([cap, *map(len, present)]) if len(present) > 1 else 0):
            expected.append([r[k] if r else -1 for r in rows])
    paired = pair_rows([lines(*chain) for chain in species], per_species=cap).tolist()
    assert sorted(paired) == sorted(expected)
    ranks = [(row.count(-1), math.prod(i for i in row if i > 0)) for row in paired]
    assert ranks == sorted(ranks)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_first_equal_rows_equals_a_loop(rows: list[tuple[int, int]]) -> None:
    """Groups of equal rows and their first members."""
    first, same = first_equal_rows(np.array(rows, np.uint8))
    assert same.tolist() == [rows.index(row) for row in rows]
    assert sorted(first.tolist()) == sorted({rows.index(row) for row in rows})


def encode(*rows: str) -> np.ndarray:
    return np.stack([chemistry.encode(row, chemistry.MSA_OF_LETTER) for row in rows])


def msa(rows: list[str], descriptions: list[str] | None = None) -> Msa:
    classes = encode(*rows)
    return Msa(classes, np.zeros(classes.shape, np.int32), tuple(descriptions or [f"r{i}" for i in range(len(rows))]))


def structure(*sequences: str) -> Structure:
    return build_atoms(Job("t", "t", protein_chains(sequences)))


def text(rows: np.ndarray) -> list[str]:
    letters = chemistry.AMINO_ACIDS + "X" + "?" * 10 + "-"
    return ["".join(letters[c] for c in row) for row in rows]


def test_deduplication_keeps_the_first_with_its_insertions() -> None:
    """Rows that differ in insertions alone are equal; order stays."""
    classes = encode("MKT", "MRT", "MKT", "M-T", "MRT")
    deletions = np.arange(15, dtype=np.int32).reshape(5, 3)
    kept = deduplicate(Msa(classes, deletions, tuple("abcde")))
    assert kept.descriptions == ("a", "b", "d") and kept.deletions[:, 0].tolist() == [0, 3, 9]


def test_rows_of_a_heterodimer() -> None:
    """Query, then pairs, then what is left of each chain side by side; paired rows do not come again."""
    first = msa(["MKT", "MRT", "AAA", "CCC"], lines("HUMAN", "YEAST", "MOUSE"))
    second = msa(["GS", "GA", "GG"], lines("MOUSE", "HUMAN"))
    result = alignment_features(structure("MKT", "GS"), [first, second], RowLimits())
    assert text(result.rows) == ["MKTGS", "MRTGG", "CCCGA", "AAA--"]
    assert result.profile[0, chemistry.AMINO_ACIDS.index("M")] == pytest.approx(0.5)
    assert result.profile[3, chemistry.AMINO_ACIDS.index("G")] == pytest.approx(1.0)


def test_homomers_are_not_paired_with_themselves() -> None:
    """One distinct sequence: no pairing, identical rows in every copy, wherever the copies stand."""
    one = msa(["MKT", "MRT", "M-T"], lines("HUMAN", "MOUSE"))
    assert text(alignment_features(structure("MKT", "MKT"), [one, one], RowLimits()).rows) == ["MKTMKT", "MRTMRT", "M-TM-T"]
    other = msa(["GS", "GA"], lines("MOUSE"))
    rows = text(alignment_features(structure("MKT", "GS", "MKT"), [one, other, one], RowLimits()).rows)
    assert rows == ["MKTGSMKT", "M-TGAM-T", "MRT--MRT"]


def test_pairs_that_repeat_the_query_or_each_other_are_dropped() -> None:
    """The queries' own entries in the database would be the query row again."""
    first = msa(["MKT", "MKT", "MRT", "MRT"], lines("HUMAN", "MOUSE", "YEAST"))
    second = msa(["GS", "GS", "GA", "GA"], lines("HUMAN", "MOUSE", "YEAST"))
    assert text(alignment_features(structure("MKT", "GS"), [first, second], RowLimits()).rows) == ["MKTGS", "MRTGA"]


def test_limits_of_rows() -> None:
    """At most `rows` in all; paired ones, with the query, at most half of them."""
    letters = ["".join(p) for p in itertools.product("ACDEFGHIKL", repeat=2)]
    species = [f"S{i:03d}" for i in range(100)]
    first, second = msa(["MK", *letters], lines(*species)), msa(["GS", *letters], lines(*species))
    rows = alignment_features(structure("MK", "GS"), [first, second], RowLimits(rows=40)).rows
    assert rows.shape == (40, 4)
    paired = sum(bool(np.array_equal(row[:2], row[2:])) for row in rows[1:20])
    assert paired == 19 and text(rows[20:21]) == [letters[19] * 2]
    alone = alignment_features(structure("MK"), [first], RowLimits(rows=40)).rows
    assert alone.shape == (40, 2)


def test_alignment_must_be_consistent() -> None:
    """Rows, deletions and descriptions agree in number, and there is a query."""
    rows = encode("MKT")
    with pytest.raises(ValueError, match="descriptions"):
        Msa(rows, np.zeros_like(rows, np.int32), ("a", "b"))
    with pytest.raises(ValueError):
        Msa(rows[:0], np.zeros((0, 3), np.int32), ())
