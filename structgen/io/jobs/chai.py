"""Chai's FASTA, `>type|name`, all records of a file one job; its table of restraints lies beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from structgen.errors import InputError
from structgen.features.job import Bond, Chain, Job, Kind, Modification, chain_ids
from structgen.features.slug import safe_slug
from structgen.io.fasta import Record, parse_fasta
from structgen.io.jobs.chai_table import Restraints, find_table, read_table, write_table
from structgen.io.jobs.colabfold import printable
from structgen.io.jobs.glycan import SUGARS, bonds_in, chai_text, parse_chai, site_of, tree_of
from structgen.io.jobs.holds import UNKNOWN, Holds, hold
from structgen.io.jobs.links import whole_job
from structgen.io.jobs.molecules import code_at, sequence_at, smiles_at
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.written import Loss, Written

HOLDS = Holds(
    title="Chai FASTA",
    name="file",
    ids="order",
    letters_under=False,
    codes=False,
    bonds=True,
    contacts=("min", "confidence", "name", "atoms"),
    pockets=("min", "confidence", "name", "single"),
    description=True,
)
HEADER = re.compile(r"(protein|dna|rna|ligand|glycan)\|([^|]*)", re.IGNORECASE)
_MODIFIED = re.compile(r"\(([A-Za-z0-9-]{2,})\)|\[([A-Za-z0-9-]{2,})\]")


def read(source: Source) -> list[Job | InputError]:
    """The one job of a file, with the restraints of `<file>.restraints` (or .restraints.csv, .csv) beside it; its name is the file's."""
    reading = Reading(source)
    records, outside = parse_fasta(source.text, source.file)
    if outside:
        raise outside[0]
    chains: list[Chain] = []
    bonds: list[Bond] = []
    for record, id in zip(records, chain_ids(len(records)), strict=True):
        chain, inner = _chain(reading, record, id)
        chains.append(chain)
        bonds += inner
    table = find_table(source)
    restraints = read_table(reading, table, chains, bonds) if table else Restraints(tuple(bonds))
    return [whole_job(reading, source.stem, chains, bonds=restraints.bonds, contacts=restraints.contacts, pockets=restraints.pockets)]


def _chain(reading: Reading, record: Record, id: str) -> tuple[Chain, list[Bond]]:
    """A chain and, of a glycan, the bonds inside."""
    where = f"{reading.where}: record {record.number} (>{printable(record.header)[:60]})"
    header = HEADER.fullmatch(record.header)
    if not header:
        expected = ">type|name, the type protein, dna, rna, ligand or glycan"
        raise InputError("not a header of Chai", where=where, found=repr(record.header[:60]), expected=expected)
    kind, name = header[1].lower(), printable(header[2])
    description = "" if name == id else name
    if kind == "ligand":
        return Chain(id, Kind.LIGAND, smiles=smiles_at(reading, record.sequence, where), description=description), []
    if kind == "glycan":
        tree = parse_chai(record.sequence, where)
        return Chain(id, Kind.LIGAND, residues=tree.residues, description=description), bonds_in(tree, id)
    letters, changed = _modified(reading, record.sequence, where, UNKNOWN[Kind(kind)])
    letters = sequence_at(reading, Kind(kind), letters, where, id, small=True)
    return Chain(id, Kind(kind), letters, changed, description=description), []


def _modified(reading: Reading, text: str, where: str, unknown: str) -> tuple[str, tuple[Modification, ...]]:
    """Letters with the unknown one for every modified residue, and these."""
    letters, changed, end = "", [], 0
    for match in _MODIFIED.finditer(text):
        letters += text[end : match.start()]
        changed.append(Modification(len(letters) + 1, code_at(reading, match[1] or match[2], where)))
        letters, end = letters + unknown, match.end()
    letters += text[end:]
    if wrong := re.search(r"[()\[\]]", letters):
        found = f"{wrong[0]!r} behind {letters[max(0, wrong.start() - 10) : wrong.start()]!r}"
        raise InputError("not a modified residue", where=where, found=found, expected="a code such as (SEP)")
    return letters, tuple(changed)


def write(job: Job) -> Written:
    """The job; bonds between chains, contacts and pockets become a table of restraints beside it."""
    job, more = _without_deep_ends(job)
    glycans = {chain.id for chain in job.chains if _as_glycan(chain, job) is not None}
    held, losses = hold(job, HOLDS, frozenset(glycans))
    trees = {chain.id for chain in held.chains if chain.residues}  # no other ligand of codes is held
    lines: list[str] = []
    for chain in held.chains:
        kind = chain.kind.value if chain.kind is not Kind.LIGAND else "glycan" if chain.id in trees else "ligand"
        name = printable(chain.description.replace("|", "/")) or chain.id
        if chain.description and name != chain.description:
            more.append(Loss("description", f"chain {chain.id}: written as {name!r}"))
        lines += [f">{kind}|{name}", _record(chain, held)]
    inner = {bond for bond in held.bonds if bond.first.chain == bond.second.chain and bond.first.chain in trees}
    table = write_table(replace(held, bonds=tuple(bond for bond in held.bonds if bond not in inner)))
    beside = {f"{job.slug or safe_slug(job.name)}.restraints": table} if table else {}
    return Written(("\n".join(lines) + "\n").encode(), (*losses, *more), beside)


def _record(chain: Chain, job: Job) -> str:
    if chain.kind is Kind.LIGAND:
        return chain.smiles or _as_glycan(chain, job) or ""
    letters = list(chain.sequence)
    for modification in chain.modifications:
        letters[modification.position - 1] = f"({modification.code})"
    return "".join(letters)


def _as_glycan(chain: Chain, job: Job) -> str | None:
    """The text of a ligand that is a tree of sugars, joined to others by its root alone; None for every other chain."""
    if not chain.residues or not set(chain.residues) <= SUGARS:
        return None
    outer = [bond for bond in job.bonds if (bond.first.chain == chain.id) != (bond.second.chain == chain.id)]
    site = site_of(chain, job.bonds)
    if outer and (site is None or site[1].residue != 1):
        return None
    tree = tree_of(chain.residues, chain.id, job.bonds)
    return chai_text(tree) if tree else None


def _without_deep_ends(job: Job) -> tuple[Job, list[Loss]]:
    """Without the constraints that speak of a ligand's second or later residue: the table has no place for its number."""
    kinds: Mapping[str, Kind] = {chain.id: chain.kind for chain in job.chains}
    contacts = [c for c in job.contacts if not any(kinds[a.chain] is Kind.LIGAND and a.residue > 1 for a in (c.first, c.second))]
    pockets = [p for p in job.pockets if not any(kinds[a.chain] is Kind.LIGAND for a in p.contacts)]
    losses = [Loss("contacts", "of a residue inside a ligand") for c in job.contacts if c not in contacts]
    losses += [Loss("pockets", f"of {p.binder}: a residue of a ligand") for p in job.pockets if p not in pockets]
    return replace(job, contacts=tuple(contacts), pockets=tuple(pockets)), losses
