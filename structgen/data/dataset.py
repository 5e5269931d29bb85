"""What a loader needs of a collection of structures, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from structgen.data.entry import Entry, protein_entry
from structgen.features.chains import ChainSet
from structgen.features.msa import Msa


@dataclass(frozen=True)
class Unit:
    """Something that can be drawn: a chain of an entry, or two chains in contact. `weight` is how often, in any unit (SI 2.5)."""

    entry: int
    chains: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Relative:
    """Another protein chain of known structure, laid on a chain: residue `own + k` on residue `other + k` for each run and k < length."""

    entry: int
    chain: int
    runs: np.ndarray  # [r, 3] int32: own, other, length; residues from 0 of their chains
    identity: float  # share of the aligned residues that are the same
    coverage: float  # share of the chain's residues that are aligned


class Dataset(Protocol):
    """Entries by number, and what is known beside their coordinates."""

    def __len__(self) -> int: ...

    def name(self, entry: int) -> str:
        """Id of an entry."""

    def tokens(self, entry: int) -> int:
        """Number of tokens, without the entry being read."""

    def entry(self, entry: int) -> Entry: ...

    def profile(self, entry: int) -> np.ndarray | None:
        """[T, 20] float32 frequencies of homologues, rows of zeros where unknown; None where nothing is."""

    def alignment(self, entry: int) -> Msa | None:
        """Rows over the tokens of the entry."""

    def relatives(self, entry: int, chain: int) -> Sequence[Relative]:
        """Training chains like this one, the most like it first."""

    def units(self, split: str) -> Sequence[Unit]:
        """All that can be drawn from a split."""


@dataclass(frozen=True, eq=False)
class ChainDataset:
    """A `ChainSet` folder as a dataset: single chains, no alignments, no relatives."""

    chains: ChainSet

    @classmethod
    def open(cls, folder: Path) -> ChainDataset:
        return cls(ChainSet(folder))

    def __len__(self) -> int:
        return len(self.chains)

    def name(self, entry: int) -> str:
        return self.chains.rows[entry]["id"]

    def tokens(self, entry: int) -> int:
        return self.chains.length(entry)

    def entry(self, entry: int) -> Entry:
        return protein_entry(*self.chains.packed(entry))

    def profile(self, entry: int) -> np.ndarray | None:
        return self.chains.profile(entry)

    def alignment(self, entry: int) -> Msa | None:
        return None

    def relatives(self, entry: int, chain: int) -> Sequence[Relative]:
        return ()

    def units(self, split: str) -> Sequence[Unit]:
        """Every chain, such that clusters are drawn uniformly and then their chains."""
        clusters = self.chains.clusters(self.chains.split(split))
        return [Unit(i, (0,), 1.0 / len(cluster)) for cluster in clusters for i in cluster]
