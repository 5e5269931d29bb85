"""Rows of different chains that come from one species are one row of the complex (SI 2.3; AF3_ALGORITHMS 5.6)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

_KEY = re.compile(r"pairing_key=(\S+)")
_UNIPROT = re.compile(r"(?:tr|sp)\|[A-Z0-9]+(?:_\d+)?\|[A-Z0-9]+_([A-Z0-9]{1,5})(?:/\d+-\d+)?(?:\s|$)")
_UNIREF100 = re.compile(r"UniRef100_[^_\s/]+_(\d+)(?:[_/\s]|$)")
_NUMBER = re.compile(r"\b(?:TaxID|OX)=(\d+)")
_NAME = re.compile(r"\bOS=(\w\S*\s+(?![A-Z]{2}=)\S+)")
_NO_SPECIES = {"unclassified", "uncultured", "unidentified", "unknown", "environmental", "synthetic"}


def species_key(description: str) -> str | None:
    """What a header line pairs by, or None: a key as given, a UniProt mnemonic, a taxonomy number, or genus and species.

    The kinds never mix, so `HUMAN` does not pair with 9606. Roots of the taxonomy and unclassified samples are no species.
    """
    if found := _KEY.match(description):
        return f"key {found[1]}"
    if found := _UNIPROT.match(description):
        return f"mnemonic {found[1]}"
    if found := _UNIREF100.match(description) or _NUMBER.search(description):
        return None if int(found[1]) <= 1 else f"number {int(found[1])}"
    if found := _NAME.search(description):
        genus, species = found[1].split()
        return None if genus.lower() in _NO_SPECIES else f"name {genus} {species}"
    return None


def pair_rows(descriptions: Sequence[Sequence[str]], *, per_species: int) -> np.ndarray:
    """[P, E] for E alignments, given by their header lines: the row of each in every paired row, -1 where it has none.

    Within a species the k-th rows go together, up to the smallest count of the alignments that have it and at most `per_species`;
    only species of at least two alignments count. Species of more alignments come first, then small products of row numbers.
    """
    groups = [_rows_by_species(lines) for lines in descriptions]
    paired = []
    for species in dict.fromkeys(key for group in groups for key in group):
        rows = [group.get(species) for group in groups]
        present = [r for r in rows if r is not None]
        if len(present) > 1:
            depth = min(per_species, *map(len, present))
            paired += [tuple(-1 if r is None else r[k] for r in rows) for k in range(depth)]
    paired.sort(key=lambda row: (row.count(-1), math.prod(index for index in row if index > 0)))
    return np.array(paired, np.int64).reshape(-1, len(descriptions))


def _rows_by_species(descriptions: Sequence[str]) -> dict[str, list[int]]:
    """Row numbers of every species, without the query's row 0."""
    groups: dict[str, list[int]] = {}
    for row, description in enumerate(descriptions):
        key = species_key(description) if row else None
        if key is not None:
            groups.setdefault(key, []).append(row)
    return groups
