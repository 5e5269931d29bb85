"""Where an archive's entries come from: a folder of deposited structures, or a compact set of chains. Both are read part by part."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from structgen.data.alignments import read_alignment
from structgen.data.deposit import Filters, Rejected, read_deposit
from structgen.data.entry import protein_entry
from structgen.data.packing import Packed, pack_profile
from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.chains import AMINO_ACIDS, ChainSet
from structgen.features.msa import Msa

SUFFIXES = (".cif", ".mmcif", ".cif.gz", ".mmcif.gz")
Refused = list[tuple[str, str]]  # name and reason


class Source(Protocol):
    """Numbered parts of packed entries; everything about it that decides their content is in `identity`."""

    def identity(self) -> dict[str, Any]: ...

    def parts(self) -> int: ...

    def read(self, part: int) -> tuple[list[Packed], Refused]: ...


@dataclass(frozen=True)
class Evidence:
    """Alignments by sequence: a folder that `structgen data profiles` fills. The first rows are kept for training."""

    folder: str = ""
    rows: int = 64

    def of(self, sequence: str) -> tuple[np.ndarray | None, Msa | None]:
        """Packed profile and alignment of a chain; None where it has none."""
        found = read_alignment(Path(self.folder), sequence) if self.folder else None
        if found is None or len(found.rows) < 2:
            return None, None
        counts = (found.rows[:, :, None] == np.arange(20)).sum(0).astype(np.float32)
        kept = Msa(found.rows[: self.rows], found.deletions[: self.rows], found.descriptions[: self.rows])
        return pack_profile(counts), kept


@dataclass(frozen=True)
class ChainSource:
    """A folder with `chains.npz`, its table and profiles. Splits and clusters are the table's, but for the chains of `holdout`."""

    folder: str
    holdout: str = ""
    without: tuple[str, ...] = ()  # sources (of the table) that are left out
    licences: str = ""  # table of the sources' licences, for the record
    evidence: Evidence = field(default_factory=Evidence)
    size: int = 512  # chains a part

    def identity(self) -> dict[str, Any]:
        folder = Path(self.folder)
        digests = {name: _digest(folder / name) for name in ("chains.npz", "chains.tsv.gz", "chains_profiles.npz")}
        settings = {key: value for key, value in asdict(self).items() if key not in ("folder", "holdout", "licences")}
        settings |= {"licences": _digest(Path(self.licences))} if self.licences else {}
        return settings | {"kind": "chains", "files": digests, "holdout": _digest(Path(self.holdout)) if self.holdout else ""}

    def parts(self) -> int:
        return -(-len(self._kept()) // self.size)

    def read(self, part: int) -> tuple[list[Packed], Refused]:
        chains = _chain_set(self.folder, self.holdout)
        return [self._pack(chains, i) for i in self._kept()[part * self.size : (part + 1) * self.size]], []

    def _kept(self) -> list[int]:
        rows = _chain_set(self.folder, self.holdout).rows
        return [i for i, row in enumerate(rows) if row.get("source") not in self.without]

    def _pack(self, chains: ChainSet, i: int) -> Packed:
        aatype, bits, xyz = chains.packed(i)
        row, sequence = chains.rows[i], "".join(AMINO_ACIDS[a] for a in aatype)
        profile, alignment = self.evidence.of(sequence)
        known = chains.packed_profile(i)
        about: dict[str, Any] = {"name": row["id"], "split": row["split"], "clusters": [row["cluster"]]}
        about |= {"chains": [{"id": row.get("chain", "A")}], "source": row.get("source", "unknown"), "tier": row["tier"]}
        about |= {"resolution": float(row.get("resolution") or 0), "primary": row.get("primary") == "1", "method": row.get("method", "")}
        about |= {"licence": _licence(self.licences, about["source"])} if self.licences else {}
        return Packed(about, protein_entry(aatype, bits, xyz), known if known is not None else profile, alignment)


@dataclass(frozen=True)
class DepositSource:
    """A folder of mmCIF files, however nested."""

    folder: str
    filters: Filters = field(default_factory=Filters)
    evidence: Evidence = field(default_factory=Evidence)
    size: int = 256  # files a part

    def identity(self) -> dict[str, Any]:
        files = [(name, os.stat(Path(self.folder) / name).st_size) for name in self._files()]
        settings = {key: value for key, value in asdict(self).items() if key != "folder"}
        return settings | {"kind": "mmcif", "files": len(files), "listing": hashlib.sha256(repr(files).encode()).hexdigest()}

    def parts(self) -> int:
        return -(-len(self._files()) // self.size)

    def read(self, part: int) -> tuple[list[Packed], Refused]:
        kept, refused = list[Packed](), Refused()
        for name in self._files()[part * self.size : (part + 1) * self.size]:
            try:
                kept.append(self._with_evidence(read_deposit(Path(self.folder) / name, name, self.filters)))
            except Rejected as reason:
                refused.append((name, str(reason)))
        return kept, refused

    def _files(self) -> tuple[str, ...]:
        return structure_files(self.folder)

    def _with_evidence(self, packed: Packed) -> Packed:
        """The profiles of its proteins; alignments only where the entry is one protein chain alone, as rows of several are not paired."""
        if not self.evidence.folder:
            return packed
        entry, profile, alignment = packed.entry, np.zeros((10, packed.entry.tokens), np.uint8), None
        for c, sequence in enumerate(chain_sequences(packed)):
            own, rows = self.evidence.of(sequence) if entry.kind[c] == 0 else (None, None)
            tokens = entry.chain == c
            if own is not None:
                profile[:, tokens] = own[:, entry.number[tokens] - 1]
            alignment = rows if rows is not None and len(entry.kind) == 1 and rows.rows.shape[1] == entry.tokens else alignment
        return Packed(packed.about, entry, profile if profile.any() else None, alignment)


def chain_sequences(packed: Packed) -> list[str]:
    """One letter a residue of every chain."""
    entry = packed.entry
    first = np.flatnonzero(np.diff(entry.residue, prepend=-1) != 0)
    letters = np.frombuffer((chemistry.AMINO_ACIDS + "XAGCUNAGCTN-").encode(), np.uint8)[entry.restype[first]]
    return [letters[entry.chain[first] == c].tobytes().decode() for c in range(len(entry.kind))]


@lru_cache(maxsize=2)
def _chain_set(folder: str, holdout: str) -> ChainSet:
    return ChainSet(Path(folder), Path(holdout) if holdout else None)


def _licence(table: str, source: str) -> str:
    """Of a source, or what the table says of all others (`*`)."""
    known = _licences(table)
    return known.get(source, known.get("*", "not stated"))


@lru_cache(maxsize=2)
def _licences(path: str) -> dict[str, str]:
    rows = [line.split("\t") for line in Path(path).read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    if not rows or any(len(row) != 2 for row in rows):
        raise InputError("table of licences cannot be read", where=path, expected="source and licence with a tab between them")
    return {source: licence for source, licence in rows[1:]}


@lru_cache(maxsize=2)
def structure_files(folder: str) -> tuple[str, ...]:
    """Names of the mmCIF files below a folder, in order. Raises `InputError` where there are none."""
    found = sorted(
        Path(base, name).relative_to(folder).as_posix()
        for base, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    if not found:
        raise InputError("folder holds no structure file", where=folder, expected=f"files that end in {', '.join(SUFFIXES)}")
    return tuple(found)


def _digest(path: Path) -> str:
    if not path.exists():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
