"""The molecules of a deposited structure as a job would name them: polymers with their whole sequence, ligands by component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import gemmi
import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.dictionary import dictionary_component
from structgen.features.job import AtomName, Bond, Chain, Job, Kind, Modification
from structgen.features.residues import fits

AIDS = frozenset("SO4 GOL EDO PO4 ACT PEG DMS TRS PGE PG4 FMT EPE MPD MES CD IOD CL BR NO3 IPA TBU".split())
"""Crystallisation aids, which are no part of what an X-ray structure is about (after SI Table 9)."""

_KINDS = {gemmi.PolymerType.PeptideL: Kind.PROTEIN, gemmi.PolymerType.Rna: Kind.RNA, gemmi.PolymerType.Dna: Kind.DNA}
_UNKNOWN = {Kind.PROTEIN: ("UNK", "X"), Kind.RNA: ("N", "N"), Kind.DNA: ("DN", "N")}
_LETTERS = dict(zip(chemistry.CLASSES, "ARNDCQEGHILKMFPSTWYVXAGCUNAGCTN-", strict=True))
_NO_MOLECULE = {"HOH", "DOD", "UNL", "UNX", "DUM"}
_CENTRE = {Kind.PROTEIN: "CA"}
Position = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Molecule:
    """A polymer or a ligand of the assembly. Coordinates in angstrom; residues from 1."""

    name: str
    kind: Kind
    residues: tuple[str, ...]  # component codes, unresolved ones among them
    atoms: tuple[tuple[int, str, Position], ...]  # heavy ones: residue, name, where
    bonds: tuple[tuple[AtomName, AtomName], ...]  # between residues, but those along polymers

    @property
    def positions(self) -> np.ndarray:
        """[atoms, 3]"""
        return np.array([xyz for _, _, xyz in self.atoms]).reshape(-1, 3)

    @property
    def is_aid(self) -> bool:
        return self.kind is Kind.LIGAND and set(self.residues) <= AIDS

    @property
    def unknown(self) -> int:
        """Residues of which nobody knows what they are."""
        return self.residues.count(_UNKNOWN[self.kind][0])

    @property
    def resolved(self) -> int:
        """Residues with at least one atom."""
        return len({number for number, _, _ in self.atoms})

    @property
    def longest_step(self) -> float:
        """Between the CA atoms of neighbouring residues, 0 where there are none."""
        places = {number: np.array(xyz) for number, atom, xyz in self.atoms if atom == _CENTRE.get(self.kind)}
        return max((float(np.linalg.norm(places[n + 1] - places[n])) for n in places if n + 1 in places), default=0.0)

    @property
    def chain(self) -> Chain:
        """As a job has it. Residues that are not standard are modifications, and unknown where they are no residue of such a polymer."""
        if self.kind is Kind.LIGAND:
            return Chain(self.name, Kind.LIGAND, residues=self.residues)
        letters = [_LETTERS.get(code, "") if _is_standard(code, self.kind) else "" for code in self.residues]
        unknown = _UNKNOWN[self.kind][1]
        plain = Chain(self.name, self.kind, "".join(letter or unknown for letter in letters))
        new = [i for i, letter in enumerate(letters, 1) if not letter and _can_stand(self.residues[i - 1], plain, i)]
        return replace(plain, modifications=tuple(Modification(i, self.residues[i - 1]) for i in new))


def _is_standard(code: str, kind: Kind) -> bool:
    number = chemistry.CLASSES.index(code) if code in chemistry.CLASSES else chemistry.GAP
    return {Kind.PROTEIN: number <= 20, Kind.RNA: 21 <= number <= 25, Kind.DNA: 26 <= number <= 30}[kind]


def _can_stand(code: str, chain: Chain, position: int) -> bool:
    try:
        return fits(dictionary_component(code), chain, position)
    except InputError:
        return False


def job_of(found: Sequence[Molecule], name: str) -> Job:
    """All molecules as a job, with the bonds between those that are there."""
    names = {m.name for m in found}
    bonds = {pair for m in found for pair in m.bonds if {end.chain for end in pair} <= names}
    bonds = tuple(Bond(*pair) for pair in sorted(bonds))  # type: ignore[assignment]
    return Job(name=name, slug="deposit", chains=tuple(m.chain for m in found), source=name, bonds=bonds)  # type: ignore[arg-type]


def molecules(structure: gemmi.Structure) -> list[Molecule]:
    """Every polymer of a known kind and every ligand of the first model, polymers first."""
    found = list(_molecules(structure))
    bonds = _bonds(structure, found)
    named = [Molecule(m.name, m.kind, m.residues, m.atoms, tuple(b for b in bonds if b[0].chain == m.name)) for m, _ in found]
    return sorted(named, key=lambda m: m.kind is Kind.LIGAND)


_Place = dict[tuple[str, str, str], AtomName]


def _molecules(structure: gemmi.Structure) -> Iterator[tuple[Molecule, _Place]]:
    """Molecules, and which of their residues has which place in the file."""
    number = 0
    for chain in structure[0]:
        for span in chain.subchains():
            first = span[0]
            entity = structure.get_entity_of(span)
            polymer = first.entity_type == gemmi.EntityType.Polymer
            kind = _KINDS.get(entity.polymer_type if entity is not None and polymer else gemmi.PolymerType.Unknown)
            if first.name in _NO_MOLECULE or (polymer and kind is None) or first.entity_type == gemmi.EntityType.Water:
                continue
            number += 1
            stated = [gemmi.Entity.first_mon(item) for item in entity.full_sequence] if entity is not None and polymer else []
            yield _molecule(_id(number), kind or Kind.LIGAND, list(span), stated, chain.name)


def _id(number: int) -> str:
    """Short ids of the order in the file: an assembly's own may be longer than four characters."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[(number - 1) % 26] + (str((number - 1) // 26) if number > 26 else "")


