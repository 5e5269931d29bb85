"""The single protein chains of an archive as records, so that what reads a set of chains reads an archive too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from structgen.data.archive import Archive
from structgen.data.assemble import assemble
from structgen.features import chemistry
from structgen.features.chains import AMINO_ACIDS, ChainRecord
from structgen.features.job import Kind

_PROTEIN = list(Kind).index(Kind.PROTEIN)
_LETTERS = np.frombuffer(AMINO_ACIDS.encode(), np.uint8)
SLOTS = 14


class ArchiveChains:
    """Entries that are one protein chain of standard residues, by their number in the archive; others are in no split."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def split(self, name: str, *, primary: bool = False) -> list[int]:
        """Entries of a split; `primary`: only those that the archive's source calls so."""
        found = [entry for entry in self._archive.split(name) if entry in self._single]
        return [entry for entry in found if not primary or self._archive.about[entry].get("primary")]

    @cached_property
    def _single(self) -> set[int]:
        entries = ((k, self._archive.entry(k)) for k in range(len(self._archive)))
        return {k for k, entry in entries if entry.kind.tolist() == [_PROTEIN] and not entry.single.any()}

    def clusters(self, indices: Sequence[int]) -> list[list[int]]:
        """The given entries grouped by cluster, in order of first appearance."""
        groups: dict[int, list[int]] = {}
        for entry in indices:
            groups.setdefault(self._archive.cluster(entry), []).append(entry)
        return list(groups.values())

    def name(self, entry: int) -> str:
        return self._archive.name(entry)

    def length(self, entry: int) -> int:
        return self._archive.tokens(entry)

    def has_profile(self, entry: int) -> bool:
        return self._archive.has_profile(entry)

    def sequence(self, entry: int) -> str:
        """One-letter codes."""
        classes = np.minimum(self._archive.entry(entry).restype, chemistry.UNKNOWN)
        return _LETTERS[classes].tobytes().decode()

    def __getitem__(self, entry: int) -> ChainRecord:
        found = self._archive.entry(entry)
        whole = assemble(found, np.arange(found.tokens))
        token, slot = whole.features["atom_to_token"], whole.features["atom_slot"]
        kept = whole.resolved & (slot < SLOTS)
        positions, mask = np.zeros((found.tokens, SLOTS, 3), np.float32), np.zeros((found.tokens, SLOTS), bool)
        positions[token[kept], slot[kept]], mask[token[kept], slot[kept]] = whole.positions[kept], True
        return ChainRecord(self.name(entry), self.sequence(entry), positions, mask, self._archive.profile(entry))
