"""Which component stands at every position of a job: letters, modifications, ligands, and the user's own definitions, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.components import Component
from structgen.features.dictionary import dictionary_component
from structgen.features.job import Chain, Job, Kind
from structgen.features.molecules import molecule_of_file, molecule_of_smiles
from structgen.features.own_components import own_components

CAPS = {"first": ("ACE", "FOR"), "last": ("NME", "NH2")}
"""Components outside the polymer types that a protein chain may begin or end with."""

_CODES = np.array(chemistry.CLASSES, "<U8")
_TABLES = {Kind.PROTEIN: chemistry.RESIDUE_OF_LETTER, Kind.RNA: chemistry.RNA_OF_LETTER, Kind.DNA: chemistry.DNA_OF_LETTER}
_OTHER_ACID = {Kind.RNA: ("T", Kind.DNA), Kind.DNA: ("U", Kind.RNA)}


def residue_letters(kind: Kind) -> np.ndarray:
    """[256] class of a letter as a residue of such a chain."""
    return _TABLES[kind]


@dataclass(frozen=True)
class Residues:
    """R residues. A row below 31 is a standard residue's class; row 31 + k is component k."""

    names: np.ndarray  # [R] <U8 codes
    rows: np.ndarray  # [R] int64
    chain: np.ndarray  # [R] int64
    components: tuple[Component, ...]
    notes: tuple[str, ...]


@dataclass
class _Reading:
    """What is gathered while the chains of a job are read."""

    own: Mapping[str, Component]
    where: str
    components: dict[str, Component] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def find(self, code: str, chain: Chain) -> Component:
        """The component of a code as users write it: blanks dropped, and capitals unless the user's own has small letters."""
        code = code.strip()
        code = code if code in self.own else code.upper()
        try:
            return self.own[code] if code in self.own else dictionary_component(code)
        except InputError as error:
            raise _at(error, f"{self.where}: chain {chain.id}" if self.where else f"chain {chain.id}") from error

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def row(self, component: Component) -> int:
        """Row of a component, new or not."""
        self.components.setdefault(component.code, component)
        return chemistry.GAP + list(self.components).index(component.code)


def _at(error: InputError, where: str) -> InputError:
    place = f"{where}: {error.where}" if error.where else where
    return InputError(error.message, where=place, found=error.found, expected=error.expected, remedy=error.remedy)


def read_residues(job: Job) -> Residues:
    """The residues of a job. Raises `InputError` for letters, codes, molecules or files that cannot be used, naming the chain."""
    own = own_components(job.components) if job.components else {}
    if standard := [code for code in own if code in chemistry.CLASSES]:
        found = f"a definition of {standard[0]}"
        raise InputError("standard residues cannot be redefined", where=job.source, found=found, remedy="give it another code")
    reading = _Reading(own, job.source)
    first: dict[object, str] = {}  # chain id of the first chain of every content
    names, rows = [], []
    for chain in job.chains:
        original = first.setdefault(chain.content, chain.id)
        codes, numbers = _ligand(chain, original, reading) if chain.kind is Kind.LIGAND else _polymer(chain, reading)
        names.append(codes)
        rows.append(numbers)
    lengths = [len(each) for each in rows]
    chain_of = np.repeat(np.arange(len(rows)), lengths)
    return Residues(np.concatenate(names), np.concatenate(rows), chain_of, tuple(reading.components.values()), tuple(reading.notes))


def _polymer(chain: Chain, reading: _Reading) -> tuple[np.ndarray, np.ndarray]:
    classes = chemistry.encode(chain.sequence, residue_letters(chain.kind))
    where = f"{reading.where}: chain {chain.id}" if reading.where else f"chain {chain.id}"
    modified = {m.position for m in chain.modifications}
    bad = [i for i in np.flatnonzero(classes == chemistry.ILLEGAL).tolist() if i + 1 not in modified]
    if bad or not len(classes):
        raise _wrong_letter(chain, bad, where)
    names, rows = _CODES[np.minimum(classes, chemistry.GAP)], np.minimum(classes, chemistry.GAP).astype(np.int64)
    for m in chain.modifications:
        if not 1 <= m.position <= len(rows):
            expected = f"a position from 1 to {len(rows)}"
            raise InputError(f"chain {chain.id} has no residue {m.position}", where=where, found=f"{m.code} there", expected=expected)
        names[m.position - 1], rows[m.position - 1] = _modified(chain, m.position, m.code, reading, where)
    return names, rows


