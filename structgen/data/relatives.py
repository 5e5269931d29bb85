"""Which training chains are like a chain, and how they lie on it: found once, when an archive is built (phmmer, in process)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyhmmer.easel import DigitalSequenceBlock, TextSequence
from pyhmmer.plan7 import Pipeline

from structgen.search.nearest import AMINO, block_of, corresponding


@dataclass(frozen=True)
class RelativeSettings:
    """Which relatives are kept. `identity` and `coverage` are shares of the aligned residues and of the chain's."""

    most: int = 20  # of a chain, the best ones
    candidates: int = 64  # of a cluster, by the hash of their names
    e_value: float = 1e-3
    max_identity: float = 0.95
    min_coverage: float = 0.2


@dataclass(frozen=True)
class Found:
    """A chain of a set that phmmer finds with another one: residue `own[k]` of the query on `other[k]` of it, from 0, best domain."""

    name: str
    e_value: float
    own: np.ndarray
    other: np.ndarray
    identity: float
    coverage: float

    @property
    def runs(self) -> np.ndarray:
        """[r, 3] int32: stretches without a gap as own, other, length."""
        return runs(self.own, self.other)


def find(sequence: str, sequences: Mapping[str, str], block: DigitalSequenceBlock, e_value: float = 1e-3) -> list[Found]:
    """Every hit of a sequence in the block of the named sequences, the lowest E-value first."""
    query = TextSequence(name="query", sequence=sequence).digitize(AMINO)
    pipeline = Pipeline(AMINO, seed=42, E=e_value, Z=100_000)  # of a set of that size, whatever the block's
    return [_found(sequence, sequences[hit.name], hit) for hit in pipeline.search_seq(query, block)]  # type: ignore[arg-type]


def _found(sequence: str, other: str, hit: object) -> Found:
    own, there = corresponding(hit.best_domain.alignment)  # type: ignore[attr-defined]
    same = np.frombuffer(sequence.encode(), np.uint8)[own] == np.frombuffer(other.encode(), np.uint8)[there]
    share = float(same.mean()) if len(own) else 0.0
    return Found(hit.name, hit.evalue, own, there, share, len(own) / len(sequence))  # type: ignore[attr-defined]


def runs(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[r, 3] int32 of two ascending lists of corresponding residues."""
    if not len(own):
        return np.zeros((0, 3), np.int32)
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(own) != 1) | (np.diff(other) != 1)]))
    lengths = np.diff([*starts, len(own)])
    return np.stack([own[starts], other[starts], lengths], 1).astype(np.int32)


def relatives_in(queries: Mapping[str, str], candidates: Mapping[str, str], settings: RelativeSettings) -> dict[str, list[Found]]:
    """The best relatives of every query among the candidates, itself and its equals never among them."""
    block = block_of(candidates)
    found = {}
    for name, sequence in queries.items():
        hits = [hit for hit in find(sequence, candidates, block, settings.e_value) if hit.name != name]
        found[name] = _kept(hits, settings)
    return found


def _kept(hits: Sequence[Found], settings: RelativeSettings) -> list[Found]:
    return [hit for hit in hits if hit.identity <= settings.max_identity and hit.coverage >= settings.min_coverage][: settings.most]
