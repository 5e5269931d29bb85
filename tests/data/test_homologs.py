"""The homolog split: what is near enough to stay, what has to go, and that nothing nearer is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from structgen.data.clustering import ClusterSettings, SplitSettings, cluster, split_entries
from structgen.data.homologs import HomologSettings, choose_homologs, write_holdout
from structgen.data.relatives import find, runs
from structgen.errors import InputError
from structgen.features.chains import ChainSet, read_holdout
from structgen.search.nearest import block_of
from tests.archive import Made, random_chains, write_archive

LETTERS = np.array(list("ARNDCQEGHILKMFPSTWYV"))


def changed(sequence: str, share: float, rng: np.random.Generator) -> str:
    """With exactly that share of the letters replaced by others, spread evenly."""
    found = list(sequence)
    for i in np.linspace(0, len(found) - 1, round(share * len(found))).round().astype(int):
        found[i] = rng.choice(LETTERS[found[i] != LETTERS])
    return "".join(found)


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> ChainSet:
    """Three families: relatives at 40 % and 97 %, at 60 %, at 80 %; and a chain alone."""
    rng, made, clusters = np.random.default_rng(4), list[Made](), list[int]()
    for k, shares in enumerate([(0.60, 0.03), (0.40,), (0.20,), ()]):
        (first,) = random_chains(rng, 1, 150)
        members = [first.sequence, *(changed(first.sequence, share, rng) for share in shares)]
        made += [replace(first, id=f"f{k}_{m}", sequence=s, tier="full" if m == 0 else "bb") for m, s in enumerate(members)]
        clusters += [k] * len(members)
    folder = write_archive(tmp_path_factory.mktemp("set"), made, rng, clusters)
    return ChainSet(folder)


def test_targets_have_their_best_relative_in_their_bin(chains: ChainSet, tmp_path: Path):
    """One target a bin; the near copy leaves training, the relative stays, and a chain alone is no target."""
    rows = choose_homologs(chains, HomologSettings(each=1, length=(40, 350)))
    targets = {row.bin: row for row in rows if row.split == "homolog"}
    assert {bin: (row.id, row.relative) for bin, row in targets.items()} == {
        "30-50": ("f0_0", "f0_1"),
        "50-70": ("f1_0", "f1_1"),
        "70-95": ("f2_0", "f2_1"),
    }
    identities = {"f0_0": 0.4, "f1_0": 0.6, "f2_0": 0.8}
    assert [row.identity for row in targets.values()] == pytest.approx([identities[row.id] for row in targets.values()], abs=0.05)
    assert [(row.id, row.relative) for row in rows if row.split == "left_out"] == [("f0_2", "f0_0")]
    path = tmp_path / "h.tsv"
    path.write_text(write_holdout(rows))
    held = ChainSet(chains.folder, path)
    assert len(held.split("homolog")) == 3 and len(held.split("left_out")) == 1 and len(held.split("train")) == len(chains) - 4
    assert read_holdout(path)[0].relative == rows[0].relative


def test_a_table_of_another_set_is_refused(chains: ChainSet, tmp_path: Path):
    """A chain that is not there, and a file that is no table."""
    path = tmp_path / "h.tsv"
    path.write_text("id\tsplit\tbin\trelative\tidentity\tcoverage\nnone\thomolog\t30-50\tx\t0.4\t1\n")
    with pytest.raises(InputError, match=r"chain none cannot be held out.*no such chain"):
        ChainSet(chains.folder, path)
    path.write_text("hello\n1\n")
    with pytest.raises(InputError, match="cannot read a table of held-out chains"):
        ChainSet(chains.folder, path)


def test_hits_count_identity_over_what_is_aligned():
    """Identity and coverage of a relative whose differences are known, and the stretches between its gaps."""
    rng = np.random.default_rng(5)
    query = "".join(rng.choice(LETTERS, 120))
    others = {"same": query, "half": query[:60], "gap": query[:50] + query[60:], "none": "".join(rng.choice(LETTERS, 120))}
    found = {hit.name: hit for hit in find(query, others, block_of(others))}
    assert found.keys() == {"same", "half", "gap"}
    assert found["same"].identity == 1.0 and found["same"].runs.tolist() == [[0, 0, 120]]
    assert found["half"].coverage == pytest.approx(0.5, abs=0.02)
    gap = found["gap"].runs
    assert len(gap) == 2 and gap[:, 2].sum() == pytest.approx(110, abs=2) and gap[1, 0] - gap[1, 1] == 10
    assert runs(np.array([1, 2, 5, 6, 7]), np.array([0, 1, 2, 3, 9])).tolist() == [[1, 0, 2], [5, 2, 2], [7, 9, 1]]


@pytest.mark.parametrize("use_mmseqs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_clusters_are_families_whatever_the_order(use_mmseqs: bool):
    """Chains at 60 % identity are together, unrelated ones apart; the order of the input does not matter."""
    rng = np.random.default_rng(6)
    families = [["".join(rng.choice(LETTERS, 100))] for _ in range(6)]
    for members in families:
        members += [changed(members[0], 0.4, rng) for _ in range(3)]
    sequences = [s for members in families for s in members]
    settings = ClusterSettings(use_mmseqs=use_mmseqs)
    found = cluster(sequences, settings)
    assert found == cluster(sequences[::-1], settings)
    assert [len({found[s] for s in members}) for members in families] == [1] * 6 and len(set(found.values())) == 6


def test_entries_that_share_a_cluster_are_in_one_split():
    """Chains of union-find, deterministic; shares are near those asked for; a giant group stays in training."""
    settings = SplitSettings(val=0.2, test=0.2, largest=10)
    entries = [[f"c{k}", f"c{k + 1}"] for k in range(0, 4000, 4)] + [[f"c{k + 1}"] for k in range(0, 4000, 4)]
    splits = split_entries(entries, settings)
    assert splits[:1000] == splits[1000:] and splits == split_entries(entries, settings)
    assert splits.count("val") / 2000 == pytest.approx(0.2, abs=0.04) and splits.count("test") / 2000 == pytest.approx(0.2, abs=0.04)
    assert set(split_entries([["a"]] * 11, SplitSettings(val=1.0, largest=10))) == {"train"}
