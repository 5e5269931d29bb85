"""What is asked for: a job is a complex, a chain one molecule in it. Jobs come from files and travel as JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from structgen.errors import InputError
from structgen.features.atoms import Kind
from structgen.features.letters import not_built, read_protein
from structgen.features.slug import unique_slugs
from structgen.io.fasta import Record, read_fasta
from structgen.io.textfile import files_in


@dataclass(frozen=True)
class Chain:
    """One molecule: `id` is 1 to 4 letters or digits, `sequence` one-letter codes in capitals."""

    id: str
    kind: Kind
    sequence: str


@dataclass(frozen=True)
class Job:
    """One complex to predict. `name` is the user's, `slug` a safe and unique folder name, `source` the file and record."""

    name: str
    slug: str
    chains: tuple[Chain, ...]
    source: str = ""
    notes: tuple[str, ...] = ()  # how the input was read where more than one reading was possible

    @property
    def tokens(self) -> int:
        """Tokens of the network: one a standard residue (SI 2.6)."""
        return sum(len(chain.sequence) for chain in self.chains)

    def to_json(self) -> str:
        """The job as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Inverse of `to_json`. Raises `InputError` for text that is not such a job."""
        try:
            return _from_values(json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"job cannot be read: {type(error).__name__} {error}", found=repr(text[:60]), expected="JSON as written by structgen"
            ) from error


def _from_values(values: dict[str, Any]) -> Job:
    chains = tuple(Chain(str(c["id"]), Kind(c["kind"]), str(c["sequence"])) for c in values["chains"])
    unknown = set(values) - {"name", "slug", "chains", "source", "notes"}
    if unknown or not chains:
        raise ValueError(f"unknown key {min(unknown)!r}" if unknown else "no chains")
    return Job(str(values["name"]), str(values["slug"]), chains, str(values.get("source", "")), tuple(map(str, values.get("notes", ()))))


def chain_ids(count: int) -> tuple[str, ...]:
    """Ids by position as the PDB gives them: A to Z, then AA, BA, ..., ZA, AB, ... (the first letter turns fastest)."""
    return tuple(_chain_id(i) for i in range(count))


def _chain_id(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters += chr(ord("A") + letter)
    return letters


def protein_chains(sequences: Sequence[str]) -> tuple[Chain, ...]:
    """Chains A, B, ... of proteins."""
    return tuple(Chain(id, Kind.PROTEIN, sequence) for id, sequence in zip(chain_ids(len(sequences)), sequences, strict=True))


@dataclass(frozen=True)
class Limits:
    """What is refused before anything is computed."""

    letters: int = 100_000  # of one chain
    tokens: int = 5_000  # of one job


DEFAULT_LIMITS = Limits()
SUFFIXES = (".fasta", ".fa", ".faa")
_TYPED_HEADER = re.compile(r"(?:(protein|rna|dna|ligand|glycan)\|.|[^|]{1,5}\|(protein|rna|dna|ccd|smiles)(?:\||$))", re.IGNORECASE)
_NUCLEIC_HEADER = re.compile(r"\bmol:na\b")


def read_jobs(paths: Sequence[str | Path], limits: Limits = DEFAULT_LIMITS) -> tuple[list[Job], list[InputError]]:
    """The jobs of FASTA files and of folders of them, in order, and an error for every file or record that is none.

    One record is one job; ':' stands between its chains, and equal chains are copies (the convention of ColabFold).
    """
    drafts: list[Job] = []
    errors: list[InputError] = []
    for path in map(Path, paths):
        try:
            for file in _fasta_files(path):
                _read_file(file, limits, drafts, errors)
        except InputError as error:
            errors.append(error)
    contents = [":".join(chain.sequence for chain in job.chains) for job in drafts]
    slugs = unique_slugs([job.name for job in drafts], contents)
    return [replace(job, slug=slug) for job, slug in zip(drafts, slugs, strict=True)], errors


def _fasta_files(path: Path) -> list[Path]:
    if not os.path.isdir(path):  # unlike Path.is_dir, false for what is too long to be a path
        return [path]
    found = files_in(path, SUFFIXES)
    if not found:
        expected = f"files that end in {', '.join(SUFFIXES)} or one of these and .gz"
        raise InputError("folder holds no FASTA file", where=str(path), expected=expected, remedy="name the files one by one")
    return found


def _read_file(file: Path, limits: Limits, jobs: list[Job], errors: list[InputError]) -> None:
    try:
        records, outside = read_fasta(file)
    except InputError as error:
        errors.append(error)
        return
    errors.extend(outside)
    for record in records:
        try:
            jobs.append(_read_record(record, file, alone=len(records) == 1, limits=limits))
        except InputError as error:
            errors.append(error)


def _read_record(record: Record, file: Path, *, alone: bool, limits: Limits) -> Job:
    """A job whose slug is not chosen yet."""
    name = printable(record.header)
    source = f"{file}: record {record.number} (>{name[:60]})"
    notes = ["characters of the name that cannot be printed became blanks"] if name != record.header else []
    _check_header(record.header, source, alone=alone)
    parts = record.sequence.split(":")
    sequences = []
    for id, part in zip(chain_ids(len(parts)), parts, strict=True):
        where = f"{source}, chain {id}" if len(parts) > 1 else source
        if len(part) > limits.letters:
            found, expected = f"{len(part):,} letters", f"at most {limits.letters:,}"
            raise InputError("chain is too long", where=where, found=found, expected=expected, remedy="predict its domains one by one")
        sequence, remarks = read_protein(part, where)
        sequences.append(sequence)
        notes += [f"chain {id}: {remark}" for remark in remarks]
    job = Job(name or f"{file.name.split('.')[0]}-{record.number}", "", protein_chains(sequences), source, tuple(notes))
    _check_size(job, limits)
    return job


def _check_header(header: str, source: str, *, alone: bool) -> None:
    """Headers that declare a molecule: only proteins are built; and where others put one chain a record, one record is one job here."""
    declared = _TYPED_HEADER.match(header)
    kind = (declared[1] or declared[2]).lower() if declared else "dna or rna" if _NUCLEIC_HEADER.search(header) else "protein"
    if kind != "protein":
        raise not_built(kind.upper() if "na" in kind else "a ligand", source, found=f"a header that declares {kind}")
    if declared and not alone:
        found = "headers that declare the chains of one complex, several to a file"
        remedy = "join the chains in one record with ':', or take 'protein|' out of the headers to predict each alone"
        raise InputError("one record is one job", where=source, found=found, expected="one complex a record", remedy=remedy)


def _check_size(job: Job, limits: Limits) -> None:
    if job.tokens > limits.tokens:
        longest = max(job.chains, key=lambda chain: len(chain.sequence))
        found = f"{job.tokens:,} tokens in {len(job.chains)} chain(s), the longest {longest.id} with {len(longest.sequence):,}"
        remedy = "predict domains or fewer chains, or raise the limit of tokens where memory allows"
        raise InputError("job is too large", where=job.source, found=found, expected=f"at most {limits.tokens:,} tokens", remedy=remedy)


def printable(text: str) -> str:
    """The text with blanks for control characters and for bytes that were not UTF-8: safe to show and to write."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
