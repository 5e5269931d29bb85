"""The depth of alignments against a count by hand, and which chain they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from structgen.features.job import Kind
from structgen.features.msa import Msa
from structgen.report.coverage import BANDS, GAP, coverage, coverages
from structgen.store import Store
from tests.report.conftest import ALIGNMENT, KEY, make_run


def test_depth_is_what_counting_gives():
    """Row by row: its share of equal residues names the band, its residues count where they stand."""
    rng = np.random.default_rng(1)
    query = rng.integers(0, 20, 40)
    rows = np.stack([query, *(np.where(rng.random(40) < share, query, rng.choice([3, 7, GAP], 40)) for share in rng.random(60))])
    counted = np.zeros((len(BANDS), 40), int)
    for row in rows:
        residues = [k for k in range(40) if row[k] != GAP]
        identity = sum(row[k] == query[k] for k in residues) / max(len(residues), 1)
        band = next(k for k, least in enumerate(BANDS) if identity >= least)
        for k in residues:
            counted[band, k] += 1
    found = coverage(Msa(rows.astype(np.uint8), np.zeros(rows.shape, np.int32), ("",) * len(rows)))
    assert np.array_equal(found, counted) and found.sum(0)[0] == (rows[:, 0] != GAP).sum()


def test_an_alignment_belongs_to_the_chains_that_are_its_first_row(tmp_path: Path):
    """Both copies of a chain have it, another chain has none; gaps and insertions are no residues."""
    make_run(tmp_path)
    chains = [("GXYLLK", Kind.PROTEIN), ("MKWVTF", Kind.PROTEIN), ("MKWVTF", Kind.PROTEIN)]
    found = coverages(tmp_path / "store", [KEY, KEY], chains)
    assert set(found) == {1, 2}
    assert found[1].sum(0).tolist() == [4, 4, 4, 3, 3, 4]
    assert found[1][0].tolist() == [3, 3, 3, 2, 2, 3]  # the query, its copy, and the row whose residues are all the query's


def test_what_is_no_alignment_is_passed_over(tmp_path: Path):
    """Absent, damaged, of another kind, or no store at all: no depth, no error."""
    store = Store(tmp_path)
    store.publish("cd" * 32, b"templates, say")
    store.publish("ef" * 32, b"\x1f\x8b broken")
    store.publish("12" * 32, ALIGNMENT.encode())
    (tmp_path / "12" / ("12" * 32)).write_bytes(b"cut")
    assert coverages(tmp_path, ["cd" * 32, "ef" * 32, "12" * 32, "34" * 32], [("MKWVTF", Kind.PROTEIN)]) == {}
    assert coverages(tmp_path / "absent", [KEY], [("MKWVTF", Kind.PROTEIN)]) == {}
