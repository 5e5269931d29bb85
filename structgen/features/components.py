"""What a chemical component is: a residue, a ligand or an ion on its own, with everything that a structure or a file needs of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from structgen.errors import InputError

ORDERS = ("", "SING", "DOUB", "TRIP", "QUAD", "AROM")
"""Names of bond orders in the dictionary by number; 5 is an aromatic bond without a Kekule form, as only users' components have it."""

HYDROGEN = ("H", "D")
METALS = frozenset(
    "LI NA K RB CS BE MG CA SR BA SC TI V CR MN FE CO NI CU ZN Y ZR NB MO TC RU RH PD AG CD LA HF TA W RE OS IR PT AU HG AL GA IN SN TL PB "
    "BI CE PR ND PM SM EU GD TB DY HO ER TM YB LU TH PA U NP PU AM CM".split()
)
_ORDER_NUMBERS = {name: number for number, name in enumerate(ORDERS)} | {"DELO": 5}


class Origin(StrEnum):
    """Where a component was found."""

    DICTIONARY = "dictionary"
    USER = "user"
    SMILES = "smiles"
    FILE = "file"


@dataclass(frozen=True, eq=False)
class Component:
    """A atoms, hydrogens among them, and B bonds. Coordinates in angstrom, NaN where there are none."""

    code: str
    name: str
    type: str  # capitals, as the dictionary says: L-PEPTIDE LINKING, RNA LINKING, NON-POLYMER, ...
    letter: str  # one letter of the standard residue it derives from; empty where there is none
    formula: str
    origin: Origin
    atom_names: np.ndarray  # [A] <U6, unique
    elements: np.ndarray  # [A] <U2, capitals
    charges: np.ndarray  # [A] int64, formal
    leaving: np.ndarray  # [A] bool: gone once the atom that it hangs on is bonded to another residue
    stereo: np.ndarray  # [A] <U1, R, S or N
    ideal: np.ndarray  # [A, 3] float32
    model: np.ndarray  # [A, 3] float32
    bonds: np.ndarray  # [B, 2] int64
    orders: np.ndarray  # [B] int64, see ORDERS
    aromatic: np.ndarray  # [B] bool
    bond_stereo: np.ndarray  # [B] <U1, E, Z or N

    @property
    def heavy(self) -> np.ndarray:
        """[A] bool: no hydrogen."""
        return ~np.isin(self.elements, HYDROGEN)

    @property
    def index(self) -> dict[str, int]:
        """Number of every atom by its name."""
        return {name: i for i, name in enumerate(self.atom_names.tolist())}

    def neighbours(self) -> list[list[int]]:
        """Bonded atoms of every atom."""
        found: list[list[int]] = [[] for _ in self.atom_names]
        for i, j in self.bonds.tolist():
            found[i].append(j)
            found[j].append(i)
        return found

    def leaving_groups(self, atom: int) -> list[list[int]]:
        """Groups of leaving atoms that hang on an atom which stays, by their order, those of hydrogens alone last."""
        neighbours = self.neighbours()
        groups = []
        for start in neighbours[atom] if not self.leaving[atom] else ():
            if self.leaving[start]:
                groups.append(_connected(neighbours, start, without=atom))
        heavy = self.heavy
        return sorted(groups, key=lambda group: (not heavy[group].any(), min(group)))


def _connected(neighbours: Sequence[Sequence[int]], start: int, *, without: int) -> list[int]:
    """The atoms that hang together with `start` once the bond to the atom `without` is cut."""
    seen, stack = {start}, [start]
    while stack:
        new = [n for n in neighbours[stack.pop()] if n != without and n not in seen]
        seen.update(new)
        stack += new
    return sorted(seen)


def assemble(
    identity: Mapping[str, str], origin: Origin, atoms: Mapping[str, np.ndarray], bonds: Mapping[str, Any], where: str
) -> Component:
    """A component of its parts: `identity` and the columns are named like the fields, bonds by atom names.

    Raises `InputError` for no atoms, a name twice, a bond to an unknown atom or of an unknown order.
    """
    names = [str(name) for name in atoms["atom_names"]]
    index = {name: i for i, name in enumerate(names)}
    if not names:
        remedy = "give the molecule as SMILES or as a component of your own"
        raise InputError(f"component {identity['code']} has no atoms", where=where, expected="a defined molecule", remedy=remedy)
    if len(index) < len(names):
        twice = next(name for i, name in enumerate(names) if index[name] != i)
        raise InputError(f"component {identity['code']} has two atoms '{twice}'", where=where, expected="one name an atom")
    pairs = list(zip(bonds["first"], bonds["second"], strict=True))
    if unknown := [name for pair in pairs for name in pair if name not in index]:
        raise InputError(f"component {identity['code']}: a bond to '{unknown[0]}'", where=where, expected=f"atoms {', '.join(names)}")
    counted = Counter(frozenset(pair) for pair in pairs)
    if repeated := [sorted(pair) for pair, times in counted.items() if times > 1 or len(pair) < 2]:
        found = " and ".join(repeated[0])
        raise InputError(f"component {identity['code']}: a bond is given twice or to itself", where=where, found=found)
    if strange := [str(order) for order in bonds["orders"] if str(order).upper() not in _ORDER_NUMBERS]:
        raise InputError(f"component {identity['code']}: bond order", where=where, found=strange[0], expected=", ".join(ORDERS[1:]))
    return Component(
        **identity,
        origin=origin,
        atom_names=np.array(names, "<U6"),
        elements=np.char.upper(np.asarray(atoms["elements"], "<U2")),
        charges=np.asarray(atoms["charges"], np.int64),
        leaving=np.asarray(atoms["leaving"], bool),
        stereo=np.asarray(atoms["stereo"], "<U1"),
        ideal=np.asarray(atoms["ideal"], np.float32),
        model=np.asarray(atoms["model"], np.float32),
        bonds=np.array([(index[i], index[j]) for i, j in pairs], np.int64).reshape(-1, 2),
        orders=np.array([_ORDER_NUMBERS[str(order).upper()] for order in bonds["orders"]], np.int64),
        aromatic=np.asarray(bonds["aromatic"], bool),
        bond_stereo=np.asarray(bonds["stereo"], "<U1"),
    )
