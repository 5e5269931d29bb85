"""Databases of mmseqs2: built once from FASTA, in shards, with the index that makes every later search start warm."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

from structgen.errors import ConfigError, InputError
from structgen.search.digests import file_digest
from structgen.search.mmseqs_binary import run_mmseqs
from structgen.store import Store, canonical_json, replace_file

FORMAT = 1
_NAME = "database.json"


@dataclass(frozen=True)
class Shard:
    """One database of mmseqs2, and how many sequences and residues it holds."""

    name: str
    sequences: int
    residues: int


@dataclass(frozen=True)
class MmseqsDatabase:
    """Shards that are searched as one database. `digest` stands for the sequences and for how they are parted."""

    path: Path  # a folder that `build_database` made, or the path of a database of mmseqs2
    digest: str
    shards: tuple[Shard, ...]

    @property
    def residues(self) -> int:
        """Of all shards: E-values are told for the whole."""
        return sum(shard.residues for shard in self.shards)

    def prefix(self, shard: Shard) -> Path:
        """What mmseqs2 calls this shard."""
        return self.path / shard.name if self.path.is_dir() else self.path


def build_database(fasta: Path, out: Path, *, shards: int, index: bool, threads: int) -> MmseqsDatabase:
    """The sequences of a protein FASTA file, `.gz` or not, as a folder of so many shards; complete under its name, or not at all.

    Raises `ConfigError` where the folder is there already, `InputError` for a file that is no FASTA.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already; remove it, or choose another name")
    run_mmseqs("version")
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(mode=0o755, parents=True)
    try:
        digest, parts = _part(fasta, temporary, shards)
        for part in parts:
            _make(temporary, part, index, threads)
        identity = hashlib.sha256(canonical_json([FORMAT, digest, [asdict(part) for part in parts]]).encode()).hexdigest()
        about = {"format": FORMAT, "digest": identity, "source": fasta.name, "shards": [asdict(part) for part in parts]}
        about |= {"mmseqs": run_mmseqs("version").strip(), "index": index}
        replace_file(temporary / _NAME, json.dumps(about, indent=1).encode() + b"\n")
        os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return MmseqsDatabase(out, identity, tuple(parts))


def _make(folder: Path, part: Shard, index: bool, threads: int) -> None:
    fasta = folder / f"{part.name}.fasta"
    run_mmseqs("createdb", fasta, folder / part.name, "--dbtype", "1", "--shuffle", "0", "-v", "1")
    fasta.unlink()
    if index:
        run_mmseqs("createindex", folder / part.name, folder / "tmp", "--threads", str(threads), "-v", "1")
        shutil.rmtree(folder / "tmp", ignore_errors=True)


def _part(fasta: Path, folder: Path, shards: int) -> tuple[str, list[Shard]]:
    """Sha256 of the text, and the records dealt out to shards of nearly equal residues."""
    digest, sequences, residues = hashlib.sha256(), [0] * shards, [0] * shards
    with ExitStack() as stack:
        files = [stack.enter_context(open(folder / f"{_shard(number)}.fasta", "wb")) for number in range(shards)]
        for header, letters in _records(fasta):
            digest.update(header + letters)
            least = residues.index(min(residues))
            files[least].write(header.replace(b"\t", b" ") + letters)
            sequences[least] += 1
            residues[least] += len(letters) - letters.count(b"\n") - letters.count(b"\r")
    if not all(sequences):
        expected = f"at least {shards} sequence{'s' * (shards > 1)}, one a shard"
        raise InputError("database is too small", where=str(fasta), found=f"{sum(sequences)} sequences", expected=expected)
    return digest.hexdigest(), [Shard(_shard(n), sequences[n], residues[n]) for n in range(shards)]


def _shard(number: int) -> str:
    return f"shard-{number:04d}"


def _records(fasta: Path) -> Iterator[tuple[bytes, bytes]]:
    """Header line and lines of letters of every record."""
    try:
        with gzip.open(fasta) if fasta.suffix.lower() == ".gz" else open(fasta, "rb") as file:
            yield from _split(cast(BinaryIO, file), str(fasta))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"cannot be unpacked: {error}", where=str(fasta), expected="a complete gzip file") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(fasta), expected="protein FASTA") from error


def _split(file: BinaryIO, where: str) -> Iterator[tuple[bytes, bytes]]:
    header = b""
    lines: list[bytes] = []
    for number, line in enumerate(file, 1):
        if line.startswith(b">"):
            if header:
                yield header, b"".join(lines)
            header, lines = line, []
        elif header:
            if not line.strip().replace(b"*", b"").replace(b"-", b"").isalpha() and line.strip():
                raise InputError("file is not protein FASTA", where=f"{where}: line {number}", found=repr(line[:40]), expected="letters")
            lines.append(line if line.endswith(b"\n") else line + b"\n")
        elif line.strip():
            expected = "a line that starts with '>'"
            raise InputError("file is not FASTA", where=f"{where}: line {number}", found=repr(line[:40]), expected=expected)
    if header:
        yield header, b"".join(lines)


def open_database(path: Path, store: Store) -> MmseqsDatabase:
    """A folder that `build_database` made, or any database of mmseqs2 by its path, whose digest the store remembers.

    Raises `InputError` where there is none.
    """
    if path.is_dir():
        return _read(path / _NAME)
    expected = "a folder that `structgen search-db build` made, or the path of a database of mmseqs2"
    if not path.is_file() or not sibling(path, ".dbtype").is_file():
        raise InputError("is no database of mmseqs2", where=str(path), found="no such file with a .dbtype beside it", expected=expected)
    files = ("", ".index", "_h", "_h.index") + (("_seq", "_seq_h", "_aln") if has_members(path) else ())
    parts = [file_digest(sibling(path, suffix), store) for suffix in files]
    sequences, residues = _sizes(sibling(path, ".index"))
    digest = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
    return MmseqsDatabase(path, digest, (Shard(path.name, sequences, residues),))


def _read(path: Path) -> MmseqsDatabase:
    try:
        about = json.loads(path.read_bytes())
        shards = tuple(Shard(**shard) for shard in about["shards"])
        known = about["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "build it with `structgen search-db build FASTA OUT`"
        found = f"no {_NAME} that can be read"
        raise InputError("is no folder of a database", where=str(path.parent), found=found, remedy=remedy) from error
    if not known or not shards:
        raise InputError("is of another version", where=str(path), found=f"format {about['format']}", expected=str(FORMAT))
    return MmseqsDatabase(path.parent, str(about["digest"]), shards)


def has_members(prefix: Path) -> bool:
    """Whether its sequences stand for clusters whose members lie beside it, as in the databases that ColabFold hands out."""
    return all(sibling(prefix, f"{part}.dbtype").is_file() for part in ("_seq", "_aln"))


def sibling(prefix: Path, suffix: str) -> Path:
    """A file of the same database."""
    return prefix.with_name(prefix.name + suffix)


def _sizes(index: Path) -> tuple[int, int]:
    """Sequences and residues by an index, whose last column counts a line break and a NUL byte with each sequence."""
    lengths = [int(line.split(b"\t")[2]) - 2 for line in index.read_bytes().splitlines()]
    return len(lengths), sum(lengths)
