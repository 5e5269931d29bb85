"""The one type that holds a molecular structure's atoms, and how it is built from a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.components import Component
from structgen.features.job import Job, Kind
from structgen.features.links import Atoms, Links, make_links
from structgen.features.residues import Residues, read_residues, residue_letters


def _no_bonds() -> np.ndarray:
    return np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class Structure:
    """Heavy atoms of a job in file order: chains in input order, residues by number, atoms in the fixed order of SI 5.3.

    L atoms, R residues, C chains, B bonds. No coordinates: these belong to a `Prediction` or to a training example.
    """

    chain_ids: tuple[str, ...]  # [C] label and author id, one each
    chain_kinds: tuple[Kind, ...]  # [C]
    chain_sequences: tuple[str, ...]  # [C] one-letter codes as understood, empty for a ligand
    chain_entity: np.ndarray  # [C] int64, from 1: equal for equal sequences
    chain_copy: np.ndarray  # [C] int64, from 1: copy number of the chain inside its entity (SI's sym_id)
    residue_names: np.ndarray  # [R] <U8, component codes (ALA, UNK, SEP, ...)
    residue_numbers: np.ndarray  # [R] int64, from 1 in every chain
    residue_chain: np.ndarray  # [R] int64, index of the chain
    atom_names: np.ndarray  # [L] <U6
    elements: np.ndarray  # [L] <U2, upper case
    charges: np.ndarray  # [L] int64, formal charge
    atom_residue: np.ndarray  # [L] int64, index of the residue
    components: tuple[Component, ...] = ()  # of every residue that is not standard
    bonds: np.ndarray = field(default_factory=_no_bonds)  # [B, 2] int64 atoms: all but those inside and along standard residues
    bond_orders: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # [B] see components.ORDERS
    notes: tuple[str, ...] = ()  # how codes were read where more than one reading was possible

    @property
    def atom_chain(self) -> np.ndarray:
        """[L] index of the chain of every atom."""
        return self.residue_chain[self.atom_residue]

    @property
    def atomised(self) -> np.ndarray:
        """[R] bool: no standard residue of a polymer, so that every atom of it is a token (SI 2.6)."""
        ligand = np.array([kind is Kind.LIGAND for kind in self.chain_kinds], bool)
        return ligand[self.residue_chain] | ~np.isin(self.residue_names, _CODES[: chemistry.GAP])

    @property
    def residue_class(self) -> np.ndarray:
        """[R] class of the 32-letter alphabet: a modified residue has that of the one it derives from; ligands are UNK."""
        letters = {component.code: component.letter for component in self.components}
        kinds = [self.chain_kinds[c] for c in self.residue_chain]
        residues = zip(self.residue_names.tolist(), kinds, self.atomised.tolist(), strict=True)
        return np.array([_class(name, kind, letters) if new else _CLASS[name] for name, kind, new in residues], np.int64)

    @property
    def component_of(self) -> dict[str, Component]:
        """Components by code."""
        return {component.code: component for component in self.components}

    @property
    def links(self) -> np.ndarray:
        """[B] bool: the bond joins two residues."""
        ends = self.atom_residue[self.bonds]
        return ends[:, 0] != ends[:, 1]


_CODES = np.array(chemistry.CLASSES, "<U8")
_CLASS = {code: number for number, code in enumerate(chemistry.CLASSES)}
_UNKNOWN = {Kind.PROTEIN: "UNK", Kind.RNA: "N", Kind.DNA: "DN", Kind.LIGAND: "UNK"}


def _class(name: str, kind: Kind, letters: dict[str, str]) -> int:
    unknown = _CLASS[_UNKNOWN[kind]]
    letter = letters.get(name, "") if kind is not Kind.LIGAND else ""
    found = int(residue_letters(kind)[ord(letter)]) if letter else unknown
    return unknown if found == chemistry.ILLEGAL else found


def build_atoms(job: Job, *, first_residue: int = 1, ends_chain: bool = True) -> Structure:
    """The heavy atoms of a job, with all bonds that are not those of plain polymers. Residues of every chain count from `first_residue`.

    A chain's first nucleotide has OP3 and its last amino acid OXT if `ends_chain`; atoms leave where a bond is made. Letters outside
    the standard ones are UNK, built up to CB, or a nucleotide without a base. Raises `InputError` for letters, components, molecules,
    rings and bonds that cannot be built, naming the chain and what is there instead.
    """
    residues = read_residues(job)
    table = _Table.of(residues.components)
    size = table.sizes[residues.rows]
    every = Atoms(np.repeat(np.arange(len(size)), size), np.zeros(0, "<U6"))
    at = np.arange(len(every.residue)) + np.repeat(table.starts[residues.rows] - (np.cumsum(size) - size), size)
    every = Atoms(every.residue, table.names[at])
    links = make_links(job, residues, every, ends_chain=ends_chain)
    _check_ligands(job, residues, every, links)
    kept = ~links.leaves
    place = np.cumsum(kept) - 1
    bonds, orders = _bonds(residues, every, links)
    lengths = np.bincount(residues.chain, minlength=len(job.chains))
    entity, copy = _entities(job)
    return Structure(
        chain_ids=tuple(chain.id for chain in job.chains),
        chain_kinds=tuple(chain.kind for chain in job.chains),
        chain_sequences=tuple(chain.sequence for chain in job.chains),
        chain_entity=entity,
        chain_copy=copy,
        residue_names=residues.names,
        residue_numbers=np.arange(len(size)) - (np.cumsum(lengths) - lengths)[residues.chain] + first_residue,
        residue_chain=residues.chain,
        atom_names=every.names[kept],
        elements=table.elements[at][kept],
        charges=table.charges[at][kept],
        atom_residue=every.residue[kept],
        components=residues.components,
        bonds=place[bonds],
        bond_orders=orders,
        notes=residues.notes + links.notes,
    )


@dataclass(frozen=True)
class _Table:
    """Heavy atoms of every standard residue and of some components, one after the other; a row's atoms begin at its start."""

    starts: np.ndarray
    sizes: np.ndarray
    names: np.ndarray
    elements: np.ndarray
    charges: np.ndarray

    @classmethod
    def of(cls, components: Sequence[Component]) -> _Table:
        used = chemistry.ATOM_NAMES[: chemistry.GAP] != ""
        sizes = np.concatenate([used.sum(1), np.array([c.heavy.sum() for c in components], np.int64)])

        def joined(standard: np.ndarray, name: str) -> np.ndarray:
            return np.concatenate([standard[: chemistry.GAP][used], *(getattr(c, name)[c.heavy] for c in components)])

        return cls(
            starts=np.cumsum(sizes) - sizes,
            sizes=sizes,
            names=joined(chemistry.ATOM_NAMES.astype("<U6"), "atom_names"),
            elements=joined(chemistry.ELEMENTS, "elements"),
            charges=joined(chemistry.CHARGES, "charges"),
        )


