"""Boltz's FASTA: `>CHAIN|TYPE[|MSA]`, all records of a file one job."""

from __future__ import annotations

import re

from structgen.errors import InputError
from structgen.features.job import Alignments, Chain, Job, Kind
from structgen.io.fasta import Record, parse_fasta
from structgen.io.jobs.beside import Beside
from structgen.io.jobs.evidence_lost import is_table
from structgen.io.jobs.holds import Holds, hold
from structgen.io.jobs.links import whole_job
from structgen.io.jobs.molecules import code_at, inside_ids, sequence_at, smiles_at
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.written import Written

HOLDS = Holds(
    title="Boltz FASTA", name="file", modifications=False, alignments=("unpaired", "tables", "none", "only-one"), letters_under=False
)
HEADER = re.compile(r"([^|\s]{1,5})\|(protein|dna|rna|ccd|smiles)(?:\|(.*))?", re.IGNORECASE)


def read(source: Source) -> list[Job | InputError]:
    """The one job of a file; its name is the file's."""
    reading = Reading(source)
    records, outside = parse_fasta(source.text, source.file)
    if outside:
        raise outside[0]
    matched = [_header(reading, record) for record in records]
    places = [(match[1], _place(reading, record)) for match, record in zip(matched, records, strict=True)]
    inside = inside_ids(reading, places)
    chains = [_chain(reading, record, match, inside[match[1]]) for record, match in zip(records, matched, strict=True)]
    return [whole_job(reading, source.stem, chains)]


def _place(reading: Reading, record: Record) -> str:
    return f"{reading.where}: record {record.number} (>{record.header[:60]})"


def _header(reading: Reading, record: Record) -> re.Match[str]:
    match = HEADER.fullmatch(record.header)
    if not match:
        expected = ">CHAIN|TYPE or >CHAIN|protein|MSA, the type protein, dna, rna, ccd or smiles"
        raise InputError("not a header of Boltz", where=_place(reading, record), found=repr(record.header[:60]), expected=expected)
    if match[3] is not None and match[2].lower() != "protein":
        raise InputError("alignment of a chain that is no protein", where=_place(reading, record), found=repr(match[3][:60]))
    return match


def _chain(reading: Reading, record: Record, match: re.Match[str], id: str) -> Chain:
    where, kind = _place(reading, record), match[2].lower()
    if kind == "ccd":
        return Chain(id, Kind.LIGAND, residues=(code_at(reading, record.sequence, where),))
    if kind == "smiles":
        return Chain(id, Kind.LIGAND, smiles=smiles_at(reading, record.sequence, where))
    letters = sequence_at(reading, Kind(kind), record.sequence, where, id, small=True)
    msa = None
    if match[3] == "empty":
        msa = Alignments()
    elif match[3]:
        given = reading.named_file(match[3], where)
        msa = Alignments(paired=(given,)) if is_table(given) else Alignments(unpaired=(given,))
    return Chain(id, Kind(kind), letters, msa=msa)


def write(job: Job) -> Written:
    """The job; alignments that were given as text become files beside it."""
    job, losses = hold(job, HOLDS)
    beside = Beside(job)
    lines = []
    for chain in job.chains:
        kind = chain.kind.value if chain.kind is not Kind.LIGAND else "smiles" if chain.smiles else "ccd"
        header = f">{chain.id}|{kind}"
        if chain.msa is not None:
            given = (*chain.msa.unpaired, *chain.msa.paired)
            header += "|" + (beside.name(given[0], f"msa_{chain.id}", ".csv" if is_table(given[0]) else ".a3m") if given else "empty")
        lines += [header, chain.sequence or chain.smiles or chain.residues[0]]
    return Written(("\n".join(lines) + "\n").encode(), losses, beside.files)
