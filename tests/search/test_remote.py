"""Remote relatives: columns and their alphabet, alignments against loops, what chance gives, and a relative without a common letter."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from structgen.features import chemistry
from structgen.features.msa import Msa
from structgen.search import remote
from structgen.search.columns import BACKGROUND, SUBSTITUTED, ColumnAlphabet, columns_of, frequencies_of
from structgen.search.library import Library, LibraryChain, write_library
from structgen.search.remote import Chance, RemoteLibrary, remote_hits, ungapped
from structgen.search.template_index import build_index, library_index
from structgen.search.templates import TemplateSettings, find_templates
from structgen.store import Store

LETTERS = chemistry.AMINO_ACIDS


def msa_of(rows: list[str]) -> Msa:
    classes = np.stack([chemistry.encode(row, chemistry.MSA_OF_LETTER) for row in rows]).astype(np.uint8)
    return Msa(classes, np.zeros(classes.shape, np.int32), tuple(str(k) for k in range(len(rows))))


def random_library(rng: np.random.Generator, lengths: list[int], letters: int = 30) -> RemoteLibrary:
    columns = rng.dirichlet(np.full(20, 0.3), letters).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return RemoteLibrary(ColumnAlphabet(columns), rng.integers(letters, size=starts[-1]).astype(np.uint8), starts)


def test_substitutions_are_those_of_blosum62() -> None:
    """Rows are probabilities; what the matrix scores above 0 is more frequent than by chance; the background nearly stays what it is."""
    assert np.allclose(SUBSTITUTED.sum(1), 1) and np.allclose(BACKGROUND.sum(), 1)
    at = LETTERS.index
    assert SUBSTITUTED[at("I"), at("V")] > BACKGROUND[at("V")] and SUBSTITUTED[at("W"), at("G")] < BACKGROUND[at("G")]
    assert np.abs(BACKGROUND @ SUBSTITUTED - BACKGROUND).max() < 0.012


def test_frequencies_of_an_alignment() -> None:
    """Henikoff's weights by loops; every row twice is the same alignment; columns of gaps and unknown letters are zeros."""
    rows = ["ACD-X", "ACE-X", "AGE-A", "WGEC-"]
    found = frequencies_of(msa_of(rows))
    expected = np.zeros((5, 20))
    for row in rows:
        shares = []
        for k, letter in enumerate(row):
            column = [other[k] for other in rows if other[k] in LETTERS]
            if letter in LETTERS:
                shares.append(1 / (len(set(column)) * column.count(letter)))
        for k, letter in enumerate(row):
            if letter in LETTERS:
                expected[k, LETTERS.index(letter)] += np.mean(shares)
    expected /= np.maximum(expected.sum(1, keepdims=True), 1e-30)
    assert np.allclose(found, expected) and np.allclose(frequencies_of(msa_of(rows + rows)), found)
    assert not frequencies_of(msa_of(["A-", "AX"]))[1].any()


def test_columns_mix_substitutions_in() -> None:
    """A sequence alone gives those of its letters; many homologues keep their frequencies; residues without any have their letter's."""
    alone = columns_of("AWX", None)
    assert np.allclose(alone[:2], SUBSTITUTED[[LETTERS.index("A"), LETTERS.index("W")]]) and np.allclose(alone[2], BACKGROUND @ SUBSTITUTED)
    assert np.allclose(columns_of("AW", np.eye(20)[[LETTERS.index("A"), LETTERS.index("W")]]), alone[:2])
    flat = np.full((3, 20), 0.05)
    flat[2] = 0
    mixed = columns_of("AAA", flat)
    share = 1 / (1 + (20 - 1) / 1.5)
    assert np.allclose(mixed[:2], (1 - share) * 0.05 + share * flat[:2] @ SUBSTITUTED, atol=1e-6)
    assert np.allclose(mixed[2], SUBSTITUTED[0]) and np.allclose(mixed.sum(1), 1)


def test_an_alphabet_of_few_columns_is_exact(rng_np: np.random.Generator) -> None:
    """As many letters as distinct columns; of more columns each gets the letter nearest to it; scores are what the formula says."""
    few = rng_np.dirichlet(np.ones(20), 40).astype(np.float32)
    exact = ColumnAlphabet.learned(np.concatenate([few, few]))
    assert len(exact.letters) == 40 and np.allclose(exact.letters[exact.encoded(few)], few)
    many = rng_np.dirichlet(np.full(20, 0.2), 3000).astype(np.float32)
    learned = ColumnAlphabet.learned(many)
    assert 200 < len(learned.letters) <= 255 and np.allclose(learned.letters.sum(1), 1, atol=1e-5)
    code = learned.encoded(many)
    distance = ((np.sqrt(many)[:, None] - np.sqrt(learned.letters)) ** 2).sum(-1)
    assert np.allclose(distance[np.arange(len(many)), code], distance.min(1), atol=1e-6)
    assert np.array_equal(ColumnAlphabet.learned(many).letters, learned.letters)
    bits = math.log2(sum(many[3, a] * learned.letters[5, a] / BACKGROUND[a] for a in range(20)))
    assert abs(learned.bits(many[3:4])[0, 5] - bits) < 1e-5


