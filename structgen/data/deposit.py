"""A deposited entry to a training entry: its first biological assembly, filtered, with every molecule built by the features' own code.

Filters are those of SI 2.5.4 (AF3_ALGORITHMS 5.9): waters, hydrogens, crystallisation aids, chains of unknown residues, chains that
clash or are broken, large assemblies cut down to the chains around one interface.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from structgen.data.entry import entry_of_tokens
from structgen.data.molecules import Molecule, job_of, molecules
from structgen.data.packing import Packed
from structgen.errors import InputError
from structgen.features.atoms import Structure, build_atoms
from structgen.features.job import Kind
from structgen.features.tokens import tokenise
from structgen.io.structures import Entry as File
from structgen.io.structures import read_entry
from structgen.io.textfile import read_text_bytes

CLASHING, CLASH_SHARE = 1.7, 0.3  # angstrom between heavy atoms of two chains; share of a chain's atoms that makes it a clash
LONGEST_STEP = 10.0  # angstrom between CA atoms of neighbouring residues
CONTACT = 5.0  # angstrom between heavy atoms of chains that form an interface


@dataclass(frozen=True)
class Filters:
    """What is taken of an archive. Lengths in angstrom, dates as YYYY-MM-DD, empty: any."""

    max_resolution: float = 9.0
    max_date: str = ""
    max_chains: int = 300  # polymers of the assembly
    chains: int = 20  # polymers that are kept of a larger assembly
    min_resolved: int = 4  # residues with coordinates, of a polymer
    max_unknown: float = 0.5  # share of a polymer's residues that are unknown
    max_tokens: int = 20_000


class Rejected(Exception):
    """An entry that the filters leave out, and why in a few words."""


def read_deposit(path: Path, name: str, filters: Filters) -> Packed:
    """The training entry of an mmCIF or PDB file. Raises `Rejected` for one that is left out, also where it cannot be read."""
    try:
        file = read_entry(read_text_bytes(path), name)
    except InputError as error:
        raise Rejected(f"cannot be read: {error.message}") from error
    about = _about(file, name, filters)
    found = _filtered(molecules(_assembly(file.structure)), _xray(file.structure), filters, name)
    structure, positions, resolved, notes = _built(found, name)
    tokens = tokenise(structure)
    if len(tokens.residue) > filters.max_tokens:
        raise Rejected("too many tokens")
    try:
        entry = entry_of_tokens(tokens, positions - positions[resolved].mean(0), resolved)
    except ValueError as error:
        raise Rejected("too wide") from error
    chains = [{"id": m.name, "code": " ".join(m.residues)} for m in found if m.name in structure.chain_ids]
    about |= {"chains": chains, "interfaces": _interfaces(structure, positions, resolved), "notes": notes}
    return Packed(about, entry)


def _about(file: File, name: str, filters: Filters) -> dict[str, Any]:
    """What the file says of itself, if the filters let it pass."""
    structure = file.structure
    resolution, method = round(float(structure.resolution), 3), structure.info["_exptl.method"] if "_exptl.method" in structure.info else ""
    if resolution > filters.max_resolution:
        raise Rejected("resolution")
    if filters.max_date and not (file.released and file.released <= filters.max_date):
        raise Rejected("released later, or at an unknown date")
    about = {"name": name.split(".")[0].replace("/", "_"), "file": name, "sha256": file.sha256, "released": file.released}
    return about | {"resolution": resolution, "method": method, "source": "wwPDB", "licence": "CC0"}


def _xray(structure: gemmi.Structure) -> bool:
    return "_exptl.method" in structure.info and "X-RAY" in structure.info["_exptl.method"].upper()


def _assembly(structure: gemmi.Structure) -> gemmi.Structure:
    """The first biological assembly of the first model; the model itself where none is described."""
    one = structure.clone()
    while len(one) > 1:
        del one[-1]
    if one.assemblies:
        one.transform_to_assembly(one.assemblies[0].name, gemmi.HowToNameCopiedChain.AddNumber)
    return one


def _filtered(found: Sequence[Molecule], xray: bool, filters: Filters, name: str) -> list[Molecule]:
    """The molecules that stay."""
    kept = [m for m in found if not (xray and m.is_aid) and (m.kind is Kind.LIGAND or _is_sound(m, filters))]
    if sum(m.kind is not Kind.LIGAND for m in kept) > filters.max_chains:
        raise Rejected("too many chains")
    kept = _without_clashes(kept) if kept else kept
    if not any(m.kind is not Kind.LIGAND for m in kept):
        raise Rejected("no polymer")
    return _nearest_chains(kept, filters.chains, name)


def _is_sound(molecule: Molecule, filters: Filters) -> bool:
    """A polymer of enough known and resolved residues, whose neighbours are near each other."""
    known = molecule.unknown <= filters.max_unknown * len(molecule.residues)
    return known and molecule.resolved >= filters.min_resolved and molecule.longest_step <= LONGEST_STEP


def _without_clashes(found: Sequence[Molecule]) -> list[Molecule]:
    """Of two molecules of which one has over 30 % of its atoms inside the other, that one goes; if both have, the smaller one."""
    kept, near = list(found), _near_shares(found)
    for i, j in sorted(near, key=lambda pair: -max(near[pair], near[pair[::-1]])):
        first, second = found[i], found[j]
        if i < j and max(near[i, j], near[j, i]) > CLASH_SHARE and first in kept and second in kept:
            order = (near[i, j], -len(first.positions), i) > (near[j, i], -len(second.positions), j)
            kept.remove(first if order else second)
    return kept


def _near_shares(found: Sequence[Molecule]) -> dict[tuple[int, int], float]:
    """Share of the atoms of the first that are nearer than 1.7 angstrom to one of the second, for pairs with any."""
    of = _owners(found)
    atom, other = near_pairs(np.concatenate([m.positions for m in found]), of, CLASHING)
    pairs, counts = np.unique(np.stack([of[atom], atom, of[other]], 1), axis=0), dict[tuple[int, int], int]()
    for i, _, j in pairs.tolist():
        counts[i, j] = counts.get((i, j), 0) + 1
    return {(i, j): count / len(found[i].positions) for (i, j), count in counts.items()}


def near_pairs(positions: np.ndarray, group: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs of atoms of different groups nearer than `radius` angstrom, found by sorting atoms into cells of that size."""
    cells = np.floor(positions / radius).astype(np.int64)
    cells -= cells.min(0, initial=0)
    size = cells.max(0, initial=0) + 3
    key = ((cells[:, 0] + 1) * size[1] + cells[:, 1] + 1) * size[2] + cells[:, 2] + 1
    order = np.argsort(key, kind="stable")
    ranked, found = key[order], []
    for shift in np.ndindex(3, 3, 3):
        step = ((shift[0] - 1) * size[1] + shift[1] - 1) * size[2] + shift[2] - 1
        low, high = (np.searchsorted(ranked, key + step, side=side) for side in ("left", "right"))
        count = high - low
        first = np.repeat(np.arange(len(key)), count)
        second = order[np.repeat(low - (np.cumsum(count) - count), count) + np.arange(count.sum())]
        inside = group[first] != group[second]
        first, second = first[inside], second[inside]
        near = ((positions[first] - positions[second]) ** 2).sum(1) < radius**2
        found.append(np.stack([first[near], second[near]]))
    return tuple(np.concatenate(found, 1))  # type: ignore[return-value]


