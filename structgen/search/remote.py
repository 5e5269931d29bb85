"""Remote relatives: proteins of a library whose profiles align with a query's, whether or not any letter is the same.

A residue of the query is its column of frequencies, one of the library a letter of a `ColumnAlphabet`, and two of them score what Soeding
(2005, HHsearch) has them score: log2 sum_a q(a) t(a) / background(a). The best local alignment without gaps is found for every chain of the
library, then the best one with gaps (Smith-Waterman with affine gaps, by biotite) for the most promising. What chance alone gives to this
query is seen on chains spread over the library, nearly none of which are relatives: their scores, less what is due to length, follow
Gumbel's distribution, about, which turns a score into an E-value. A chain that scores more than chance with the query read backwards too
does so by its composition, since nothing is kin to a protein backwards: that much is taken off its score (the reversed sequence as null
model: Karplus, Barrett & Hughey 1998).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from biotite.sequence import Alphabet, Sequence
from biotite.sequence.align import Alignment, SubstitutionMatrix, align_optimal

from structgen.search.columns import ColumnAlphabet

UNITS = 20  # of a score, a bit: alignments are counted in whole numbers, whose sums are the same in any order
_SHIFT = -0.1  # bits a pair of columns: local alignments of what is not related end
_GAP, _LONGER = -4.0, -0.4  # bits for the first residue of a gap and for every further one
_CEILING, _PAIR = 30_000, 2_000  # of a score without gaps, in units, and of a pair's, which is a tenth of that: 16 bits hold their sum
_AT_ONCE = 1 << 17  # residues of the library, about, which a processor's cache holds
_LIBRARY = 20_000  # chains for which E-values are told at least
_ASIDE = 3.0  # standard deviations above the mean of chance: what scores more is a relative, and not counted as chance


@dataclass(frozen=True)
class RemoteHit:
    """Chain number `chain` of a library on the query: residue `other[k]` on residue `own[k]`, both from 0."""

    chain: int
    e_value: float
    own: np.ndarray
    other: np.ndarray


@dataclass(frozen=True, eq=False)
class RemoteLibrary:
    """The chains of a library as columns."""

    alphabet: ColumnAlphabet
    columns: np.ndarray  # [residues] uint8, chain after chain
    starts: np.ndarray  # [chains + 1]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def chain(self, k: int) -> np.ndarray:
        """[m] uint8 letters of a chain."""
        return self.columns[self.starts[k] : self.starts[k + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """[chains] residues."""
        return np.diff(self.starts)

    @cached_property
    def begins(self) -> np.ndarray:
        """[chains] where each begins in all `parts` together."""
        return self.starts[:-1] + np.arange(len(self))

    @cached_property
    def parts(self) -> list[torch.Tensor]:
        """int32 letters of some chains each, every chain after one that fits nothing."""
        flat = np.full(int(self.starts[-1]) + len(self), len(self.alphabet.letters), np.int32)
        flat[np.arange(int(self.starts[-1])) + np.repeat(np.arange(1, len(self) + 1), self.lengths)] = self.columns
        firsts = self.begins[np.flatnonzero(np.diff(self.begins // _AT_ONCE)) + 1]
        return [torch.from_numpy(part) for part in np.split(flat, firsts)]


def remote_hits(
    columns: np.ndarray, library: RemoteLibrary, *, e_value: float, candidates: int = 500, sample: int = 500
) -> Iterator[RemoteHit]:
    """The hits of a protein's columns [n, 20] of at most that E-value, the lowest first, each aligned when it is asked for.

    `candidates` chains are aligned with gaps; `sample` chains tell what chance gives. E-values are of a library of this one's size, or
    of 20,000 chains where it has fewer: a small library makes no hit better.
    """
    scores = np.round(UNITS * (library.alphabet.bits(columns) + _SHIFT)).astype(np.int32)
    aligner, backwards, size = _Aligner(scores), _Aligner(scores[::-1].copy()), max(len(library), _LIBRARY)
    likely = np.argsort(-ungapped(scores, library), kind="stable")[:candidates].tolist()
    chance = Chance.of([(aligner.score(chain), len(chain)) for chain in unrelated(library, sample)])
    found = list[tuple[float, int]]()
    for k in likely:
        chain, score = library.chain(k), aligner.score(library.chain(k))
        if size * chance.p_value(score, len(chain)) <= e_value:
            beyond = max(0.0, backwards.score(chain) - chance.mean(len(chain)))
            found.append((size * chance.p_value(score - beyond, len(chain)), k))
    for e, k in sorted((e, k) for e, k in found if e <= e_value):
        yield RemoteHit(k, e, *aligner.pairs(library.chain(k)))


def unrelated(library: RemoteLibrary, sample: int) -> Iterator[np.ndarray]:
    """At least so many chains, nearly none of which are related to any query: those of a library spread over it, and, where it has too
    few, the same in random orders of their letters."""
    spread = range(0, len(library), max(1, len(library) // sample))
    yield from map(library.chain, spread)
    rng = np.random.default_rng(1)
    for k in range(sample - len(spread)):
        yield rng.permutation(library.chain(spread[k % len(spread)]))


def ungapped(scores: np.ndarray, library: RemoteLibrary) -> np.ndarray:
    """[chains] the best score of a local alignment without gaps, in units, at most `_CEILING`, with pairs that count at most `_PAIR`.

    `scores` [n, k] are the query's against the letters. All diagonals of all chains go forward by one residue of the query at a time.
    """
    padded = np.concatenate([scores, np.full((len(scores), 1), -_CEILING)], 1).clip(-_CEILING, _PAIR)
    table = torch.from_numpy(padded.astype(np.int16))
    best = []
    for letters in library.parts:
        ending = torch.zeros(len(letters) + 1, dtype=torch.int16)
        last, highest = torch.zeros_like(ending), torch.zeros_like(letters, dtype=torch.int16)
        for row in table:
            torch.add(last[:-1], row.index_select(0, letters), out=ending[1:])
            ending.clamp_(0, _CEILING)
            torch.maximum(highest, ending[1:], out=highest)
            ending, last = last, ending
        best.append(highest)
    return np.maximum.reduceat(torch.cat(best).numpy(), library.begins)


@dataclass(frozen=True)
class Chance:
    """Scores of a query with what is not related to it: mean `level + slope log(length)` and one standard deviation, in units."""

    level: float
    slope: float
    deviation: float

    @classmethod
    def of(cls, seen: list[tuple[int, int]]) -> Chance:
        """From scores and lengths, by least squares, three times, without those far above."""
        score, length = (np.array(values, np.float64) for values in zip(*seen, strict=True))
        terms, usual = np.stack([np.ones_like(length), np.log(length)], 1), np.ones(len(score), bool)
        for _ in range(3):
            (level, slope), *_ = np.linalg.lstsq(terms[usual], score[usual], rcond=None)
            rest = score - terms @ (level, slope)
            deviation = max(float(rest[usual].std()), 1.0)
            usual = rest < _ASIDE * deviation
        return cls(float(level), float(slope), deviation)

    def mean(self, length: int) -> float:
        """Of the scores of chains of a length."""
        return self.level + self.slope * math.log(length)

    def p_value(self, score: float, length: int) -> float:
        """Of the same score or a higher one: 1 - exp(-exp(-(pi / sqrt 6) z - gamma))."""
        z = (score - self.mean(length)) / self.deviation
        return -math.expm1(-math.exp(min(-math.pi / math.sqrt(6) * z - np.euler_gamma, 50.0)))


class _Letters(Sequence):
    """Numbers as a sequence of biotite's."""

    def __init__(self, alphabet: Alphabet, code: np.ndarray) -> None:
        self._alphabet = alphabet
        super().__init__()
        self.code = code

    def get_alphabet(self) -> Alphabet:
        return self._alphabet


class _Aligner:
    """The query, every residue a letter of its own, against letters of the library."""

    def __init__(self, scores: np.ndarray) -> None:
        places, letters = (Alphabet(list(range(size))) for size in scores.shape)
        self._matrix = SubstitutionMatrix(places, letters, scores)
        self._query, self._letters = _Letters(places, np.arange(len(scores), dtype=np.uint16)), letters

    def score(self, chain: np.ndarray) -> int:
        """In units, of the best local alignment with gaps."""
        return int(self._best(chain).score)

    def pairs(self, chain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residues of the query and of the chain that lie on one another in that alignment."""
        trace = self._best(chain).trace
        both = trace[(trace >= 0).all(1)]
        return both[:, 0], both[:, 1]

    def _best(self, chain: np.ndarray) -> Alignment:
        """Of equally good ones always the same."""
        gaps = (round(_GAP * UNITS), round(_LONGER * UNITS))
        return align_optimal(self._query, _Letters(self._letters, chain), self._matrix, gap_penalty=gaps, local=True, max_number=1)[0]