def _bonds(residues: Residues, every: Atoms, links: Links) -> tuple[np.ndarray, np.ndarray]:
    """Flat atoms and orders of the bonds inside components, then of those between residues; none to an atom that left."""
    pairs, orders = [links.pairs], [np.ones(len(links.pairs), np.int64)]
    for r in np.flatnonzero(residues.rows >= chemistry.GAP).tolist():
        component = residues.components[residues.rows[r] - chemistry.GAP]
        heavy = component.heavy
        inside = heavy[component.bonds].all(1)
        own = (np.cumsum(heavy) - 1)[component.bonds[inside]] + np.searchsorted(every.residue, r)
        stays = ~links.leaves[own].any(1)
        pairs.append(own[stays])
        orders.append(component.orders[inside][stays])
    return np.concatenate(pairs), np.concatenate(orders)


def _check_ligands(job: Job, residues: Residues, every: Atoms, links: Links) -> None:
    """Every residue of a ligand of several hangs together with its first one, if need be by way of a polymer."""
    group = np.arange(len(residues.rows))
    polymer = np.array([chain.kind is not Kind.LIGAND for chain in job.chains])[residues.chain]
    first = np.searchsorted(residues.chain, residues.chain)
    group = np.where(polymer, first, group)
    for i, j in every.residue[links.pairs].tolist():
        group[group == group[j]] = group[i]
    apart = np.flatnonzero(group != group[first])
    if len(apart):
        chain = job.chains[residues.chain[apart[0]]]
        numbers = [f"{residues.names[r]} {r - first[r] + 1}" for r in apart if residues.chain[r] == residues.chain[apart[0]]]
        remedy = "name the bonds between its residues, or give one chain a residue"
        where = f"{job.source}: chain {chain.id}" if job.source else f"chain {chain.id}"
        found = f"{', '.join(numbers)} without a bond to the first residue"
        raise InputError("ligand of several residues is not held together", where=where, found=found, remedy=remedy)


def _entities(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Entity numbers by first appearance of a chain's content, and the copy number of every chain inside its entity."""
    seen: dict[tuple[Any, ...], int] = {}
    entity = np.array([seen.setdefault(chain.content, len(seen) + 1) for chain in job.chains], np.int64)
    copy = np.array([np.count_nonzero(entity[: i + 1] == e) for i, e in enumerate(entity)], np.int64)
    return entity, copy
