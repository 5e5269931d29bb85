"""A structure library: the backbones and sequences of many chains in one small file, which is searched as a folder of mmCIF files is.

The file is a ZIP of NumPy arrays compressed by LZMA: `np.load` reads it. `steps` is LZMA too, with models of its own for the two bytes of a
residue. Equal chains give equal bytes. Where profiles of some chains are known, every residue has a column of `search.columns` too, which
finds remote relatives.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.templates import Backbone
from structgen.search.backbone_code import Code, decode, encode
from structgen.search.columns import ColumnAlphabet, columns_of
from structgen.search.remote import RemoteLibrary
from structgen.store import replacing

FORMAT = "structgen-library-2"
_FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 3, "lp": 1, "pb": 1}]
_LETTERS = chemistry.AMINO_ACIDS + "X"
_GLYCINE = "G"


@dataclass(frozen=True, eq=False)
class LibraryChain:
    """What goes into a library. Coordinates in angstrom; NaN where there are none."""

    name: str  # of its entry or file
    chain: str
    released: str  # ISO date, empty if unknown
    sequence: str  # [n] one-letter codes, unresolved residues among them
    atoms: np.ndarray  # [n, 3, 3] N, CA, C
    profile: np.ndarray | None = None  # [n, 20] frequencies of homologues, rows of zeros where unknown


def write_library(path: Path, chains: Iterable[LibraryChain], about: dict[str, Any]) -> int:
    """Write the chains in their order, and what is said of them (plain JSON). Returns the size of the file in bytes."""
    codes, names, sequences, profiles = list[Code](), list[list[str]](), list[str](), list[np.ndarray | None]()
    for chain in chains:
        resolved = np.isfinite(chain.atoms).all((1, 2))
        if resolved.any():
            codes.append(encode(chain.atoms, resolved))
            names.append([chain.name, chain.chain, chain.released])
            sequences.append(chain.sequence)
            profiles.append(None if chain.profile is None else chain.profile.astype(np.float16))
    if not codes:
        raise InputError("no chain for a structure library", where=str(path), expected="protein chains with coordinates")
    header = json.dumps({"format": FORMAT, "about": about, "chains": names}, separators=(",", ":"), sort_keys=True).encode()
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        arrays = _arrays(codes, sequences) | _columns(sequences, profiles) | {"header": np.frombuffer(header, np.uint8)}
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_STORED if name == "steps" else zipfile.ZIP_LZMA
            archive.writestr(info, data.getvalue())
    return path.stat().st_size


def _arrays(codes: Sequence[Code], sequences: Sequence[str]) -> dict[str, np.ndarray]:
    table = np.full(256, len(_LETTERS) - 1, np.uint8)
    for number, letter in enumerate(_LETTERS):
        table[ord(letter)] = number
    angles = np.concatenate([code.angles for code in codes]).tobytes()
    return {
        "steps": np.frombuffer(lzma.compress(angles, format=lzma.FORMAT_RAW, filters=_FILTERS), np.uint8),
        "letters": table[np.frombuffer("".join(sequences).encode(), np.uint8)],
        "lengths": np.array([len(code.resolved) for code in codes], np.int32),
        "resolved": np.packbits(np.concatenate([code.resolved for code in codes])),
        "free": np.packbits(np.concatenate([code.free for code in codes])),
        "free_steps": np.ascontiguousarray(np.concatenate([code.steps for code in codes]).T),
        "kept": np.packbits(np.concatenate([code.kept for code in codes])),
        "own": np.ascontiguousarray(np.concatenate([code.own for code in codes]).reshape(-1, 6).T),
    }


def _columns(sequences: Sequence[str], profiles: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """All residues' columns and their alphabet; nothing where no profile is known, since then sequences say as much."""
    if all(profile is None for profile in profiles):
        return {}
    columns = np.concatenate([columns_of(s, f).astype(np.float16) for s, f in zip(sequences, profiles, strict=True)])
    alphabet = ColumnAlphabet.learned(columns)
    return {"columns": alphabet.encoded(columns), "alphabet": alphabet.letters}


