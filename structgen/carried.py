"""Evidence that travels: what was found for every chain, with the alignments themselves, from a machine that can search to one that cannot.

`evidence.json` lies in the folder of a search and names artifacts of its store; an archive holds both. Nothing that comes out of an archive
is trusted: only files of known names, each with the sha256 that the list says, within limits.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import structgen
from structgen.configuration import from_mapping
from structgen.errors import ConfigError, InputError
from structgen.store import ArtifactError, Store, replace_file, replacing

FORMAT = 1
NAME = "evidence.json"
_LARGEST_LIST, _LARGEST_ARTIFACT = 2**30, 2**31  # bytes
_KEY = re.compile(r"artifacts/([0-9a-f]{64})")
_EXPECTED = "evidence.json or a folder with it, or an archive, as `structgen search` writes them"


@dataclass(frozen=True)
class ChainEvidence:
    """What was found for a protein: keys, empty where there is nothing, and what to say of each."""

    sequence: str
    partners: tuple[str, ...]  # the distinct sequences of its complex where a server paired their rows, else none
    msa: str
    note: str
    templates: str
    templates_note: str

    @property
    def keys(self) -> list[str]:
        """Those that are there."""
        return [key for key in (self.msa, self.templates) if key]


@dataclass(frozen=True)
class Carried:
    """The list of an evidence file."""

    where: str
    chains: dict[tuple[str, tuple[str, ...]], ChainEvidence]

    def of(self, sequence: str, partners: Sequence[str]) -> ChainEvidence:
        """Raises `InputError` where nothing is known of this protein: that nothing was found is something else."""
        found = self.chains.get((sequence, tuple(partners))) or self.chains.get((sequence, ()))
        pairs_are_missing = found is not None and len(partners) > 1 and not found.partners and self.is_paired
        if found is None or pairs_are_missing:
            what = "the rows that pair it with the other chains" if found else f"{sequence[:20]}... of {len(sequence)} residues"
            remedy = "search for it with the same inputs where the databases are"
            raise InputError("no evidence was carried for a protein", where=self.where, found=f"{len(self.chains)} others", expected=what,
                             remedy=remedy)  # fmt: skip
        return found

    @property
    def is_paired(self) -> bool:
        """Whether a server paired rows in the search that was carried."""
        return any(chain.partners for chain in self.chains.values())


def write_list(folder: Path, chains: Iterable[ChainEvidence]) -> Path:
    """Put the list into a folder, in the place of an earlier one."""
    path = folder / NAME
    document = {"format": FORMAT, "software": structgen.__version__, "chains": [asdict(chain) for chain in chains]}
    replace_file(path, json.dumps(document, indent=1).encode() + b"\n")
    return path


def write_archive(path: Path, listed: Path, store: Store) -> int:
    """Pack a list and all that it names; returns how many artifacts. Equal evidence gives equal bytes."""
    keys = sorted({key for chain in _read_list(listed.read_bytes(), str(listed)).chains.values() for key in chain.keys})
    content = listed.read_bytes()
    document = json.loads(content) | {"artifacts": {key: hashlib.sha256(store.read(key)).hexdigest() for key in keys}}
    with replacing(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, NAME, json.dumps(document, indent=1).encode() + b"\n")
        for key in keys:
            _add(archive, f"artifacts/{key}", store.read(key))
    return len(keys)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    archive.addfile(info, io.BytesIO(content))


def load_carried(path: Path) -> Carried:
    """The list, kept for the process's life. Raises `InputError` for a file that is none."""
    file = path / NAME if path.is_dir() else path
    try:
        state = file.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(file), expected=_EXPECTED) from error
    return _load(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _load(path: Path, size: int, modified: int) -> Carried:
    if path.suffix == ".json":
        return _read_list(path.read_bytes(), str(path))
    with open(path, "rb") as file:
        return _read_list(_first(_members(file, str(path)), str(path)), str(path))


def _first(members: Iterator[tuple[str, bytes]], where: str) -> bytes:
    for _, content in members:
        return content
    raise InputError("archive is empty", where=where, expected=_EXPECTED)


def _read_list(content: bytes, where: str) -> Carried:
    document = _document(content, where)
    try:
        chains = [from_mapping(ChainEvidence, chain, f"chain {number}") for number, chain in enumerate(document["chains"], 1)]
    except (KeyError, TypeError, ConfigError) as error:
        raise InputError(f"list of evidence cannot be read: {error}", where=where, expected=_EXPECTED) from error
    return Carried(where, {(chain.sequence, chain.partners): chain for chain in chains})


def _document(content: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise InputError(f"list of evidence cannot be read: {error}", where=where, expected=_EXPECTED) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError("is no list of evidence", where=where, found=repr(content[:40]), expected=f"format {FORMAT}")
    return document


def unpack(path: Path, store: Store) -> int:
    """Publish what an archive holds; returns how many artifacts were new. Raises `InputError` at the first that is not what it says."""
    new = 0
    with open(path, "rb") as file:
        members = _members(file, str(path))
        digests = dict(_document(_first(members, str(path)), str(path)).get("artifacts", {}))
        for key, payload in members:
            if hashlib.sha256(payload).hexdigest() != digests.pop(key, None):
                raise InputError("archive is damaged", where=f"{path}: {key}", found="another sha256 than its list says")
            new += store.publish(key, payload)
    if digests:
        raise InputError("archive is cut off", where=str(path), found=f"{len(digests)} artifacts missing", remedy="copy it again")
    return new


def is_archive(path: Path) -> bool:
    """Whether this has to be unpacked before it is used."""
    return path.is_file() and path.suffix != ".json"


def _members(file: BinaryIO, where: str) -> Iterator[tuple[str, bytes]]:
    """The list, then the artifacts by their keys."""
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for number, member in enumerate(archive):
                match = _KEY.fullmatch(member.name)
                largest = _LARGEST_ARTIFACT if number else _LARGEST_LIST
                if not member.isreg() or member.issparse() or bool(number) != bool(match) or (not number and member.name != NAME):
                    raise InputError("archive is refused", where=where, found=f"member {member.name[:80]!r}", expected=_EXPECTED)
                if member.size > largest:
                    raise InputError("archive is refused", where=where, found=f"{member.size:,} bytes", expected=f"at most {largest:,}")
                yield match[1] if match else NAME, cast(BinaryIO, archive.extractfile(member)).read()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise InputError(f"archive cannot be read: {error}", where=where, expected=_EXPECTED) from error


def missing_artifacts(carried: Carried, store: Store) -> list[str]:
    """Keys of the list that the store lacks."""
    return sorted({key for chain in carried.chains.values() for key in chain.keys if not store.holds(key)})


def require_artifacts(path: Path, store: Store) -> None:
    """Raises `InputError` where the store lacks something of the list."""
    lost = missing_artifacts(load_carried(path), store)
    if lost:
        found, remedy = f"{len(lost)} missing in {store.root}", "give the store of the search with --store, or an archive of --export"
        raise InputError("the store lacks evidence of the list", where=str(path), found=found, remedy=remedy)


def absent(where: str, what: str) -> bytes:
    """In the place of a search that must not be made. Raises `ArtifactError`."""
    raise ArtifactError(f"{what} is not in the store {where} any more; run the same command again")
