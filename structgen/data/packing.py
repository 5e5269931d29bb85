"""Entries to the ragged arrays of a part, and back as views of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from structgen.data.entry import Entry
from structgen.features.chains import unpack_profile
from structgen.features.msa import Msa

AXES = {
    "tokens": ("restype", "number", "residue", "chain", "single", "present", "resolved"),
    "atoms": ("xyz",),
    "chains": ("kind", "entity", "copy"),
    "bonds": ("bonds",),
    "singles": ("element", "charge", "name", "reference", "frame"),
}
"""Arrays of an `Entry` by what they run along."""


@dataclass(frozen=True)
class Packed:
    """An entry with its evidence and what is said of it."""

    about: dict[str, Any]  # plain JSON: name, source, resolution, chains, ...
    entry: Entry
    profile: np.ndarray | None = None  # [10, T] uint8, as `pack_profile` makes it
    alignment: Msa | None = None  # over the tokens


def pack(entries: Sequence[Packed]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and attributes of a part."""
    arrays: dict[str, np.ndarray] = {}
    for axis, names in AXES.items():
        sizes = [len(getattr(one.entry, names[0])) for one in entries]
        arrays[f"{axis}_offset"] = np.cumsum([0, *sizes]).astype(np.int64)
        for name in names:
            arrays[name] = np.concatenate([getattr(one.entry, name) for one in entries])
    arrays["has_profile"] = np.array([one.profile is not None for one in entries])
    profiles = [one.profile.T for one in entries if one.profile is not None]
    arrays["profile"] = np.concatenate([*profiles, np.zeros((0, 10), np.uint8)])
    alignments = [one.alignment for one in entries]
    arrays["msa_rows"] = np.array([0 if msa is None else len(msa.rows) for msa in alignments], np.int32)
    for name in ("rows", "deletions"):
        parts = [np.minimum(getattr(msa, name), 255).astype(np.uint8).ravel() for msa in alignments if msa is not None]
        arrays[f"msa_{name}" if name == "deletions" else "msa"] = np.concatenate([*parts, np.zeros(0, np.uint8)])
    return arrays, {"entries": [one.about for one in entries]}


def pack_profile(frequencies: np.ndarray) -> np.ndarray:
    """[n, 20] frequencies to [10, n] bytes: 4-bit square roots, two to a byte, as the archive of chains has them."""
    total = frequencies.sum(1, keepdims=True)
    roots = np.round(15 * np.sqrt(frequencies / np.maximum(total, 1e-9))).astype(np.uint8) * (total > 0).astype(np.uint8)
    return np.ascontiguousarray((roots[:, 0::2] << 4 | roots[:, 1::2]).T)


class PartReader:
    """Random access to the entries of a part whose arrays lie in memory; `lazy` arrays are read when they are asked for."""

    def __init__(self, arrays: dict[str, np.ndarray], lazy: Any, about: Sequence[dict[str, Any]]) -> None:
        self.about = about
        self._arrays, self._lazy = arrays, lazy
        tokens, rows = np.diff(arrays["tokens_offset"]), arrays["msa_rows"].astype(np.int64)
        self._profile_start = np.cumsum(np.where(arrays["has_profile"], tokens, 0)) - np.where(arrays["has_profile"], tokens, 0)
        self._msa_start = np.cumsum(rows * tokens) - rows * tokens

    @classmethod
    def empty(cls) -> PartReader:
        """Of a part without entries."""
        none: dict[str, np.ndarray] = {"tokens_offset": np.zeros(1, np.int64)}
        none |= {"msa_rows": np.zeros(0, np.int32), "has_profile": np.zeros(0, bool)}
        return cls(none, {}, ())  # nothing else of it is ever looked at

    def __len__(self) -> int:
        return len(self.about)

    def has_profile(self, k: int) -> bool:
        return bool(self._arrays["has_profile"][k])

    def rows(self, k: int) -> int:
        """Rows of the alignment, 0 where there is none."""
        return int(self._arrays["msa_rows"][k])

    def tokens(self, k: int) -> int:
        offset = self._arrays["tokens_offset"]
        return int(offset[k + 1] - offset[k])

    def entry(self, k: int) -> Entry:
        found = dict[str, np.ndarray]()
        for axis, names in AXES.items():
            offset = self._arrays[f"{axis}_offset"]
            found |= {name: self._arrays[name][offset[k] : offset[k + 1]] for name in names}
        return Entry(**found)

    def profile(self, k: int) -> np.ndarray | None:
        """[T, 20] frequencies."""
        if not self._arrays["has_profile"][k]:
            return None
        start = self._profile_start[k]
        return unpack_profile(self._arrays["profile"][start : start + self.tokens(k)].T)

    def alignment(self, k: int) -> Msa | None:
        rows, tokens = int(self._arrays["msa_rows"][k]), self.tokens(k)
        if not rows:
            return None
        part = slice(int(self._msa_start[k]), int(self._msa_start[k]) + rows * tokens)
        letters, deletions = (np.asarray(self._lazy[name][part]).reshape(rows, tokens) for name in ("msa", "msa_deletions"))
        return Msa(letters, deletions.astype(np.int32), ("",) * rows)
