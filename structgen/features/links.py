"""Bonds between residues: along polymers, around rings, and as a job names them; and the atoms that leave where a bond is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.anomers import anomer_notes
from structgen.features.components import Component
from structgen.features.job import AtomName, Job, Kind
from structgen.features.residues import Residues

ENDS = {Kind.PROTEIN: ("C", "N"), Kind.RNA: ("O3'", "P"), Kind.DNA: ("O3'", "P")}
"""Atoms of a residue and of the next one that a polymer of that kind joins."""

LEAVING = {"C": "OXT", "P": "OP3"}
"""Heavy atoms that leave a polymer's residue once the atom is bonded to its neighbour: those of every standard residue."""


@dataclass(frozen=True)
class Atoms:
    """Every heavy atom that the residues of a job have on their own, before any leaves: flat, in file order."""

    residue: np.ndarray  # [A] int64
    names: np.ndarray  # [A] <U6

    def find(self, residue: int, name: str) -> int | None:
        """Index of a residue's atom, or None."""
        start, stop = np.searchsorted(self.residue, [residue, residue + 1])
        found = np.flatnonzero(self.names[start:stop] == name)
        return int(start + found[0]) if len(found) else None


@dataclass(frozen=True)
class Links:
    """Bonds between residues as pairs of flat atom indices [B, 2], and the atoms that they make leave [A] bool.

    Bonds between two standard neighbours of a chain are no entries. Notes say which neighbours in a chain are not
    bonded, and which sugars do not go with their bonds.
    """

    pairs: np.ndarray
    leaves: np.ndarray
    notes: tuple[str, ...] = ()


def make_links(job: Job, residues: Residues, atoms: Atoms, *, ends_chain: bool) -> Links:
    """All bonds between residues and what they cost. Raises `InputError` for rings and bonds that cannot be."""
    leaves = _chain_ends(job, residues, atoms, ends_chain=ends_chain)
    polymer = _polymer_links(job, residues, atoms)
    rings = [_ring(c, job, residues, atoms) for c, chain in enumerate(job.chains) if chain.cyclic]
    leaves |= _leaving(polymer, residues, atoms)
    named = [pair for pair in _named(job, residues, atoms, leaves) if pair not in {*polymer, *rings}]
    leaves |= _leaving([*rings, *named], residues, atoms)
    pairs = np.array(sorted([*polymer, *rings, *named]), np.int64).reshape(-1, 2)
    gaps = _gaps(job, residues, {(int(i), int(j)) for i, j in atoms.residue[pairs]})
    own = [[(int(atoms.residue[a]), str(atoms.names[a])) for a in pair] for pair in named]
    return Links(pairs, leaves, (*gaps, *anomer_notes(job, residues, own)))


def _gaps(job: Job, residues: Residues, bonded: set[tuple[int, int]]) -> Iterator[str]:
    """Neighbours of a polymer, at least one of them modified, that nothing joins."""
    modified = residues.rows >= chemistry.GAP
    same = np.diff(residues.chain) == 0
    for r in np.flatnonzero(same & (modified[:-1] | modified[1:])).tolist():
        chain = job.chains[residues.chain[r]]
        if chain.kind is not Kind.LIGAND and (r, r + 1) not in bonded:
            number = r - int(np.searchsorted(residues.chain, residues.chain[r])) + 1
            end, start = ENDS[chain.kind]
            why = f"there is no {end} in the first or no {start} in the second; name the bond if there is one"
            yield f"chain {chain.id}: {residues.names[r]} {number} and {residues.names[r + 1]} {number + 1} are not bonded: {why}"


def _chain_ends(job: Job, residues: Residues, atoms: Atoms, *, ends_chain: bool) -> np.ndarray:
    """[A] bool: an OXT of a polymer anywhere but at its end, an OP3 anywhere but at its beginning."""
    edge = np.diff(residues.chain, prepend=-1, append=-1) != 0
    linear = np.array([not chain.cyclic and ends_chain for chain in job.chains])[residues.chain]
    polymer = np.array([chain.kind is not Kind.LIGAND for chain in job.chains])[residues.chain]
    first, last = edge[:-1] & linear, edge[1:] & linear
    inner = {"OXT": polymer & ~last, "OP3": polymer & ~first}
    leaves = np.zeros(len(atoms.names), bool)
    for name, where in inner.items():
        leaves |= (atoms.names == name) & where[atoms.residue]
    return leaves


def _polymer_links(job: Job, residues: Residues, atoms: Atoms) -> list[tuple[int, int]]:
    """Bonds of every modified residue to its neighbours in the chain, where both have the atoms for it."""
    found = []
    modified = residues.rows >= chemistry.GAP
    same = np.diff(residues.chain) == 0
    for r in np.flatnonzero(same & (modified[:-1] | modified[1:])).tolist():
        kind = job.chains[residues.chain[r]].kind
        if kind is not Kind.LIGAND:
            here, there = (atoms.find(r + i, name) for i, name in enumerate(ENDS[kind]))
            if here is not None and there is not None:
                found.append((here, there))
    return found


