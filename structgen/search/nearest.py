"""phmmer in process: the sequence of a set that is most like a given one, and which residues correspond."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pyhmmer.easel import Alphabet, DigitalSequenceBlock, TextSequence
from pyhmmer.plan7 import Alignment, Pipeline

AMINO = Alphabet.amino()
"""The one alphabet of all searches: what HMMER makes keeps a bare pointer to the alphabet that it was made with, which must outlive it."""


@dataclass(frozen=True)
class Neighbour:
    """The best hit: residue `own[k]` of the query lies on residue `other[k]` of the sequence `name`, both from 0."""

    name: str
    e_value: float
    own: np.ndarray
    other: np.ndarray


def block_of(sequences: Mapping[str, str]) -> DigitalSequenceBlock:
    """Named sequences, digitised once for many searches."""
    return DigitalSequenceBlock(AMINO, [TextSequence(name=n, sequence=s).digitize(AMINO) for n, s in sequences.items()])


def nearest(sequence: str, block: DigitalSequenceBlock, *, e_value: float = 10.0, seed: int = 42) -> Neighbour | None:
    """The hit of the lowest E-value, and the alignment of its best domain; None if nothing is as good as `e_value`.

    10 is HMMER's own limit for reporting: hits between 0.01 and 10 are mostly chance.
    """
    query = TextSequence(name="query", sequence=sequence).digitize(AMINO)
    hits = Pipeline(AMINO, E=e_value, seed=seed).search_seq(query, block)  # type: ignore[arg-type]  # AA is not exported
    if not len(hits):
        return None
    return Neighbour(hits[0].name, hits[0].evalue, *corresponding(hits[0].best_domain.alignment))


def corresponding(alignment: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """[k] residues of the query (or match states of a profile) and of the target that a domain's alignment pairs, both from 0."""
    own, other = _places(alignment.hmm_sequence, "."), _places(alignment.target_sequence, "-")
    both = (own >= 0) & (other >= 0)
    return alignment.hmm_from - 1 + own[both], alignment.target_from - 1 + other[both]


def _places(row: str, gap: str) -> np.ndarray:
    """[columns] how many residues stand before each column of an aligned row, -1 in its gaps."""
    residue = np.array([letter != gap for letter in row])
    return np.where(residue, np.cumsum(residue) - 1, -1)