def is_library(path: Path) -> bool:
    """Whether a file is one, by its content."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "header.npy" in archive.namelist() and "letters.npy" in archive.namelist()


class Library:
    """A library file, its coordinates unpacked when the first backbone is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = json.loads(self._read("header").tobytes())
        if self._header.get("format") != FORMAT:
            raise InputError("library is of another format", where=str(path), found=str(self._header.get("format")), expected=FORMAT)

    def __len__(self) -> int:
        return len(self._header["chains"])

    @property
    def about(self) -> dict[str, Any]:
        """What its maker said of it."""
        return self._header["about"]

    @property
    def names(self) -> list[tuple[str, str, str]]:
        """Entry, chain and release date of every chain."""
        return [(entry, chain, released) for entry, chain, released in self._header["chains"]]

    @cached_property
    def sequences(self) -> list[str]:
        """Of every chain."""
        letters = np.frombuffer(_LETTERS.encode(), np.uint8)[self._read("letters")].tobytes().decode()
        return [letters[start:stop] for start, stop in zip(self._starts, self._starts[1:], strict=False)]

    @cached_property
    def remote(self) -> RemoteLibrary | None:
        """Its chains as columns, where its maker knew profiles."""
        with zipfile.ZipFile(self.path) as archive:
            if "columns.npy" not in archive.namelist():
                return None
        return RemoteLibrary(ColumnAlphabet(self._read("alphabet")), self._read("columns"), np.array(self._starts))

    def backbone(self, k: int) -> Backbone:
        """A chain as a template: CB is implied by N, CA and C, and is CA for glycine."""
        frame, sequence = decode(self._code(k)), self.sequences[k]
        known = np.isfinite(frame).all((1, 2))
        glycine = np.frombuffer(sequence.encode(), np.uint8) == ord(_GLYCINE)
        beta = np.where(glycine[:, None], frame[:, 1], implied_beta(frame))
        frame, beta = (np.where(known.reshape(-1, *(1,) * (x.ndim - 1)), x, 0).astype(np.float32) for x in (frame, beta))
        return Backbone(sequence, frame, known, beta, known.copy())

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum(self._read("lengths")).tolist()]

    @cached_property
    def _packed(self) -> dict[str, np.ndarray]:
        """All arrays, and where each chain's part of them begins."""
        resolved = np.unpackbits(self._read("resolved"), count=self._starts[-1]).astype(bool)
        free, kept = (np.unpackbits(self._read(name), count=int(resolved.sum())).astype(bool) for name in ("free", "kept"))
        return {
            "angles": np.frombuffer(self._unpacked_steps(), np.uint8).reshape(-1, 2),
            "resolved": resolved,
            "free": free,
            "steps": np.ascontiguousarray(self._read("free_steps").T),
            "kept": kept,
            "own": np.ascontiguousarray(self._read("own").T).reshape(-1, 2, 3),
            "before": np.concatenate([[0], np.cumsum(resolved)]),
            "free_before": np.concatenate([[0], np.cumsum(free)]),
            "own_before": np.concatenate([[0], np.cumsum(kept)]),
        }

    def _unpacked_steps(self) -> bytes:
        try:
            return lzma.decompress(self._read("steps").tobytes(), format=lzma.FORMAT_RAW, filters=_FILTERS)
        except lzma.LZMAError as error:
            raise self._unreadable(error) from error

    def _code(self, k: int) -> Code:
        packed = self._packed
        residues = slice(self._starts[k], self._starts[k + 1])
        atoms = slice(int(packed["before"][residues.start]), int(packed["before"][residues.stop]))
        steps, own = (slice(int(packed[name][atoms.start]), int(packed[name][atoms.stop])) for name in ("free_before", "own_before"))
        return Code(
            resolved=packed["resolved"][residues],
            angles=packed["angles"][atoms],
            free=packed["free"][atoms],
            steps=packed["steps"][steps],
            kept=packed["kept"][atoms],
            own=packed["own"][own],
        )

    def _read(self, name: str) -> np.ndarray:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
                return np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError, lzma.LZMAError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        remedy = "copy it again, or make it with `structgen data library`"
        return InputError("structure library cannot be read", where=str(self.path), found=str(error)[:100], remedy=remedy)


def implied_beta(frame: np.ndarray) -> np.ndarray:
    """[n, 3] CB of ideal geometry from N, CA and C [n, 3, 3] (the linear form of Anishchenko et al. 2021, trRosetta)."""
    b, c = frame[:, 1] - frame[:, 0], frame[:, 2] - frame[:, 1]
    return (-0.58273431 * np.cross(b, c) + 0.56802827 * b - 0.54067466 * c + frame[:, 1]).astype(np.float32)


def open_library(path: Path) -> Library:
    """A library, kept for the process's life until its file changes or another one is asked for."""
    state = path.stat()
    return _open(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1)
def _open(path: Path, size: int, modified: int) -> Library:
    return Library(path)


def library_digest(path: Path) -> str:
    """sha256 of the file."""
    state = path.stat()
    return _digest(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _digest(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