def _ring(c: int, job: Job, residues: Residues, atoms: Atoms) -> tuple[int, int]:
    chain, own = job.chains[c], np.flatnonzero(residues.chain == c).tolist()
    where = f"{job.source}: chain {chain.id}" if job.source else f"chain {chain.id}"
    if chain.kind is Kind.LIGAND or len(own) < 2:
        found = "a ligand" if chain.kind is Kind.LIGAND else f"{len(own)} residue"
        raise InputError("chain cannot be cyclic", where=where, found=found, expected="a polymer of at least two residues")
    end, start = ENDS[chain.kind]
    here, there = atoms.find(own[-1], end), atoms.find(own[0], start)
    if here is None or there is None:
        found = f"no {end} in {residues.names[own[-1]]}" if here is None else f"no {start} in {residues.names[own[0]]}"
        expected = f"{end} of the last, {start} of the first residue"
        raise InputError("chain cannot be closed to a ring", where=where, found=found, expected=expected)
    return min(here, there), max(here, there)


def _named(job: Job, residues: Residues, atoms: Atoms, gone: np.ndarray) -> list[tuple[int, int]]:
    """The job's own bonds."""
    found: list[tuple[int, int]] = []
    for number, bond in enumerate(job.bonds, 1):
        where = f"{job.source}: bond {number}" if job.source else f"bond {number}"
        ends = sorted(_atom(end, job, residues, atoms, gone, where) for end in (bond.first, bond.second))
        text = " and ".join(f"{end.chain} {end.residue} {end.atom}" for end in (bond.first, bond.second))
        if ends[0] == ends[1]:
            raise InputError("bond of an atom to itself", where=where, found=text, expected="two atoms")
        if (ends[0], ends[1]) in found:
            raise InputError("bond is given twice", where=where, found=text, remedy="leave one of them out")
        if atoms.residue[ends[0]] == atoms.residue[ends[1]]:
            raise InputError("bond inside one residue", where=where, found=text, expected="two residues: bonds inside are the component's")
        found.append((ends[0], ends[1]))
    return found


def _atom(end: AtomName, job: Job, residues: Residues, atoms: Atoms, gone: np.ndarray, where: str) -> int:
    ids = [chain.id for chain in job.chains]
    if end.chain not in ids:
        raise InputError("bond to an unknown chain", where=where, found=end.chain, expected=f"one of {', '.join(ids)}")
    own = np.flatnonzero(residues.chain == ids.index(end.chain))
    if not 1 <= end.residue <= len(own):
        found = f"chain {end.chain} residue {end.residue}"
        raise InputError("bond to an unknown residue", where=where, found=found, expected=f"a number from 1 to {len(own)}")
    residue = int(own[end.residue - 1])
    atom = atoms.find(residue, end.atom)
    if atom is None or gone[atom]:
        here = [str(atoms.names[a]) for a in np.flatnonzero((atoms.residue == residue) & ~gone)]
        found = f"{end.atom or 'no name'} in {residues.names[residue]}, chain {end.chain} residue {end.residue}"
        raise InputError("bond to an unknown atom", where=where, found=found, expected=f"one of {', '.join(here)}")
    return atom


def _leaving(pairs: Sequence[tuple[int, int]], residues: Residues, atoms: Atoms) -> np.ndarray:
    """[A] bool: for every bond of an atom one more of the groups that may leave it, those with heavy atoms first."""
    leaves = np.zeros(len(atoms.names), bool)
    bonded = {atom for pair in pairs for atom in pair}
    count: defaultdict[int, int] = defaultdict(int)
    for atom in (atom for pair in pairs for atom in pair):
        groups = [group for group in _groups(atom, residues, atoms) if not bonded & set(group)]
        if count[atom] < len(groups):
            leaves[groups[count[atom]]] = True
        count[atom] += 1
    return leaves


def _groups(atom: int, residues: Residues, atoms: Atoms) -> list[list[int]]:
    """Groups of heavy atoms that may leave an atom, as flat indices; a group of hydrogens alone is empty."""
    residue, name = int(atoms.residue[atom]), str(atoms.names[atom])
    row = int(residues.rows[residue])
    if row < chemistry.GAP:
        names = [[LEAVING[name]]] if name in LEAVING else []
    else:
        component: Component = residues.components[row - chemistry.GAP]
        groups = component.leaving_groups(component.index[name])
        names = [[str(component.atom_names[a]) for a in group] for group in groups]
    found = ([atoms.find(residue, name) for name in group] for group in names)
    return [[a for a in group if a is not None] for group in found]
