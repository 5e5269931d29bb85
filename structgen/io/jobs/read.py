"""Jobs from the files that users give."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import DEFAULT_LIMITS, Job, Limits, chain_ids, protein_chains
from structgen.features.letters import not_built, read_protein
from structgen.features.slug import unique_slugs
from structgen.io.fasta import Record, read_fasta
from structgen.io.textfile import files_in

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
    if job.residues > limits.tokens:
        longest = max(job.chains, key=lambda chain: len(chain.sequence))
        found = f"{job.residues:,} tokens in {len(job.chains)} chain(s), the longest {longest.id} with {len(longest.sequence):,}"
        remedy = "predict domains or fewer chains, or raise the limit of tokens where memory allows"
        raise InputError("job is too large", where=job.source, found=found, expected=f"at most {limits.tokens:,} tokens", remedy=remedy)


def printable(text: str) -> str:
    """The text with blanks for control characters and for bytes that were not UTF-8: safe to show and to write."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