def _wrong_letter(chain: Chain, bad: list[int], where: str) -> InputError:
    found = f"{chain.sequence[bad[0]]!r} at position {bad[0] + 1}" if bad else "no residues"
    other, kind = _OTHER_ACID.get(chain.kind, ("", Kind.PROTEIN))
    letters = f"letters of {chain.kind.value.upper()}" if chain.kind is not Kind.PROTEIN else "capitals A-Z"
    mistaken = bad and chain.sequence[bad[0]] == other
    remedy = f"is this {kind.value.upper()}? correct the letter or the type" if mistaken else "correct the sequence"
    article = "a protein" if chain.kind is Kind.PROTEIN else f"{'an' if chain.kind is Kind.RNA else 'a'} {chain.kind.value.upper()}"
    return InputError(f"chain is not {article} sequence", where=where, found=found, expected=letters, remedy=remedy)


def _modified(chain: Chain, position: int, code: str, reading: _Reading, where: str) -> tuple[str, int]:
    """Code and row of a modified position."""
    wanted = code.strip().upper()
    if wanted == "MSE" and "MSE" not in reading.own:
        reading.note(f"chain {chain.id}: MSE at {position} is built as MET")
        wanted = "MET"
    if wanted in chemistry.CLASSES[: chemistry.GAP]:
        return wanted, chemistry.CLASSES.index(wanted)
    component = reading.find(code, chain)
    if component.code != code:
        reading.note(f"chain {chain.id}: code {code!r} is read as {component.code}")
    if not fits(component, chain, position):
        found = f"{component.code} ({component.name.lower()}), of type {component.type.lower()}, at position {position}"
        expected = "a peptide residue" if chain.kind is Kind.PROTEIN else "a nucleotide"
        remedy = "give it as a ligand chain, bonded where it is bonded"
        raise InputError("modification is no residue of such a chain", where=where, found=found, expected=expected, remedy=remedy)
    letter = chain.sequence[position - 1]
    if component.letter and letter not in (component.letter, "X", "N" if chain.kind is not Kind.PROTEIN else "X"):
        reading.note(f"chain {chain.id}: {component.code} at {position} derives from {component.letter}, the sequence says {letter}")
    return component.code, reading.row(component)


def fits(component: Component, chain: Chain, position: int) -> bool:
    """Whether a component can stand at a position (from 1) of a polymer: a residue of its kind, or a cap at an end."""
    if chain.kind is not Kind.PROTEIN:
        return "DNA" in component.type or "RNA" in component.type
    ends = {"first": position == 1, "last": position == len(chain.sequence)}
    cap = any(ends[end] and component.code in CAPS[end] for end in CAPS)
    return cap or ("PEPTIDE" in component.type and not {"C", "N"}.isdisjoint(component.index))


def _ligand(chain: Chain, first: str, reading: _Reading) -> tuple[np.ndarray, np.ndarray]:
    where = f"{reading.where}: chain {chain.id}" if reading.where else f"chain {chain.id}"
    given = [bool(chain.residues), bool(chain.smiles), bool(chain.file)]
    if sum(given) != 1:
        found = "none of them" if not any(given) else "several of them"
        raise InputError("ligand is not defined once", where=where, found=found, expected="one of codes, SMILES and a file")
    if chain.residues:
        components = [_ligand_component(code, chain, reading) for code in chain.residues]
    else:
        code = f"LIG-{first}"
        while code in reading.own:
            code += "-"
        try:
            components = [molecule_of_smiles(chain.smiles, code) if chain.smiles else molecule_of_file(Path(chain.file), code)]
        except InputError as error:
            raise _at(error, where) from error
    return np.array([c.code for c in components], "<U8"), np.array([reading.row(c) for c in components], np.int64)


def _ligand_component(code: str, chain: Chain, reading: _Reading) -> Component:
    component = reading.find(code, chain)
    if component.code != code:
        reading.note(f"chain {chain.id}: code {code!r} is read as {component.code}")
    if not component.heavy.any():
        where = f"{reading.where}: chain {chain.id}" if reading.where else f"chain {chain.id}"
        raise InputError(f"{component.code} has no heavy atom", where=where, found=component.name.lower(), expected="a ligand or an ion")
    return component
