"""ColabFold's FASTA: one record is one job, ':' between chains; RNA, DNA, components and SMILES as parts with a word before them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import Chain, Job, Kind, chain_id, chain_ids
from structgen.io.fasta import Record, parse_fasta
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.links import whole_job
from structgen.io.jobs.molecules import code_at, sequence_at, smiles_at
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.written import Written, entities

HOLDS = Holds(title="ColabFold FASTA", several_jobs=True, name="line", ids="order", modifications=False)
MOST_COPIES = 10_000
_PART = re.compile(r"(RNA|DNA|CCD|SMILES|PROTEIN)\|(.*?)(?:\|([0-9]+))?", re.IGNORECASE | re.DOTALL)
_NUCLEIC_HEADER = re.compile(r"\bmol:na\b")


def read(source: Source) -> list[Job | InputError]:
    """A job for each record; what stands before the first one is an error of its own."""
    records, outside = parse_fasta(source.text, source.file)
    jobs: list[Job | InputError] = [*outside]
    for record in records:
        try:
            jobs.append(_job(source, record))
        except InputError as error:
            jobs.append(error)
    return jobs


def printable(text: str) -> str:
    """The text with blanks for control characters and for bytes that were not UTF-8: safe to show and to write."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _job(source: Source, record: Record) -> Job:
    name = printable(record.header)
    reading = Reading(source, f"record {record.number} (>{name[:60]})")
    if name != record.header:
        reading.note("characters of the name that cannot be printed became blanks")
    if _NUCLEIC_HEADER.search(record.header):
        found, remedy = "mol:na in the header", "write DNA| or RNA| before the letters"
        raise InputError("header says nucleic acid", where=reading.where, found=found, expected="a protein", remedy=remedy)
    chains = chains_of(reading, record.sequence)
    return whole_job(reading, name or f"{Path(source.file).name.split('.')[0]}-{record.number}", chains)


def chains_of(reading: Reading, text: str) -> list[Chain]:
    """The chains of parts with ':' between them, and their copies."""
    chains: list[Chain] = []
    parts = text.split(":")
    for part in parts:
        id = chain_id(len(chains))
        where = f"{reading.where}, chain {id}" if len(parts) > 1 else reading.where
        chain, copies = _part(reading, part, where, id)
        chains += [chain] * copies
    return [replace(chain, id=id) for chain, id in zip(chains, chain_ids(len(chains)), strict=True)]


def _part(reading: Reading, part: str, where: str, id: str) -> tuple[Chain, int]:
    """A chain and the number of its copies."""
    declared = _PART.fullmatch(part)
    if not declared:
        return Chain(id, Kind.PROTEIN, sequence_at(reading, Kind.PROTEIN, part, where, id, small=True)), 1
    word, text, number = declared[1].upper(), declared[2], declared[3] or "1"
    copies = int(number) if len(number) < 8 else 0
    if not 1 <= copies <= MOST_COPIES:
        raise InputError("copies cannot be made", where=where, found=number[:20], expected=f"1 to {MOST_COPIES:,}")
    if word == "CCD":
        return Chain(id, Kind.LIGAND, residues=(code_at(reading, text, where),)), copies
    if word == "SMILES":
        smiles = smiles_at(reading, text.replace(";", ":"), where)
        if smiles != smiles.upper():
            reading.note(f"chain {id}: ColabFold itself reads SMILES in capitals: another molecule")
        return Chain(id, Kind.LIGAND, smiles=smiles), copies
    kind = Kind(word.lower())
    return Chain(id, kind, sequence_at(reading, kind, text, where, id, small=True)), copies


def write(job: Job) -> Written:
    """The job as one record."""
    job, losses = hold(job, HOLDS)
    return Written(f">{job.name}\n{joined(job)}\n".encode(), losses)


def joined(job: Job) -> str:
    """The chains of a job with ':' between them."""
    parts: list[str] = []
    for group in entities(job):
        chain = group[0]
        if chain.kind is Kind.LIGAND:
            word = f"SMILES|{chain.smiles.replace(':', ';')}" if chain.smiles else f"CCD|{chain.residues[0]}"
            parts.append(f"{word}|{len(group)}")
        else:
            word = "" if chain.kind is Kind.PROTEIN else f"{chain.kind.value.upper()}|"
            parts += [f"{word}{chain.sequence}"] * len(group)
    return ":".join(parts)
