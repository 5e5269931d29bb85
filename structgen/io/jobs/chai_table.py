"""Chai's table of restraints: covalent bonds, contacts and pockets, chains by letter in the order of the FASTA."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import AtomName, Bond, Chain, Contact, Job, Kind, Pocket
from structgen.io.jobs.colabfold_table import table_rows
from structgen.io.jobs.counted import spreadsheet_ids
from structgen.io.jobs.links import LONGEST_DISTANCE, length, shown
from structgen.io.jobs.reading import Reading, Source
from structgen.io.textfile import decode, read_text_bytes

COLUMNS = (
    "restraint_id",
    "chainA",
    "res_idxA",
    "chainB",
    "res_idxB",
    "max_distance_angstrom",
    "min_distance_angstrom",
    "connection_type",
    "confidence",
    "comment",
)
_REQUIRED = ("chainA", "res_idxA", "chainB", "res_idxB", "connection_type")
_PLACE = re.compile(r"(?:([A-Za-z])([0-9]{1,6}))?(?:@([^\s@,]{1,8}))?")
_NUMBERED = re.compile(r"restraint_[0-9]+")  # what is written for a restraint without a name
SUFFIXES = (".restraints", ".restraints.csv", ".csv")


@dataclass(frozen=True)
class Restraints:
    """What a table adds to a job."""

    bonds: tuple[Bond, ...] = ()
    contacts: tuple[Contact, ...] = ()
    pockets: tuple[Pocket, ...] = ()


def is_table(text: str) -> bool:
    """Whether a text is a table of restraints: its header says so."""
    first = text.partition("\n")[0]
    return "connection_type" in first and "chainA" in first


def is_table_file(path: Path) -> bool:
    """Whether a file is a table of restraints, by its name and its header."""
    if not path.name.endswith(SUFFIXES) or not path.is_file():
        return False
    with open(path, "rb") as file:
        return is_table(file.read(1000).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))


def find_table(source: Source) -> Path | None:
    """The table that belongs to a FASTA file: of the same name, beside it."""
    paths = (source.folder / f"{source.stem}{suffix}" for suffix in SUFFIXES)
    return next(filter(is_table_file, paths), None)


def read_table(reading: Reading, path: Path, chains: Sequence[Chain], known: Sequence[Bond]) -> Restraints:
    """Bonds (behind those that are known), contacts and pockets of a table."""
    reading.note(f"restraints from {path.name}")
    letters = spreadsheet_ids(())
    by_letter = {letters(): chain for chain in chains}
    bonds, contacts, pockets = list(known), list[Contact](), list[Pocket]()
    ids: dict[str, int] = {}
    for line, row in table_rows(decode(read_text_bytes(path), str(path)), str(path), COLUMNS, _REQUIRED):
        one = _Row(f"{path}: line {line}", row, by_letter)
        id = row.get("restraint_id", "").strip()
        if id and ids.setdefault(id, line) != line:
            found = f"{id!r} again, first in line {ids[id]}"
            raise InputError("restraint is given twice", where=one.where, found=found, expected="distinct restraint_id")
        id = "" if _NUMBERED.fullmatch(id) else id
        kind = row["connection_type"].strip().lower()
        if kind == "covalent":
            bonds.append(one.bond(bonds))
        elif kind == "contact":
            contacts.append(Contact(one.end("A"), one.end("B"), *one.distances(), confidence=one.confidence(), name=id))
        elif kind == "pocket":
            pockets.append(one.pocket(id))
        else:
            expected = "covalent, contact or pocket"
            raise InputError("connection_type is not known", where=one.where, found=repr(row["connection_type"][:40]), expected=expected)
    return Restraints(tuple(bonds), tuple(contacts), tuple(pockets))


@dataclass(frozen=True)
class _Row:
    where: str
    row: Mapping[str, str]
    chains: Mapping[str, Chain]

    def chain(self, side: str) -> Chain:
        letter = self.row[f"chain{side}"].strip()
        if letter not in self.chains:
            remedy = "chains are lettered in the order of the FASTA"
            raise InputError(
                "chain does not exist", where=self.where, found=repr(letter), expected=f"one of {', '.join(self.chains)}", remedy=remedy
            )
        return self.chains[letter]

    def end(self, side: str) -> AtomName:
        """A residue or atom; the letter must be that of the sequence."""
        chain, text = self.chain(side), self.row[f"res_idx{side}"].strip()
        place = _PLACE.fullmatch(text)
        if not place or (chain.kind is not Kind.LIGAND and not place[2]):
            expected = "a letter and a number, then perhaps @ATOM: N88@ND2; @ATOM alone for a ligand"
            raise InputError("not a residue", where=self.where, found=repr(text[:40]), expected=expected)
        residue = int(place[2] or 1)
        if not 1 <= residue <= length(chain):
            found = f"residue {residue} of chain {chain.id}"
            raise InputError("residue does not exist", where=self.where, found=found, expected=f"1 to {length(chain):,}")
        modified = any(m.position == residue for m in chain.modifications)
        if chain.sequence and place[1] and not modified and chain.sequence[residue - 1] != place[1].upper():
            found, expected = f"{place[1]} at {residue} of chain {chain.id}", chain.sequence[residue - 1]
            raise InputError("residue is another one", where=self.where, found=found, expected=expected, remedy="correct the number")
        return AtomName(chain.id, residue, place[3] or "")

    def bond(self, known: Sequence[Bond]) -> Bond:
        first, second = self.end("A"), self.end("B")
        if not first.atom or not second.atom or first == second:
            found = f"{shown(first)} and {shown(second)}"
            raise InputError("bond needs two named atoms", where=self.where, found=found, expected="res_idx such as N88@ND2")
        if any({bond.first, bond.second} == {first, second} for bond in known):
            found = f"{shown(first)} to {shown(second)}"
            raise InputError("bond is given twice", where=self.where, found=found, expected="each bond once")
        return Bond(first, second)

    def pocket(self, id: str) -> Pocket:
        if self.row["res_idxA"].strip():
            raise InputError("pocket names a residue of its binder", where=self.where, found=self.row["res_idxA"][:40], expected="nothing")
        end = self.end("B")
        if end.atom:
            raise InputError("pocket names an atom", where=self.where, found=end.atom, expected="a residue alone")
        return Pocket(self.chain("A").id, (end,), *self.distances(), confidence=self.confidence(), name=id)

    def distances(self) -> tuple[float, float]:
        farthest = self.number("max_distance_angstrom", None, LONGEST_DISTANCE)
        if farthest <= 0:
            expected = f"0 to {LONGEST_DISTANCE:g} angstrom"
            raise InputError("distance must be above 0", where=self.where, found=f"{farthest:g}", expected=expected)
        return farthest, self.number("min_distance_angstrom", 0.0, farthest)

    def confidence(self) -> float:
        return self.number("confidence", 1.0, 1.0)

    def number(self, column: str, default: float | None, highest: float) -> float:
        text = self.row.get(column, "").strip()
        if not text and default is not None:
            return default
        if not re.fullmatch(r"\d+\.?\d*([eE]-?\d+)?|\.\d+", text) or not 0 <= float(text) <= highest:
            found, expected = repr(text[:40]), f"a number from 0 to {highest:g}"
            raise InputError(f"{column} cannot be used", where=self.where, found=found, expected=expected)
        return float(text)


def write_table(job: Job) -> bytes:
    """The table of a job's bonds, contacts and pockets; empty where it has none."""
    letters = spreadsheet_ids(())
    by_id = {chain.id: (letters(), chain) for chain in job.chains}
    rows: list[dict[str, str]] = []

    def add(kind: str, first: Mapping[str, str], second: Mapping[str, str], name: str, limits: Mapping[str, float]) -> None:
        row = {"restraint_id": name, "connection_type": kind, **first, **second}
        rows.append(row | {column: f"{value:.15g}" for column, value in limits.items()})

    for bond in job.bonds:
        ends = (_written(by_id, bond.first, "A"), _written(by_id, bond.second, "B"))
        add("covalent", *ends, "", {"max_distance_angstrom": 0, "min_distance_angstrom": 0, "confidence": 1})
    constraints: list[Contact | Pocket] = [*job.contacts, *job.pockets]
    for constraint in constraints:
        limits = {"max_distance_angstrom": constraint.max_distance, "min_distance_angstrom": constraint.min_distance}
        limits["confidence"] = constraint.confidence
        if isinstance(constraint, Contact):
            ends = (_written(by_id, constraint.first, "A"), _written(by_id, constraint.second, "B"))
            add("contact", *ends, constraint.name, limits)
        else:
            binder = {"chainA": by_id[constraint.binder][0], "res_idxA": ""}
            add("pocket", binder, _written(by_id, constraint.contacts[0], "B"), constraint.name, limits)
    return _as_csv(rows) if rows else b""


def _as_csv(rows: Sequence[dict[str, str]]) -> bytes:
    """Rows under the header; a restraint without a name gets a free number."""
    taken = {row["restraint_id"] for row in rows}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    free = (f"restraint_{n}" for n in range(1, len(rows) + len(taken) + 1) if f"restraint_{n}" not in taken)
    used: set[str] = set()
    for row in rows:
        name = row["restraint_id"]
        name = name if name and name not in used else next(free)
        used.add(name)
        writer.writerow(row | {"restraint_id": name})
    return text.getvalue().encode()


def _written(by_id: Mapping[str, tuple[str, Chain]], atom: AtomName, side: str) -> dict[str, str]:
    letter, chain = by_id[atom.chain]
    residue = f"{chain.sequence[atom.residue - 1]}{atom.residue}" if chain.sequence else ""
    return {f"chain{side}": letter, f"res_idx{side}": residue + (f"@{atom.atom}" if atom.atom else "")}