def _molecule(name: str, kind: Kind, residues: list[gemmi.Residue], stated: list[str], chain: str) -> tuple[Molecule, _Place]:
    """`stated`: the whole sequence where the file says it."""
    codes, atoms, places = [_read_as(code) for code in stated], [], {}
    seen: set[int] = set()
    for residue in residues:
        number = residue.label_seq if stated else len(seen) + 1
        if number is None or number in seen or (stated and not 0 < number <= len(codes)):
            continue
        if stated and _read_as(residue.name) != codes[number - 1]:
            continue  # another residue at the same place: the sequence states one of them
        seen.add(number)
        codes = codes if stated else [*codes, _read_as(residue.name)]
        places[chain, str(residue.seqid), residue.name] = AtomName(name, number)
        atoms += [(number, atom, xyz) for atom, xyz in _atoms(residue)]
    return Molecule(name, kind, tuple(codes), tuple(atoms), ()), places


def _read_as(code: str) -> str:
    return {"MSE": "MET"}.get(code, code)


def _atoms(residue: gemmi.Residue) -> Iterator[tuple[str, Position]]:
    """Heavy atoms of the most occupied conformer; NH1 of arginine is the one nearer to CD (SI 2.1)."""
    chosen = _conformer(residue)
    found = dict[str, Position]()
    for atom in residue:
        if not atom.element.is_hydrogen and atom.altloc in ("\0", chosen) and np.isfinite(atom.pos.tolist()).all():
            found.setdefault("SD" if residue.name == "MSE" and atom.name == "SE" else atom.name, (atom.pos.x, atom.pos.y, atom.pos.z))
    if residue.name == "ARG" and {"CD", "NH1", "NH2"} <= found.keys():
        near = [np.linalg.norm(np.subtract(found[name], found["CD"])) for name in ("NH1", "NH2")]
        if near[1] < near[0]:
            found["NH1"], found["NH2"] = found["NH2"], found["NH1"]
    yield from found.items()


def _conformer(residue: gemmi.Residue) -> str:
    """Letter of the conformer of the highest mean occupancy, the first of equals."""
    shares: dict[str, list[float]] = {}
    for atom in residue:
        if atom.altloc != "\0":
            shares.setdefault(atom.altloc, []).append(atom.occ)
    return min(shares, key=lambda letter: (-float(np.mean(shares[letter])), letter)) if shares else ""


def _bonds(structure: gemmi.Structure, found: Sequence[tuple[Molecule, _Place]]) -> list[tuple[AtomName, AtomName]]:
    """Covalent bonds that the file names between residues, but disulfides, metal contacts and those along polymers."""
    places: _Place = {}
    for _, own in reversed(found):
        places |= own
    ligands = {m.name for m, _ in found if m.kind is Kind.LIGAND}
    bonds = []
    for link in structure.connections:
        ends = [_end(partner, places) for partner in (link.partner1, link.partner2)]
        first, second = ends
        if link.type == gemmi.ConnectionType.Covale and first and second and first != second and {first.chain, second.chain} & ligands:
            low, high = sorted((first, second))
            bonds.append((low, high))
    return bonds


def _end(partner: gemmi.AtomAddress, places: _Place) -> AtomName | None:
    at = places.get((partner.chain_name, str(partner.res_id.seqid), partner.res_id.name))
    return AtomName(at.chain, at.residue, partner.atom_name) if at else None
