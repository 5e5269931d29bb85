"""What each format can hold, and a job reduced to that with everything lost named: the one place that decides it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import product
from string import ascii_uppercase
from typing import Literal, TypeVar

from structgen.features.job import Alignments, AtomName, Bond, Chain, Contact, Job, Kind, Pocket, chain_ids
from structgen.features.slug import safe_slug
from structgen.io.jobs.evidence_lost import held_alignments, held_templates
from structgen.io.jobs.links import shown
from structgen.io.jobs.written import Loss

UNKNOWN = {Kind.PROTEIN: "X", Kind.RNA: "N", Kind.DNA: "N"}  # the letter that says nothing


@dataclass(frozen=True)
class Holds:
    """A row of the table of formats. What is not said is not held."""

    title: str
    several_jobs: bool = False
    name: Literal["any", "line", "folder", "file"] = "any"  # any text; one line; what may be a folder's name; the file's name
    ids: Literal["any", "A-Z", "order"] = "any"
    kinds: tuple[Kind, ...] = tuple(Kind)
    seeds: bool = False
    modifications: bool = True
    letters_under: bool = True  # the letter that stands at a modified position
    codes: bool = True  # ligands by component code
    several_codes: bool = False
    smiles: bool = True
    files: bool = False  # ligands as files
    own_components: bool = False
    bonds: bool = False
    bonds_to_smiles: bool = True
    cyclic: bool = False
    alignments: tuple[str, ...] = ()  # of: unpaired, paired, tables (paired by a key column), none (no rows wanted), only-one, several
    rna_alignments: bool = False
    inline: bool = False  # alignments and structures as text; else as files beside the job
    templates: tuple[str, ...] = ()  # of: structure, pdb, indices, chain, force, hits, none
    contacts: tuple[str, ...] | None = None  # of: force, min, confidence, name, atoms, ligand-atoms
    pockets: tuple[str, ...] | None = None  # the same, and: single (one residue each), ligand (the binder is one), one (a job)
    affinity: bool = False
    description: bool = False


C = TypeVar("C", Contact, Pocket)
Step = Callable[[Job, Holds], tuple[Job, list[Loss]]]


def hold(job: Job, holds: Holds, glycans: AbstractSet[str] = frozenset()) -> tuple[Job, tuple[Loss, ...]]:
    """The job as far as a format holds it, and what is lost. `glycans`: ligands that it writes as trees, with their bonds."""
    job, losses = _molecules(job, holds, glycans)
    for step in (_bonds_step(glycans), _chains, _evidence, _constraints, _whole, _ids):
        job, more = step(job, holds)
        losses += more
    return job, tuple(losses)


def _molecules(job: Job, holds: Holds, glycans: AbstractSet[str]) -> tuple[Job, list[Loss]]:
    """Without the chains that cannot be said at all, and what hangs on them."""
    reasons = {chain.id: reason for chain in job.chains if (reason := _unsayable(chain, holds, glycans))}
    losses = [Loss(reason, f"chain {id} is left out") for id, reason in reasons.items()]

    def without(atoms: Sequence[AtomName]) -> bool:
        return all(atom.chain not in reasons for atom in atoms)

    losses += [Loss("bonds", _bond_text(bond)) for bond in job.bonds if not without((bond.first, bond.second))]
    losses += [Loss("contacts", _contact_text(c)) for c in job.contacts if not without((c.first, c.second))]
    losses += [Loss("pockets", f"of {p.binder}") for p in job.pockets if p.binder in reasons or not without(p.contacts)]
    kept = replace(
        job,
        chains=tuple(chain for chain in job.chains if chain.id not in reasons),
        bonds=tuple(bond for bond in job.bonds if without((bond.first, bond.second))),
        contacts=tuple(contact for contact in job.contacts if without((contact.first, contact.second))),
        pockets=tuple(pocket for pocket in job.pockets if pocket.binder not in reasons and without(pocket.contacts)),
        affinity="" if job.affinity in reasons else job.affinity,
    )
    return kept, losses


def _unsayable(chain: Chain, holds: Holds, glycans: AbstractSet[str]) -> str:
    """The item of the table for which a chain cannot be said; empty if it can."""
    if chain.kind not in holds.kinds:
        return chain.kind.value
    if chain.id in glycans or chain.kind is not Kind.LIGAND:
        return ""
    if chain.smiles:
        return "" if holds.smiles else "SMILES"
    if chain.file:
        return "" if holds.files else "ligand file"
    if len(chain.residues) > 1:
        return "" if holds.several_codes else "ligand of several codes"
    return "" if holds.codes else "ligand by code"


def _bonds_step(glycans: AbstractSet[str]) -> Step:
    def step(job: Job, holds: Holds) -> tuple[Job, list[Loss]]:
        smiles = {chain.id for chain in job.chains if chain.smiles}

        def held(bond: Bond) -> bool:
            ends = {bond.first.chain, bond.second.chain}
            return bool(ends & glycans) or (holds.bonds and (holds.bonds_to_smiles or not ends & smiles))

        losses = [Loss("bonds", _bond_text(bond)) for bond in job.bonds if not held(bond)]
        return replace(job, bonds=tuple(filter(held, job.bonds))), losses

    return step


def _chains(job: Job, holds: Holds) -> tuple[Job, list[Loss]]:
    """What is lost of the chains that stay."""
    losses: list[Loss] = []
    chains = []
    for chain in job.chains:
        changed = chain
        if chain.modifications and not holds.modifications:
            codes = ", ".join(f"{m.code} at {m.position}" for m in chain.modifications)
            losses.append(Loss("modified residues", f"chain {chain.id}: {codes}"))
            changed = replace(changed, modifications=())
        elif chain.modifications and not holds.letters_under:
            changed = _unlettered(changed)
            if changed.sequence != chain.sequence:
                losses.append(Loss("letters under modifications", f"chain {chain.id}"))
        if chain.cyclic and not holds.cyclic:
            losses.append(Loss("cyclic", f"chain {chain.id}"))
            changed = replace(changed, cyclic=False)
        if chain.description and not holds.description:
            losses.append(Loss("description", f"chain {chain.id}: {chain.description[:60]}"))
            changed = replace(changed, description="")
        chains.append(changed)
    return replace(job, chains=tuple(chains)), losses


def _unlettered(chain: Chain) -> Chain:
    letters = list(chain.sequence)
    for modification in chain.modifications:
        letters[modification.position - 1] = UNKNOWN[chain.kind]
    return replace(chain, sequence="".join(letters))


def _evidence(job: Job, holds: Holds) -> tuple[Job, list[Loss]]:
    losses: list[Loss] = []
    chains = []
    for chain in job.chains:
        rna = chain.kind is Kind.RNA and not holds.rna_alignments
        if chain.msa is not None and (rna or chain.kind in (Kind.DNA, Kind.LIGAND)):
            if chain.msa != Alignments():
                losses.append(Loss("RNA MSA" if rna else "MSA", f"chain {chain.id}"))
            elif rna:
                losses.append(Loss("no MSA", f"chain {chain.id}"))
            msa = None
        else:
            msa, lost = held_alignments(chain, holds.alignments)
            losses += lost
        templates, lost = held_templates(chain, holds.templates)
        losses += lost
        chains.append(replace(chain, msa=msa, templates=templates))
    return replace(job, chains=tuple(chains)), losses


def _constraints(job: Job, holds: Holds) -> tuple[Job, list[Loss]]:
    """Contacts, pockets and affinity."""
    losses: list[Loss] = []
    contacts: list[Contact] = []
    for contact in job.contacts:
        if holds.contacts is None:
            losses.append(Loss("contacts", _contact_text(contact)))
            continue
        kept = _held_details(contact, holds.contacts)
        kept = replace(kept, first=_held_atom(job, contact.first, holds.contacts), second=_held_atom(job, contact.second, holds.contacts))
        losses += [] if kept == contact else [Loss("contacts", f"{_contact_text(contact)}: {_difference(contact, kept)}")]
        contacts.append(kept)
    pockets: list[Pocket] = []
    for pocket in job.pockets:
        binder = next(chain for chain in job.chains if chain.id == pocket.binder)
        details = holds.pockets
        if details is None or ("ligand" in details and binder.kind is not Kind.LIGAND) or ("one" in details and pockets):
            losses.append(Loss("pockets", f"of {pocket.binder}"))
            continue
        kept_pocket = _held_details(pocket, details)
        kept_pocket = replace(kept_pocket, contacts=tuple(_held_atom(job, atom, details) for atom in pocket.contacts))
        losses += [] if kept_pocket == pocket else [Loss("pockets", f"of {pocket.binder}: {_difference(pocket, kept_pocket)}")]
        single = "single" in details
        pockets += [replace(kept_pocket, contacts=(atom,)) for atom in kept_pocket.contacts] if single else [kept_pocket]
    affinity = job.affinity if holds.affinity else ""
    losses += [Loss("affinity", f"of {job.affinity}")] if job.affinity and not affinity else []
    return replace(job, contacts=tuple(contacts), pockets=tuple(pockets), affinity=affinity), losses


def _held_details(constraint: C, details: Sequence[str]) -> C:
    """The constraint with defaults for what is not held."""
    return replace(
        constraint,
        force=constraint.force and "force" in details,
        min_distance=constraint.min_distance if "min" in details else 0.0,
        confidence=constraint.confidence if "confidence" in details else 1.0,
        name=constraint.name if "name" in details else "",
    )


def _held_atom(job: Job, atom: AtomName, details: Sequence[str]) -> AtomName:
    """The atom where it can be named, else its residue."""
    ligand = next(chain for chain in job.chains if chain.id == atom.chain).kind is Kind.LIGAND
    named = "atoms" in details or ("ligand-atoms" in details and ligand and atom.residue == 1)
    return atom if named else replace(atom, atom="")


def _difference(before: Contact | Pocket, after: Contact | Pocket) -> str:
    names = ("force", "min_distance", "confidence", "name")
    changed = [name for name in names if getattr(before, name) != getattr(after, name)]
    return ", ".join(changed) or "names of atoms"


def _whole(job: Job, holds: Holds) -> tuple[Job, list[Loss]]:
    """What is said of the job as a whole."""
    losses: list[Loss] = []
    if job.seeds and not holds.seeds:
        losses.append(Loss("seeds", ", ".join(map(str, job.seeds))))
    if job.components and not holds.own_components:
        losses.append(Loss("own components", f"{len(job.components)} file{'s' * (len(job.components) > 1)} or text of CIF"))
    name = _held_name(job.name, holds)
    if name != job.name:
        losses.append(Loss("name", f"{job.name!r} becomes {name!r}"))
    seeds, components = job.seeds if holds.seeds else (), job.components if holds.own_components else ()
    return replace(job, seeds=seeds, components=components, name=name), losses


def _held_name(name: str, holds: Holds) -> str:
    if holds.name == "file" or (holds.name == "folder" and not re.fullmatch(r"[^/\\.][^/\\]*", name)):
        return safe_slug(name)
    return " ".join("".join(c if c.isprintable() else " " for c in name).split()) if holds.name == "line" else name


def _ids(job: Job, holds: Holds) -> tuple[Job, list[Loss]]:
    own = [chain.id for chain in job.chains]
    if holds.ids == "any":
        return job, []
    new = dict(zip(own, chain_ids(len(own)), strict=True)) if holds.ids == "order" else _capitals(own)
    changed = [f"{old} is {id} there" for old, id in new.items() if old != id]
    return (renamed(job, new), [Loss("chain ids", ", ".join(changed))]) if changed else (job, [])


def _capitals(ids: Sequence[str]) -> dict[str, str]:
    """Each id itself where it is of capitals only, else the first free one."""
    kept = {id for id in ids if id.isascii() and id.isalpha() and id.isupper()}
    free = (id for n in (1, 2, 3) for id in map("".join, product(ascii_uppercase, repeat=n)) if id not in kept)
    return {id: id if id in kept else next(free) for id in ids}


def renamed(job: Job, ids: Mapping[str, str]) -> Job:
    """The job with other chain ids, everywhere."""

    def atom(name: AtomName) -> AtomName:
        return replace(name, chain=ids[name.chain])

    return replace(
        job,
        chains=tuple(replace(chain, id=ids[chain.id]) for chain in job.chains),
        bonds=tuple(Bond(atom(bond.first), atom(bond.second)) for bond in job.bonds),
        contacts=tuple(replace(c, first=atom(c.first), second=atom(c.second)) for c in job.contacts),
        pockets=tuple(replace(p, binder=ids[p.binder], contacts=tuple(map(atom, p.contacts))) for p in job.pockets),
        affinity=ids.get(job.affinity, ""),
    )


def _bond_text(bond: Bond) -> str:
    return f"{shown(bond.first)} to {shown(bond.second)}"


def _contact_text(contact: Contact) -> str:
    return f"{shown(contact.first)} to {shown(contact.second)}"
