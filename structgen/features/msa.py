"""Alignments as arrays, and the features made of them (SI 5.6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Msa:
    """One chain's alignment: S rows over the n residues of the query, row 0 the query itself."""

    rows: np.ndarray  # [S, n] uint8, classes of the 32-letter alphabet (31 = gap)
    deletions: np.ndarray  # [S, n] int32, inserted residues directly before the column
    descriptions: tuple[str, ...]  # [S] header lines without '>', for pairing by species
