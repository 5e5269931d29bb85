"""An archive as a dataset: `structgen data build` writes it, loaders and evaluations read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from structgen.data.dataset import Relative, Unit
from structgen.data.entry import Entry
from structgen.data.packing import PartReader
from structgen.data.parts import MARK, array_names, damaged, mark_digest, open_part, read_array
from structgen.errors import InputError
from structgen.features.job import Kind
from structgen.features.msa import Msa

FORMAT = "structgen-archive-1"
LAZY = ("msa", "msa_deletions")  # read when they are asked for; everything else lies in memory
CHAIN, INTERFACE = 0.5, 1.0  # beta of SI 2.5: how much a chain and an interface count
WORTH = {Kind.PROTEIN: 3.0, Kind.RNA: 3.0, Kind.DNA: 3.0, Kind.LIGAND: 1.0}  # alpha of SI 2.5


@dataclass(frozen=True, eq=False)
class Parts:
    """The entries of several parts, numbered through."""

    readers: tuple[PartReader, ...]
    attributes: tuple[dict[str, Any], ...]
    part_of: np.ndarray  # [entries]
    place: np.ndarray  # [entries] number inside the part

    def __len__(self) -> int:
        return len(self.part_of)

    @property
    def about(self) -> list[dict[str, Any]]:
        """What is said of every entry."""
        return [about for part in self.attributes for about in part["entries"]]

    def _at(self, entry: int) -> tuple[PartReader, int]:
        return self.readers[self.part_of[entry]], int(self.place[entry])

    def tokens(self, entry: int) -> int:
        reader, k = self._at(entry)
        return reader.tokens(k)

    def entry(self, entry: int) -> Entry:
        reader, k = self._at(entry)
        return reader.entry(k)

    def kind(self, entry: int) -> list[int]:
        """Kinds of the chains."""
        return self.entry(entry).kind.tolist()

    def profile(self, entry: int) -> np.ndarray | None:
        reader, k = self._at(entry)
        return reader.profile(k)

    def has_profile(self, entry: int) -> bool:
        reader, k = self._at(entry)
        return reader.has_profile(k)

    def rows(self, entry: int) -> int:
        """Rows of the alignment, 0 where there is none."""
        reader, k = self._at(entry)
        return reader.rows(k)

    def alignment(self, entry: int) -> Msa | None:
        reader, k = self._at(entry)
        return reader.alignment(k)


def open_parts(folders: Sequence[Path]) -> Parts:
    """The entries of parts that are marked as whole."""
    readers, attributes, sizes = [], [], []
    for folder in folders:
        group = open_part(folder)
        said, names = dict(group.attrs), array_names(folder)
        arrays = {name: read_array(group, name) for name in names if name not in LAZY}
        lazy = {name: group[name] for name in LAZY if name in names}
        readers.append(PartReader(arrays, lazy, said["entries"]) if arrays else PartReader.empty())  # type: ignore[arg-type]
        attributes.append(said)
        sizes.append(len(readers[-1]))
    part_of = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(part_of)) - np.repeat(np.cumsum(sizes) - sizes, sizes) if sizes else part_of
    return Parts(tuple(readers), tuple(attributes), part_of, place)


class Archive:
    """A whole archive (`data.dataset.Dataset`). Raises `InputError` for a folder that is none, or was not finished."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, read_mark(folder)
        names = sorted(name for name in self.mark["parts"] if name.startswith("entries/"))
        _check(folder, self.mark)
        self._parts = open_parts([folder / name for name in names])
        self.about = self._parts.about
        index = open_part(folder / "index")
        self.split_names = [str(name) for name in index.attrs["splits"]]  # type: ignore[union-attr]
        self._chains, self._clusters, self._interfaces, self._splits = (
            read_array(index, name) for name in ("chains", "clusters", "interfaces", "splits")
        )
        relatives = [_Relatives.read(folder / name) for name in sorted(n for n in self.mark["parts"] if n.startswith("relatives/"))]
        self._relatives = {key: (part, k) for part in relatives for key, k in part.places().items()}

    @property
    def facts(self) -> dict[str, Any]:
        """Counts, as `structgen data info` shows them."""
        return self.mark["facts"]

    def __len__(self) -> int:
        return len(self._parts)

    def name(self, entry: int) -> str:
        return str(self.about[entry]["name"])

    def tokens(self, entry: int) -> int:
        return self._parts.tokens(entry)

    def entry(self, entry: int) -> Entry:
        return self._parts.entry(entry)

    def profile(self, entry: int) -> np.ndarray | None:
        return self._parts.profile(entry)

    def alignment(self, entry: int) -> Msa | None:
        return self._parts.alignment(entry)

    def has_profile(self, entry: int) -> bool:
        return self._parts.has_profile(entry)

    def cluster(self, entry: int) -> int:
        """Cluster of the entry's first chain."""
        return int(self._clusters[np.searchsorted(self._chains[:, 0], entry)])

    def relatives(self, entry: int, chain: int) -> Sequence[Relative]:
        found = self._relatives.get((entry, chain))
        return found[0].of(found[1]) if found else ()

    def split(self, name: str) -> list[int]:
        """Entries of a split."""
        if name not in self.split_names:
            return []
        return np.flatnonzero(self._splits == self.split_names.index(name)).tolist()

    def units(self, split: str) -> Sequence[Unit]:
        """Chains and interfaces of a split with SI 2.5's weights: beta / size of the cluster * (3 proteins + 3 nucleic acids + ligands)."""
        inside = np.isin(np.arange(len(self)), self.split(split))
        chains = np.flatnonzero(inside[self._chains[:, 0]]).tolist()
        number = {(int(e), int(c)): k for k, (e, c) in enumerate(self._chains[:, :2])}
        pairs = [(int(e), int(a), int(b)) for e, a, b in self._interfaces if inside[e]]
        units: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []
        units += [(e, (c,), (k,)) for k in chains for e, c in [self._chains[k, :2].tolist()]]
        units += [(e, (a, b), (number[e, a], number[e, b])) for e, a, b in pairs]
        keys = [tuple(sorted(int(self._clusters[k]) for k in members)) for _, _, members in units]
        sizes: dict[tuple[int, ...], int] = {}
        for key in keys:
            sizes[key] = sizes.get(key, 0) + 1
        worth = [WORTH[kind] for kind in Kind]
        return [
            Unit(e, own, (CHAIN if len(own) == 1 else INTERFACE) / sizes[key] * sum(worth[self._chains[k, 2]] for k in members))
            for (e, own, members), key in zip(units, keys, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Relatives:
    """The relatives of a part's chains."""

    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> _Relatives:
        group = open_part(folder)
        return cls({name: read_array(group, name) for name in ("of", "offset", "relative", "share", "runs_offset", "runs")})

    def places(self) -> dict[tuple[int, int], int]:
        """Chains that have any, and their rows."""
        counts = np.diff(self.arrays["offset"])
        return {(int(e), int(c)): k for k, (e, c) in enumerate(self.arrays["of"]) if counts[k]}

    def of(self, k: int) -> list[Relative]:
        a = self.arrays
        found = []
        for i in range(int(a["offset"][k]), int(a["offset"][k + 1])):
            runs = a["runs"][a["runs_offset"][i] : a["runs_offset"][i + 1]].astype(np.int32)
            (entry, chain), (identity, coverage) = a["relative"][i].tolist(), a["share"][i].tolist()
            found.append(Relative(entry, chain, runs, identity, coverage))
        return found


def read_mark(folder: Path) -> dict[str, Any]:
    """What an archive says of itself. Raises `InputError` for a folder that is none, or was not finished."""
    try:
        mark = json.loads((folder / MARK).read_bytes())
    except FileNotFoundError as error:
        begun = (folder / "build.json").exists()
        remedy = "run the same `structgen data build` again: it goes on where it stopped" if begun else "give the folder of an archive"
        raise InputError("archive is not complete" if begun else "no archive of structures", where=str(folder), remedy=remedy) from error
    if mark.get("format") != FORMAT:
        raise InputError("archive is of another format", where=str(folder), found=str(mark.get("format")), expected=FORMAT)
    return mark


def _check(folder: Path, mark: dict[str, Any]) -> None:
    """Every part is the one that was there when the archive was finished."""
    for name, digest in mark["parts"].items():
        if not (folder / name / MARK).exists() or mark_digest(folder / name) != digest:
            problem = "part of an archive is not the one that it was finished with"
            raise InputError(problem, where=str(folder / name), remedy="build it again")


def verify(folder: Path) -> list[str]:
    """Files that are not what they were when the archive was finished, after reading all of them."""
    mark = read_mark(folder)
    _check(folder, mark)
    return [f"{name}/{file}" for name in sorted(mark["parts"]) for file in damaged(folder / name)]


def digest(folder: Path) -> str:
    """One digest for the whole content."""
    return hashlib.sha256(json.dumps(read_mark(folder)["parts"], sort_keys=True).encode()).hexdigest()
