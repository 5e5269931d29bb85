"""Columns of protein profiles: the frequencies of amino acids at a residue, and the letter of a small alphabet that is nearest to them.

Two proteins that share a fold and hardly a letter often share the pattern of what may stand where. A column of 20 frequencies tells that
pattern, and one of 255 letters learned from many columns keeps most of it in a byte (Biegert & Soeding 2009; HH-suite's 219 letters).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from biotite.sequence.align import SubstitutionMatrix
from scipy.cluster.vq import kmeans2

from structgen.features import chemistry
from structgen.features.msa import Msa

LETTERS = 255  # at most, of an alphabet: one byte keeps a value for what is no column
AMINO_ACIDS = len(chemistry.AMINO_ACIDS)
_LEARNED_FROM, _ROUNDS = 60_000, 12  # columns and rounds of k-means
_ROWS = 10_000  # of an alignment, the first ones

# Robinson & Robinson (1991), in the order of AMINO_ACIDS: what BLAST's statistics are made of
_ROBINSON = "7.805 5.129 4.487 5.364 1.925 4.264 6.295 7.377 2.199 5.142 9.019 5.744 2.243 3.856 5.203 7.120 5.841 1.330 3.216 6.441"
BACKGROUND = np.array(_ROBINSON.split(), np.float64) / 100
BACKGROUND /= BACKGROUND.sum()


def _substituted() -> np.ndarray:
    """[20, 20] row a: what stands where a stood, by BLOSUM62, whose scores are half bits of p(a, b) / p(a) p(b)."""
    matrix = SubstitutionMatrix.std_protein_matrix()
    order = matrix.get_alphabet1().encode_multiple(list(chemistry.AMINO_ACIDS))
    joint = np.outer(BACKGROUND, BACKGROUND) * 2.0 ** (matrix.score_matrix()[np.ix_(order, order)] / 2)
    return joint / joint.sum(1, keepdims=True)


SUBSTITUTED = _substituted()


def frequencies_of(msa: Msa) -> np.ndarray:
    """[n, 20] shares of the amino acids in every column of an alignment, rows of zeros where it has none.

    A row counts by how rare its letters are in their columns (position-based weights, Henikoff & Henikoff 1994), so that a hundred copies
    of one sequence say what one says.
    """
    rows = msa.rows[:_ROWS]
    known = rows < AMINO_ACIDS
    at = np.where(known, rows, 0).astype(np.int64)
    place = np.arange(rows.shape[1]) * AMINO_ACIDS
    counts = np.bincount((at + place)[known], minlength=rows.shape[1] * AMINO_ACIDS).reshape(-1, AMINO_ACIDS)
    distinct = np.maximum((counts > 0).sum(1), 1)
    rarity = np.where(known, 1 / (distinct * np.maximum(np.take(counts.ravel(), at + place), 1)), 0)
    weight = rarity.sum(1) / np.maximum(known.sum(1), 1)
    shares = np.bincount((at + place)[known], np.broadcast_to(weight[:, None], rows.shape)[known], rows.shape[1] * AMINO_ACIDS)
    shares = shares.reshape(-1, AMINO_ACIDS)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-30)


def columns_of(sequence: str, frequencies: np.ndarray | None) -> np.ndarray:
    """[n, 20] float32 columns of a protein: the frequencies [n, 20] of its homologues, where they are known (not zeros), with substitutions
    mixed in: all of them where only the sequence is known, and less the more different homologues there are.

    The share of substitutions is 1 / (1 + (N_eff - 1) / 1.5), N_eff being two to the mean entropy of the columns in bits (the form of
    Soeding 2005).
    """
    own = chemistry.encode(sequence, chemistry.RESIDUE_OF_LETTER)
    single = np.where((own < AMINO_ACIDS)[:, None], np.eye(AMINO_ACIDS)[np.minimum(own, AMINO_ACIDS - 1)], BACKGROUND)
    if frequencies is None:
        return (single @ SUBSTITUTED).astype(np.float32)
    there = frequencies.sum(1) > 0.5
    shares = np.where(there[:, None], frequencies, single)
    surprise = -(shares * np.log2(np.maximum(shares, 1e-9))).sum(1)
    effective = 2 ** surprise[there].mean() if there.any() else 1.0
    mixed = 1 / (1 + (effective - 1) / 1.5)
    mixed = np.where(there, mixed, 1.0)[:, None]
    return ((1 - mixed) * shares + mixed * (shares @ SUBSTITUTED)).astype(np.float32)


@dataclass(frozen=True)
class ColumnAlphabet:
    """Typical columns, one a letter."""

    letters: np.ndarray  # [k, 20] frequencies, k at most `LETTERS`

    @classmethod
    def learned(cls, columns: np.ndarray, seed: int = 1) -> ColumnAlphabet:
        """The centres of k-means of a random choice of columns [n, 20], nearness being Hellinger's: that of the roots of the shares."""
        rng = np.random.default_rng(seed)
        chosen = columns if len(columns) <= _LEARNED_FROM else columns[np.sort(rng.choice(len(columns), _LEARNED_FROM, replace=False))]
        distinct = np.unique(chosen, axis=0)
        if len(distinct) <= LETTERS:
            return cls(distinct.astype(np.float32))
        roots = np.sqrt(chosen, dtype=np.float64)
        first = np.sqrt(distinct[rng.choice(len(distinct), LETTERS, replace=False)], dtype=np.float64)
        _, nearest = kmeans2(roots, first, iter=_ROUNDS, minit="matrix")
        sums = np.zeros((LETTERS, AMINO_ACIDS))
        np.add.at(sums, nearest, chosen)
        sums = sums[np.bincount(nearest, minlength=LETTERS) > 0]
        return cls((sums / sums.sum(1, keepdims=True)).astype(np.float32))

    def encoded(self, columns: np.ndarray) -> np.ndarray:
        """[n] uint8: the nearest letter of every column."""
        roots = np.sqrt(self.letters)
        parts = np.array_split(columns, max(1, len(columns) // 100_000))  # k x 100,000 numbers at once
        return np.concatenate([((roots**2).sum(1) - 2 * np.sqrt(part) @ roots.T).argmin(1) for part in parts]).astype(np.uint8)

    def bits(self, columns: np.ndarray) -> np.ndarray:
        """[n, k] how much more likely than chance each letter's amino acids are in each column: log2 sum_a q(a) p(a) / background(a)."""
        return np.log2(np.maximum(columns @ (self.letters / BACKGROUND).T, 1e-6))