def _nearest_chains(found: Sequence[Molecule], most: int, name: str) -> list[Molecule]:
    """Of more polymers than `most`, those nearest to a point of an interface, which the entry's name chooses, and the ligands at these."""
    polymers = [m for m in found if m.kind is not Kind.LIGAND]
    if len(polymers) <= most:
        return list(found)
    positions, of = np.concatenate([m.positions for m in polymers]), _owners(polymers)
    atoms = np.unique(near_pairs(positions, of, CONTACT)[0])
    atoms = atoms if len(atoms) else np.arange(len(positions))
    chosen = positions[atoms[int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(atoms)]]
    apart = [np.linalg.norm(m.positions - chosen, axis=1).min() for m in polymers]
    kept = [polymers[i] for i in sorted(np.argsort(apart, kind="stable")[:most].tolist())]
    ligands = [m for m in found if m.kind is Kind.LIGAND]
    touching = near_pairs(np.concatenate([m.positions for m in [*kept, *ligands]]), _owners([*kept, *ligands]), CONTACT)
    of = _owners([*kept, *ligands])
    near = set(of[touching[0][of[touching[1]] < len(kept)]].tolist())
    return kept + [m for i, m in enumerate(ligands, len(kept)) if i in near]


def _owners(found: Sequence[Molecule]) -> np.ndarray:
    """[atoms of all] number of the molecule of every atom."""
    return np.concatenate([np.full(len(m.positions), i) for i, m in enumerate(found)])


def _built(found: Sequence[Molecule], name: str) -> tuple[Structure, np.ndarray, np.ndarray, list[str]]:
    """The structure, its coordinates and which atoms have them. Molecules that cannot be built are left out, and noted."""
    notes, kept = [], list(found)
    while True:
        try:
            structure = build_atoms(job_of(kept, name))
            break
        except InputError as error:
            culprit = next((m for m in kept if m.kind is Kind.LIGAND and f"chain {m.name}" in str(error)), None)
            culprit = culprit or next((m for m in reversed(kept) if m.kind is Kind.LIGAND), None)
            if culprit is None:
                raise Rejected(f"cannot be built: {error.message}") from error
            notes.append(f"{culprit.name} ({' '.join(culprit.residues)}) left out: {error.message}")
            kept.remove(culprit)
    at = {(m.name, number, atom): xyz for m in kept for number, atom, xyz in m.atoms}
    ids = [structure.chain_ids[c] for c in structure.residue_chain[structure.atom_residue]]
    numbers = structure.residue_numbers[structure.atom_residue].tolist()
    rows = [at.get(key) for key in zip(ids, numbers, structure.atom_names.tolist(), strict=True)]
    resolved = np.array([row is not None for row in rows])
    if not resolved.any():
        raise Rejected("no atoms of known molecules")
    return structure, np.array([(0.0, 0.0, 0.0) if row is None else row for row in rows]), resolved, notes


def _interfaces(structure: Structure, positions: np.ndarray, resolved: np.ndarray) -> list[list[int]]:
    """Pairs of chains in contact."""
    of, at = structure.atom_chain[resolved], positions[resolved]
    first, second = near_pairs(at, of, CONTACT)
    pairs = np.unique(np.stack([of[first], of[second]], 1), axis=0)
    return [pair for pair in pairs.tolist() if pair[0] < pair[1]]
