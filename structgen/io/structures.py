"""Structure files as templates and as a library of chains: mmCIF and PDB, read by gemmi."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import gemmi
import numpy as np

from structgen.errors import InputError
from structgen.features.job import Given
from structgen.features.templates import Backbone
from structgen.io.textfile import decode, read_text_bytes

_STARTS_AS_CIF = re.compile(r"(?:\s|#[^\n]*(?:\n|$))*data_", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_UNKNOWN = "X"


@dataclass(frozen=True)
class Polymer:
    """A polymer chain of the first model. `place` says where in `sequence` each of `residues` lies, from 0."""

    name: str  # the author's id, as viewers show it
    label: str  # the archive's own id (label_asym_id)
    is_protein: bool
    sequence: str  # one-letter codes, unresolved residues among them; X for what is no amino acid
    names: tuple[str, ...]  # component codes; empty for an unresolved residue of a file that does not state its sequence
    residues: tuple[gemmi.Residue, ...]
    place: tuple[int, ...]

    def backbone(self) -> Backbone:
        """Frames and pseudo-betas. Of alternate conformers a residue has the most occupied one, of equals the first by letter; of several
        residues at one place the one that the sequence states, else the first.
        """
        size = len(self.sequence)
        atoms, known = np.zeros((size, 4, 3), np.float32), np.zeros((size, 4), bool)
        for k, residue in self._resolved():
            for slot, name in enumerate(("N", "CA", "C", "CA" if self.sequence[k] == "G" else "CB")):
                position = _position(residue, name)
                if position is not None:
                    atoms[k, slot], known[k, slot] = position, True
        frame = np.all(known[:, :3], axis=1)
        return Backbone(self.sequence, np.where(frame[:, None, None], atoms[:, :3], 0), frame, atoms[:, 3], known[:, 3])

    def _resolved(self) -> Iterator[tuple[int, gemmi.Residue]]:
        chosen: dict[int, gemmi.Residue] = {}
        for k, residue in zip(self.place, self.residues, strict=True):
            if k not in chosen or (residue.name == self.names[k] != chosen[k].name):
                chosen[k] = residue
        yield from chosen.items()


@dataclass(frozen=True)
class Entry:
    """A structure file: its polymer chains in order, when it was released (ISO date, empty if unknown), and the sha256 of its text."""

    where: str
    structure: gemmi.Structure  # keeps alive what the polymers point to
    released: str
    sha256: str

    @cached_property
    def polymers(self) -> tuple[Polymer, ...]:
        return tuple(_polymers(self.structure, self.where))

    @property
    def proteins(self) -> tuple[Polymer, ...]:
        return tuple(polymer for polymer in self.polymers if polymer.is_protein)

    def find(self, name: str) -> Polymer | None:
        """The polymer of that author's id, else of that label id; Boltz numbers the chains of PDB files: its A1 is A here."""
        ids = {polymer.name: polymer for polymer in reversed(self.polymers)}
        labels = {polymer.label: polymer for polymer in reversed(self.polymers)}
        return ids.get(name) or labels.get(name) or ids.get(name.rstrip("0123456789"))


def read_given(given: Given, where: str = "") -> Entry:
    """A structure given as text or as a path. Raises `InputError` as `read_entry` does."""
    if given.path:
        return read_entry(read_text_bytes(Path(given.path)), where or given.path)
    return read_entry(given.text.encode(), where or "a template's text")


def read_entry(data: bytes, where: str) -> Entry:
    """mmCIF or PDB by content. Residues of a PDB file are numbered by aligning them to its SEQRES records, which count unresolved ones.

    Raises `InputError` for what is neither, or holds no atoms.
    """
    text = decode(data, where)
    try:
        structure, released = _from_cif(text) if _STARTS_AS_CIF.match(text) else (gemmi.read_pdb_string(text), "")
        structure.setup_entities()
        structure.assign_label_seq_id(False)
    except (ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise InputError("structure cannot be read", where=where, found=problem, expected="mmCIF or PDB") from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError("structure holds no atoms", where=where, expected="mmCIF or PDB with coordinates")
    return Entry(where, structure, released, hashlib.sha256(data).hexdigest())


def _from_cif(text: str) -> tuple[gemmi.Structure, str]:
    """The structure of the first block with atoms, and the earliest date of its revisions."""
    document = gemmi.cif.read_string(text)
    block = next((block for block in document if block.find_loop("_atom_site.id")), document[0])
    dates = [date for date in block.find_values("_pdbx_audit_revision_history.revision_date") if _DATE.fullmatch(date)]
    return gemmi.make_structure_from_block(block), min(dates, default="")


def _polymers(structure: gemmi.Structure, where: str) -> Iterator[Polymer]:
    for chain in structure[0]:
        span = chain.get_polymer()
        if not len(span):
            continue
        entity = structure.get_entity_of(span)
        stated = [gemmi.Entity.first_mon(item) for item in entity.full_sequence] if entity is not None else []
        kind = entity.polymer_type if entity is not None else gemmi.PolymerType.Unknown
        kind = span.check_polymer_type() if kind == gemmi.PolymerType.Unknown else kind
        residues = [residue for residue in span if residue.label_seq is not None or not stated]
        names, place = _numbered(residues, stated, f"{where}: chain {chain.name}")
        yield Polymer(
            name=chain.name,
            label=span.subchain_id(),
            is_protein=kind == gemmi.PolymerType.PeptideL,
            sequence="".join(map(_letter, names)),
            names=tuple(names),
            residues=tuple(residues),
            place=tuple(place),
        )


def _numbered(residues: list[gemmi.Residue], stated: list[str], where: str) -> tuple[list[str], list[int]]:
    """Component codes of the whole chain, and where in it each residue lies.

    Without a stated sequence the residues are numbered as the file does by label_seq_id, else one after the other.
    """
    place = [residue.label_seq - 1 for residue in residues if residue.label_seq is not None]
    if len(place) < len(residues):
        numbers: dict[str, int] = {}
        place = [numbers.setdefault(str(residue.seqid), len(numbers)) for residue in residues]
    names = stated or [""] * (max(place) + 1)
    if wrong := [k for k in place if not 0 <= k < len(names)]:
        expected = f"1 to {len(names)}, as the sequence has residues"
        raise InputError("residue lies outside its chain's sequence", where=where, found=f"label_seq_id {wrong[0] + 1}", expected=expected)
    if not stated:
        for k, residue in reversed(list(zip(place, residues, strict=True))):
            names[k] = residue.name
    return names, place


def _letter(name: str) -> str:
    """One-letter code in capitals: that of the parent for a modified residue (M for MSE), X for what is no amino acid."""
    found = gemmi.find_tabulated_residue(name)
    letter = found.one_letter_code.upper() if found.is_amino_acid() else _UNKNOWN
    return letter if "A" <= letter <= "Z" else _UNKNOWN


def _position(residue: gemmi.Residue, name: str) -> list[float] | None:
    """Where the atom is in the residue's chosen conformer; None where it is not, or has no numbers."""
    chosen = _conformer(residue)
    for atom in residue:
        if atom.name == name and atom.altloc in ("\0", chosen):
            position = atom.pos.tolist()
            return position if np.isfinite(position).all() else None
    return None


def _conformer(residue: gemmi.Residue) -> str:
    """Letter of the conformer of the highest mean occupancy, the first of equals; empty where there is one only."""
    shares: dict[str, list[float]] = {}
    for atom in residue:
        if atom.altloc != "\0":
            shares.setdefault(atom.altloc, []).append(atom.occ)
    return min(shares, key=lambda letter: (-float(np.mean(shares[letter])), letter)) if shares else ""
