"""The protein chains of a folder of structure files: read once, kept in the store, searched as sequences."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Protocol

from pyhmmer.easel import DigitalSequenceBlock

from structgen.errors import InputError
from structgen.features.templates import Backbone
from structgen.io.structures import Entry, read_entry
from structgen.io.textfile import read_text_bytes
from structgen.search.library import is_library, library_digest, open_library
from structgen.search.nearest import block_of
from structgen.store import Store, artifact_key, canonical_json

SUFFIXES = (".cif", ".mmcif")  # of files in a folder, and these and .gz; a single file may also be a PDB file
INDEX_VERSION = 1  # raised when equal files would be read otherwise

FEW = 64  # files that are cached as one group

_Shard = list[tuple[str, int, int]]  # name, size and time of change of files


class Seen(Protocol):
    """Hears how many files are read, and of how many."""

    def __call__(self, done: int, of: int) -> None: ...


@dataclass(frozen=True)
class IndexedFile:
    """A structure file as the index knows it; `problem` says why it has no chains where it could not be read."""

    name: str  # path below the folder
    sha256: str  # of the unpacked content
    released: str  # ISO date, empty if unknown
    chains: Mapping[str, str]  # author's id to sequence, unresolved residues among it
    problem: str = ""


@dataclass(frozen=True)
class TemplateIndex:
    """All files of a folder by name. `digest` stands for their names and contents, wherever the folder lies."""

    files: tuple[IndexedFile, ...]
    digest: str

    @property
    def unreadable(self) -> tuple[IndexedFile, ...]:
        return tuple(file for file in self.files if file.problem)

    @cached_property
    def sequences(self) -> dict[str, list[tuple[IndexedFile, str]]]:
        """Every distinct sequence and the chains that have it, by file and order in it."""
        found: dict[str, list[tuple[IndexedFile, str]]] = {}
        for file in self.files:
            for chain, sequence in file.chains.items():
                found.setdefault(sequence, []).append((file, chain))
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The distinct sequences in the order of `block`, where they are called by their number."""
        return tuple(self.sequences)

    @cached_property
    def block(self) -> DigitalSequenceBlock:
        """The distinct sequences, digitised."""
        return block_of({str(number): sequence for number, sequence in enumerate(self.names)})


def build_index(path: Path, store: Store, seen: Seen = lambda done, of: None) -> TemplateIndex:
    """The index of a structure library, of a folder, however nested, or of one file, published in the store.

    Known files, by size and time, are not read again.

    Raises `InputError` where there is no file to read or none of them can be read.
    """
    if is_library(path):
        return _stored_library_index(path, store)
    root, names = _listing(path)
    files: list[IndexedFile] = []
    for shard in _shards(root, names):
        key = artifact_key("template files", INDEX_VERSION, parameters={"root": str(root.resolve()), "files": shard}, inputs=[])
        if not store.holds(key):
            store.publish(key, _packed(list(_read(root, shard, partial(seen, of=len(names)), len(files)))))
        files += _unpacked(store.read(key))
        seen(len(files), of=len(names))
    files.sort(key=lambda file: file.name)
    if all(file.problem for file in files):
        raise InputError("no structure file can be read", where=str(path), found=f"{files[0].name}: {files[0].problem}", expected="mmCIF")
    content = _packed(files)
    digest = hashlib.sha256(gzip.decompress(content)).hexdigest()
    store.publish(index_key(digest), content)
    return TemplateIndex(tuple(files), digest)


def _stored_library_index(path: Path, store: Store) -> TemplateIndex:
    index = library_index(path)
    if not store.holds(index_key(index.digest)):
        store.publish(index_key(index.digest), _packed(index.files))
    return index


def library_index(path: Path) -> TemplateIndex:
    """The chains of a library, one file each; its digest is that of the library's file."""
    library, digest = open_library(path), library_digest(path)
    rows = zip(library.names, library.sequences, strict=True)
    files = tuple(IndexedFile(f"{entry}:{k}", digest, released, {chain: s}) for k, ((entry, chain, released), s) in enumerate(rows))
    return TemplateIndex(files, digest)


@lru_cache(maxsize=1)
def load_index(store: Store, digest: str) -> TemplateIndex:
    """An index that was built before, kept for the process's life until another one is asked for."""
    return TemplateIndex(tuple(_unpacked(store.read(index_key(digest)))), digest)


def backbone_of(path: Path, file: IndexedFile, chain: str) -> tuple[Backbone, str]:
    """The backbone of an indexed chain, and the name by which its file is known. Raises `InputError` where it is not what was indexed."""
    if not is_library(path):
        entry = read_indexed(path, file)
        return next(polymer for polymer in entry.proteins if polymer.name == chain).backbone(), file.name
    if library_digest(path) != file.sha256:
        raise InputError("structure library changed since the run began", where=str(path), remedy="run the same command again")
    name, _, number = file.name.rpartition(":")
    return open_library(path).backbone(int(number)), name


def read_indexed(path: Path, file: IndexedFile) -> Entry:
    """A file of the folder (or the one file) `path` again. Raises `InputError` where it is not what was indexed."""
    root = _listing_root(path)
    entry = read_entry(read_text_bytes(root / file.name), str(root / file.name))
    if entry.sha256 != file.sha256:
        raise InputError("template file changed since the run began", where=entry.where, remedy="run the same command again")
    return entry


def _listing_root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _listing(path: Path) -> tuple[Path, list[str]]:
    """The folder, and the names of its structure files below it."""
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        raise InputError("templates cannot be read: no such file or folder", where=str(path), expected="mmCIF files")
    names = [
        os.path.relpath(os.path.join(folder, name), path)
        for folder, _, files in os.walk(path)
        for name in files
        if name.lower().removesuffix(".gz").endswith(SUFFIXES)
    ]
    if not names:
        expected = f"files that end in {', '.join(SUFFIXES)} or one of these and .gz"
        raise InputError("folder holds no structure file", where=str(path), expected=expected)
    return path, sorted(names)


def _shards(root: Path, names: Sequence[str]) -> list[_Shard]:
    """The files in groups that are cached together, so that a new file makes one group new and not all."""
    shards: dict[str, _Shard] = {}
    for name in names:
        shard = hashlib.sha256(os.fsencode(name)).hexdigest()[:2] if len(names) > FEW else ""
        shards.setdefault(shard, []).append((name, *_state(root / name)))
    return [shards[shard] for shard in sorted(shards)]


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change; -1 for what is not there, which is told when it is read."""
    try:
        state = path.stat()
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _read(root: Path, shard: _Shard, seen: Callable[[int], None], before: int) -> Iterator[IndexedFile]:
    """The files of a shard; `seen` hears how many are read, with those `before`."""
    for number, (name, _, _) in enumerate(shard):
        seen(before + number)
        yield _indexed(root, name)


def _indexed(root: Path, name: str) -> IndexedFile:
    try:
        entry = read_entry(read_text_bytes(root / name), name)
        return IndexedFile(name, entry.sha256, entry.released, {p.name: p.sequence for p in reversed(entry.proteins)})
    except InputError as error:
        return IndexedFile(name, "", "", {}, problem=f"{error.message}; {error.found}".rstrip("; "))


def _packed(files: Sequence[IndexedFile]) -> bytes:
    return gzip.compress(canonical_json([asdict(file) for file in files]).encode(), mtime=0)


def _unpacked(content: bytes) -> list[IndexedFile]:
    return [IndexedFile(**values) for values in json.loads(gzip.decompress(content))]


def index_key(digest: str) -> str:
    return artifact_key("template index", INDEX_VERSION, parameters={}, inputs=[digest])