@pytest.fixture
def rng_np() -> np.random.Generator:
    return np.random.default_rng(3)


def test_alignments_without_gaps_equal_loops(rng_np: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best stretch of any diagonal of every chain, wherever the library is cut into parts."""
    lengths = [5, 1, 17, 30, 9, 2]
    library = random_library(rng_np, lengths)
    scores = rng_np.integers(-30, 20, (12, 30)).astype(np.int32)
    expected = []
    for k in range(len(lengths)):
        chain, best = library.chain(k), 0
        for shift in range(-11, len(chain)):
            run = 0
            for i in range(12):
                if 0 <= i + shift < len(chain):
                    run = max(0, run + scores[i, chain[i + shift]])
                    best = max(best, run)
        expected.append(best)
    assert ungapped(scores, library).tolist() == expected
    monkeypatch.setattr(remote, "_AT_ONCE", 8)
    cut = RemoteLibrary(library.alphabet, library.columns, library.starts)
    assert len(cut.parts) > 3 and ungapped(scores, cut).tolist() == expected
    high = np.full((25, 30), 1_900, np.int32)
    assert ungapped(high, library).tolist() == [9_500, 1_900, 30_000, 30_000, 17_100, 3_800]


@pytest.mark.parametrize("residues", [9, 300])
def test_alignments_with_gaps_equal_loops(rng_np: np.random.Generator, residues: int) -> None:
    """Gotoh's recursions, also for queries of more residues than a byte counts; the pairs of the alignment sum to its score."""
    library = random_library(rng_np, [25])
    scores = rng_np.integers(-60, 60, (residues, 30)).astype(np.int32)
    chain = library.chain(0)
    aligner = remote._Aligner(scores)
    first, more = -80, -8
    best = np.zeros((residues + 1, 26))
    down, right = np.full_like(best, -1e9), np.full_like(best, -1e9)
    for i in range(1, residues + 1):
        for j in range(1, 26):
            down[i, j] = max(best[i - 1, j] + first, down[i - 1, j] + more)
            right[i, j] = max(best[i, j - 1] + first, right[i, j - 1] + more)
            best[i, j] = max(0, best[i - 1, j - 1] + scores[i - 1, chain[j - 1]], down[i, j], right[i, j])
    assert aligner.score(chain) == best.max()
    own, other = aligner.pairs(chain)
    gaps = [max(a, b) - 1 for a, b in zip(np.diff(own), np.diff(other), strict=True)]
    penalty = sum(first + (gap - 1) * more for gap in gaps if gap)
    assert scores[own, chain[other]].sum() + penalty == best.max() and (np.diff(own) > 0).all() and (np.diff(other) > 0).all()
    assert remote._Aligner(np.full((4, 30), -5)).score(chain) == 0


def test_chance_is_learned_without_relatives(rng_np: np.random.Generator) -> None:
    """Gumbel scores that grow with the length of a chain, some relatives among them: p-values of new ones are even between 0 and 1."""
    length = rng_np.integers(40, 400, 4000)
    score = 50 + 20 * np.log(length) + rng_np.gumbel(0, 12, 4000)
    score[:20] += 400
    chance = Chance.of([(round(s), n) for s, n in zip(score[:2000], length[:2000], strict=True)])
    p = np.array([chance.p_value(s, n) for s, n in zip(score[2000:], length[2000:], strict=True)])
    assert abs(p.mean() - 0.5) < 0.04 and abs((p < 0.1).mean() - 0.1) < 0.03 and (p < 0.001).sum() < 12
    assert max(chance.p_value(score[k], length[k]) for k in range(20)) < 1e-9
    assert Chance(0.0, 0.0, 1.0).p_value(0, 7) == pytest.approx(1 - math.exp(-math.exp(-np.euler_gamma)))


def test_a_small_library_makes_no_hit_better(rng_np: np.random.Generator) -> None:
    """Of a library of three chains, two of them relatives of the query, both are found and the third is not; what is chance to it comes of
    the letters of all three in other orders, as many as are asked for, and the same every time."""
    shares = family(rng_np, 80)
    columns = [columns_of(drawn(rng_np, own), own) for own in (shares, family(rng_np, 70), shares)]
    alphabet = ColumnAlphabet.learned(np.concatenate(columns))
    library = RemoteLibrary(alphabet, alphabet.encoded(np.concatenate(columns)), np.array([0, 80, 150, 230]))
    hits = list(remote_hits(columns_of(drawn(rng_np, shares), shares), library, e_value=1e-3))
    assert sorted(hit.chain for hit in hits) == [0, 2] and all(len(hit.own) > 75 for hit in hits)
    assert not list(remote_hits(columns_of("A" * 60, None), library, e_value=1e-3))
    first, again = (list(remote.unrelated(library, 10)) for _ in range(2))
    assert len(first) == 10 and all(map(np.array_equal, first, again))
    assert [sorted(chain) for chain in first[3:6]] == [sorted(library.chain(k)) for k in range(3)]


def test_composition_is_no_kinship(rng_np: np.random.Generator) -> None:
    """Two proteins of the same three amino acids in any order score far beyond chance, forwards and backwards: no relatives. The same
    protein with half of its residues changed is one."""
    few = ["".join(rng_np.choice(list("AEK"), 120, p=(0.3, 0.4, 0.3))) for _ in range(3)]
    few[2] = "".join(a if rng_np.random() < 0.5 else b for a, b in zip(few[0], few[2], strict=True))
    others = ["".join(rng_np.choice(list(LETTERS), n, p=BACKGROUND)) for n in rng_np.integers(60, 180, 200)]
    columns = [columns_of(sequence, None) for sequence in (*few[1:], *others)]
    alphabet = ColumnAlphabet.learned(np.concatenate(columns))
    starts = np.cumsum([0, *map(len, columns)])
    library = RemoteLibrary(alphabet, alphabet.encoded(np.concatenate(columns)), starts)
    query = columns_of(few[0], None)
    aligner = remote._Aligner(np.round(remote.UNITS * (alphabet.bits(query) + remote._SHIFT)).astype(np.int32))
    chance = Chance.of([(aligner.score(chain), len(chain)) for chain in remote.unrelated(library, 500)])
    assert 20_000 * chance.p_value(aligner.score(library.chain(0)), 120) < 1e-3
    assert [hit.chain for hit in remote_hits(query, library, e_value=1e-3)] == [1]


def family(rng: np.random.Generator, residues: int) -> np.ndarray:
    """Frequencies of residues that may be any of a few amino acids."""
    shares = np.zeros((residues, 20))
    for row in shares:
        row[rng.choice(20, 4, replace=False)] = 0.25
    return shares


def drawn(rng: np.random.Generator, shares: np.ndarray) -> str:
    return "".join(LETTERS[rng.choice(20, p=row)] for row in shares)


def test_a_relative_is_found_by_its_profile(rng_np: np.random.Generator, tmp_path: Path) -> None:
    """Of 300 chains, one has the query's profile with an insertion: found on the right residues where hmmsearch finds nothing, not by the
    reversed query, not without profiles, and not where it is switched off or too much like the query."""
    shares = family(rng_np, 90)
    inserted = np.concatenate([shares[:40], family(rng_np, 6), shares[40:]])
    profiles = [family(rng_np, int(n)) for n in rng_np.integers(60, 140, 299)]
    chains = [(f"c{k}", drawn(rng_np, own), own) for k, own in enumerate(profiles)]
    chains.insert(123, ("relative", drawn(rng_np, inserted), inserted))
    query = drawn(rng_np, shares)
    path, bare = tmp_path / "made.library", tmp_path / "bare.library"
    atoms = [rng_np.normal(0, 1, (len(s), 3, 3)) + 3.8 * np.arange(len(s))[:, None, None] for _, s, _ in chains]
    for target, known in ((path, True), (bare, False)):
        write_library(
            target, [LibraryChain(n, "A", "", s, x, f if known else None) for (n, s, f), x in zip(chains, atoms, strict=True)], {}
        )
    found = Library(path).remote
    assert found is not None and Library(bare).remote is None
    first, *others = remote_hits(columns_of(query, shares), found, e_value=1e-3)
    pairs = dict(zip(first.own.tolist(), first.other.tolist(), strict=True))
    assert first.chain == 123 and not others and first.e_value < 1e-6
    assert sum(pairs.get(i) == (i if i < 40 else i + 6) for i in range(90)) > 80
    assert not list(remote_hits(columns_of(query, shares)[::-1].copy(), found, e_value=1e-3))
    settings = TemplateSettings()
    given = find_templates(query, None, library_index(path), path, settings, shares)
    assert [used.file for used in given.used] == ["relative"] and given.used[0].e_value == first.e_value
    assert given.used[0].identity < 0.45 and given.frame_mask[0].sum() == len(first.own)
    rows = [query, *(drawn(rng_np, shares) for _ in range(60))]
    stored = build_index(path, Store(tmp_path / "store"))
    assert [used.file for used in find_templates(query, msa_of(rows), stored, path, settings).used] == ["relative"]
    for other in (TemplateSettings(remote_e_value=0), TemplateSettings(max_identity=0.01)):
        assert not len(find_templates(query, None, library_index(path), path, other, shares))
    assert not len(find_templates(query, None, library_index(bare), bare, settings, shares))
