"""A set of experimental protein chains as one compact archive: what the networks are trained and judged on.

The archive is a folder with `chains.npz` (ragged arrays, coordinates as 0.01-angstrom differences), `chains.tsv.gz` (one row a
chain) and, where it is known, `chains_profiles.npz` (amino-acid frequencies of homologues). It is a data format, not a network's:
nothing is unpickled, and every array is checked against the table's lengths.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from structgen.errors import InputError

AMINO_ACIDS = "ARNDCQEGHILKMFPSTWYVX"  # the archive's alphabet: its first 20 classes and UNK are those of SI Table 13


@dataclass(frozen=True)
class ChainRecord:
    """One experimental chain of n residues. Atoms in the fixed order of SI 5.3 (at most 14, no OXT), coordinates in angstrom."""

    id: str
    sequence: str
    positions: np.ndarray  # [n, 14, 3] float32
    mask: np.ndarray  # [n, 14] bool: resolved
    profile: np.ndarray | None  # [n, 20] float32 frequencies of homologues, rows of zeros where unknown

    def crop(self, start: int, length: int) -> ChainRecord:
        """Residues start, ..., start + length - 1."""
        part = slice(start, start + length)
        profile = None if self.profile is None else self.profile[part]
        return ChainRecord(self.id, self.sequence[part], self.positions[part], self.mask[part], profile)


@dataclass(frozen=True)
class Holdout:
    """A training chain that another split has: `homolog`, to be predicted from its relative, or `left_out`, too near to such a one."""

    id: str
    split: str
    bin: str  # per cent of identity with the relative, from-to
    relative: str  # the nearest training chain; of a chain left out, the target that it is too near to
    identity: float
    coverage: float


def in_judged_order(indices: Sequence[int], name: Callable[[int], str]) -> list[int]:
    """Chains in the order of the sha256 of their names: any number of the first ones is a fair choice, and more only add."""
    return sorted(indices, key=lambda i: name_hash(name(i)))


def name_hash(name: str) -> bytes:
    """What chains are ordered by where a few of many are to be a fair choice, and always the same one."""
    return hashlib.sha256(name.encode()).digest()


def read_holdout(path: Path) -> list[Holdout]:
    """The rows of a table of chains that are held out. Raises `InputError` for a file that is none."""
    try:
        with open(path, encoding="utf-8") as handle:
            rows = list(csv.DictReader((line for line in handle if not line.startswith("#")), delimiter="\t"))
        return [Holdout(r["id"], r["split"], r["bin"], r["relative"], float(r["identity"]), float(r["coverage"])) for r in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        expected = "tab-separated id, split, bin, relative, identity, coverage"
        raise InputError("cannot read a table of held-out chains", where=str(path), found=str(error), expected=expected) from error


class ChainSet:
    """Random access to the chains of an archive, and to its table; those in `holdout` are in the split that it says."""

    def __init__(self, folder: Path, holdout: Path | None = None) -> None:
        self.folder = folder
        self.rows = _table(folder / "chains.tsv.gz")
        if holdout is not None:
            _hold_out(self.rows, read_holdout(holdout), str(holdout))
        arrays = _arrays(folder / "chains.npz", ("aatype", "atom_mask", "res_offset", "atom_offset", "dxyz_lo", "dxyz_hi"))
        self._aatype, self._bits = arrays["aatype"], arrays["atom_mask"]
        self._residues, self._atoms = arrays["res_offset"], arrays["atom_offset"]
        if len(self._residues) != len(self.rows) + 1:
            found = f"{len(self.rows)} rows in chains.tsv.gz, {len(self._residues) - 1} chains in chains.npz"
            raise InputError("the archive's table and arrays disagree", where=str(folder), found=found)
        self._xyz = _undo_differences(arrays["dxyz_lo"], arrays["dxyz_hi"])
        self._profiles = _profiles(folder / "chains_profiles.npz")

    def __len__(self) -> int:
        return len(self.rows)

    def split(self, name: str, *, primary: bool = False) -> list[int]:
        """Indices of the chains of a split ("train", "val", "test"); `primary`: only the representative of each cluster."""
        return [i for i, row in enumerate(self.rows) if row["split"] == name and (not primary or row["primary"] == "1")]

    def clusters(self, indices: Sequence[int]) -> list[list[int]]:
        """The given chains grouped by cluster, clusters in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for i in indices:
            groups.setdefault(self.rows[i]["cluster"], []).append(i)
        return list(groups.values())

    def name(self, i: int) -> str:
        """Id of a chain."""
        return self.rows[i]["id"]

    def has_profile(self, i: int) -> bool:
        return i in self._profiles

    def length(self, i: int) -> int:
        return int(self._residues[i + 1] - self._residues[i])

    def sequence(self, i: int) -> str:
        """One-letter codes of a chain."""
        return "".join(AMINO_ACIDS[a] for a in self._aatype[self._residues[i] : self._residues[i + 1]])

    def __getitem__(self, i: int) -> ChainRecord:
        first, last = self._residues[i], self._residues[i + 1]
        bits = self._bits[first:last]
        mask = ((bits[:, None] >> np.arange(14)) & 1).astype(bool)
        positions = np.zeros((*mask.shape, 3), np.float32)
        positions[mask] = self._xyz[self._atoms[i] : self._atoms[i + 1]] / np.float32(100)
        sequence = "".join(AMINO_ACIDS[a] for a in self._aatype[first:last])
        return ChainRecord(self.rows[i]["id"], sequence, positions, mask, self.profile(i))

    def packed(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A chain as it is stored: classes [n] and bits of resolved atoms [n], coordinates of these atoms [a, 3] in 0.01 angstrom."""
        part = slice(self._residues[i], self._residues[i + 1])
        return self._aatype[part], self._bits[part], self._xyz[self._atoms[i] : self._atoms[i + 1]]

    def profile(self, i: int) -> np.ndarray | None:
        """[n, 20] float32 frequencies of homologues, or None."""
        packed = self._profiles.get(i)
        return None if packed is None else unpack_profile(packed)

    def packed_profile(self, i: int) -> np.ndarray | None:
        """[10, n] uint8: frequencies as 4-bit square roots, two to a byte."""
        return self._profiles.get(i)


def unpack_profile(packed: np.ndarray) -> np.ndarray:
    """[10, n] bytes to [n, 20] float32 frequencies; rows of zeros stay what they are."""
    frequencies = np.empty((packed.shape[1], 20), np.float32)
    frequencies[:, 0::2], frequencies[:, 1::2] = (packed.T >> 4) / 15.0, (packed.T & 15) / 15.0
    frequencies **= 2
    return frequencies / np.maximum(frequencies.sum(1, keepdims=True), 1e-6)


def _hold_out(rows: Sequence[dict[str, str]], holdout: Sequence[Holdout], where: str) -> None:
    """Give the rows their new splits. Raises `InputError` for a chain that is not there, or is not in training."""
    known = {row["id"]: row for row in rows}
    for held in holdout:
        row = known.get(held.id)
        if row is None or row["split"] != "train":
            found = "no such chain" if row is None else f"in split {row['split']}"
            raise InputError(f"chain {held.id} cannot be held out", where=where, found=found, expected="a training chain of this archive")
        row["split"] = held.split


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            return list(csv.DictReader(handle, delimiter="\t"))
    except OSError as error:
        raise InputError("cannot read the table of chains", where=str(path), found=str(error)) from error


def _arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, KeyError, ValueError) as error:
        raise InputError("cannot read an array archive", where=str(path), found=str(error), expected=", ".join(names)) from error


def _undo_differences(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[3, A] bytes of zigzag differences to [A, 3] int16 coordinates; sums wrap exactly, as they did when the archive was made."""
    zigzag = (high.astype(np.uint16) << 8) | low
    differences = (zigzag >> 1).astype(np.int16) ^ -(zigzag & 1).astype(np.int16)
    return np.ascontiguousarray(np.cumsum(differences, axis=1, dtype=np.int16).T)


def _profiles(path: Path) -> dict[int, np.ndarray]:
    if not path.exists():
        return {}
    arrays = _arrays(path, ("chain_index", "offset", "packed"))
    offset = arrays["offset"]
    return {int(chain): arrays["packed"][:, offset[k] : offset[k + 1]] for k, chain in enumerate(arrays["chain_index"])}
