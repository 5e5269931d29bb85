"""Whether a predicted structure is the chemistry that was asked for: bond lengths, angles, handedness, double bonds, of every residue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from structgen.features import chemistry
from structgen.features.atoms import Structure
from structgen.features.components import METALS, Component
from structgen.features.conformers import atom_reference
from structgen.features.molecules import conformer
from structgen.metrics.geometry import angles, atoms_named, consecutive, dihedrals, distances

TOLERANCE = 0.25  # of a bond's length, or of an angle, in the reference conformer
Across = Mapping[tuple[tuple[str, ...], tuple[str, ...]], float]  # names in a residue and in the next one of its chain: what is known
POLYMER_BONDS: Across = {(("C",), ("N",)): 1.33, (("O3'",), ("P",)): 1.61}
"""Lengths in angstrom (Engh & Huber 1991; Gelbin et al. 1996, as below)."""
POLYMER_ANGLES: Across = {
    (("CA", "C"), ("N",)): 116.2,
    (("O", "C"), ("N",)): 123.0,
    (("C",), ("N", "CA")): 121.7,
    (("C3'", "O3'"), ("P",)): 119.7,
    (("O3'",), ("P", "O5'")): 104.0,
}
"""Degrees, as above."""
LONGEST = 2.0  # angstrom: atoms of a standard residue that are nearer in its ideal coordinates are bonded
COVALENT_RADII = {"H": 0.31, "B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "SI": 1.11, "P": 1.07, "S": 1.05, "CL": 1.02}
OTHER_RADIUS = 1.3  # angstrom: heavier elements, roughly (Cordero et al. 2008)
CENTRES = {
    "protein": [("CA", "N", "C", "CB")],
    "ILE": [("CB", "CA", "CG1", "CG2")],
    "THR": [("CB", "CA", "OG1", "CG2")],
    "nucleic": [
        ("C4'", "C5'", "O4'", "C3'"),
        ("C3'", "C4'", "O3'", "C2'"),
        ("C2'", "C1'", "O2'", "C3'"),
        ("C1'", "O4'", "C2'", "N9"),
        ("C1'", "O4'", "C2'", "N1"),
    ],
}
"""Stereocentres of the standard residues, each with three neighbours; atoms that a residue lacks drop a line."""


@dataclass(frozen=True)
class Checks:
    """What was looked at [n] and whether it is as it should be [n] bool."""

    atoms: np.ndarray  # [n, k] int64: two of a bond, three of an angle, a centre and three neighbours, four about a double bond
    right: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """[m, k] atoms of what is not as it should be."""
        return self.atoms[~self.right]


def bond_checks(structure: Structure, positions: np.ndarray) -> Checks:
    """Every covalent bond: within a quarter of its length in the reference conformer, or of what its two elements need."""
    reference = atom_reference(structure).astype(np.float64)
    inside = _inner_bonds(structure)
    wanted = distances(reference[inside[:, 0]], reference[inside[:, 1]])
    along, lengths = _along_polymers(structure, POLYMER_BONDS)
    metal = np.isin(structure.elements, list(METALS))
    between = structure.bonds[structure.links]
    between = between[~metal[between].any(1)]
    radii = np.array([COVALENT_RADII.get(str(element), OTHER_RADIUS) for element in structure.elements])
    bonds = np.concatenate([inside, along, between])
    wanted = np.concatenate([wanted, lengths, radii[between].sum(1)])
    known = wanted > 0  # two atoms without reference coordinates lie on one point
    bonds, wanted = bonds[known], wanted[known]
    found = distances(positions[bonds[:, 0]], positions[bonds[:, 1]])
    return Checks(bonds, np.abs(found - wanted) <= TOLERANCE * wanted)


def angle_checks(structure: Structure, positions: np.ndarray) -> Checks:
    """Every angle of two covalent bonds in a residue or along standard residues, none of a metal: within a quarter of the reference's."""
    reference = atom_reference(structure).astype(np.float64)
    inside = _bent(_inner_bonds(structure))
    inside = inside[~np.isin(structure.elements, list(METALS))[inside].any(1)]  # what else hangs on a metal decides
    wanted = angles(*(reference[inside[:, k]] for k in range(3)))
    along, between = _along_polymers(structure, POLYMER_ANGLES)
    rows, wanted = np.concatenate([inside, along]), np.concatenate([wanted, between])
    known = wanted > 0  # as for bonds
    rows, wanted = rows[known], wanted[known]
    found = angles(*(positions[rows[:, k]] for k in range(3)))
    return Checks(rows, np.abs(found - wanted) <= TOLERANCE * wanted)


def chirality_checks(structure: Structure, positions: np.ndarray) -> Checks:
    """Every stereocentre of standard residues, and every one that a component defines: the same hand as in the reference."""
    centres, hands = _of_standard(structure, "centres")
    own, wanted = _component_centres(structure)
    atoms = np.concatenate([centres, own])
    return Checks(atoms, _hands(positions[atoms]) == np.concatenate([hands, wanted]))


def double_bond_checks(structure: Structure, positions: np.ndarray) -> Checks:
    """Every double bond that a component defines as E or Z: on the same side as in the reference."""
    rows, wanted = [], []
    for start, component, index in _atomised(structure):
        reference = conformer(component)
        for b in np.flatnonzero(component.bond_stereo != "N"):
            i, j = component.bonds[b].tolist()
            sides = [[n for n in component.neighbours()[a] if n != other and n in index] for a, other in ((i, j), (j, i))]
            if i in index and j in index and all(sides):
                torsion = [sides[0][0], i, j, sides[1][0]]
                rows.append([index[a] + start for a in torsion])
                wanted.append(abs(float(dihedrals(*reference[torsion][:, None])[0])) < 90)
    atoms = np.array(rows, np.int64).reshape(-1, 4)
    return Checks(atoms, (np.abs(dihedrals(*positions[atoms].swapaxes(0, 1))) < 90) == np.array(wanted, bool))


def _hands(points: np.ndarray) -> np.ndarray:
    """[n] sign of the volume that the neighbours [n, 1:4] span about their centre [n, 0]."""
    points = np.asarray(points, np.float64)
    a, b, c = (points[:, k] - points[:, 0] for k in (1, 2, 3))
    return np.sign((np.cross(a, b) * c).sum(-1))


@cache
def _slots(kind: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Per class of the alphabet: slots of the bonds [n, 2], or of the centres [n, 4]; and lengths or hands [n]."""
    found = []
    for number, code in enumerate(chemistry.CLASSES):
        names, ideal = chemistry.ATOM_NAMES[number].tolist(), chemistry.IDEAL[number].astype(np.float64)
        used = np.flatnonzero(chemistry.ATOM_NAMES[number] != "")
        if kind == "bonds":
            apart = np.linalg.norm(ideal[used][:, None] - ideal[used], axis=-1)
            i, j = np.nonzero(np.triu(apart < LONGEST, 1))
            found.append((np.stack([used[i], used[j]], 1), apart[i, j]))
        else:
            lines = CENTRES["protein" if number <= chemistry.UNKNOWN else "nucleic"] + CENTRES.get(code, [])
            lines = [line for line in lines if all(name in names for name in line) and not (line[-1] == "N1" and "N9" in names)]
            slots = np.array([[names.index(name) for name in line] for line in lines], np.int64).reshape(-1, 4)
            found.append((slots, _hands(ideal[slots])))
    return tuple(found)


def _of_standard(structure: Structure, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and values of what `_slots` lists, in every standard residue that has all of the atoms."""
    classes = np.where(structure.atomised, chemistry.GAP, structure.residue_class)
    place = np.full((len(classes), chemistry.SLOTS), -1, np.int64)
    atom_class = structure.residue_class[structure.atom_residue]
    slot = (chemistry.ATOM_NAMES[atom_class] == structure.atom_names[:, None]).argmax(1)
    place[structure.atom_residue, slot] = np.arange(len(slot))
    atoms, values = [], []
    for number in np.unique(classes[classes < chemistry.GAP]).tolist():
        slots, wanted = _slots(kind)[number]
        each = place[classes == number][:, slots]
        atoms.append(each.reshape(-1, slots.shape[1]))
        values.append(np.broadcast_to(wanted, each.shape[:2]).ravel())
    width = 2 if kind == "bonds" else 4
    found = np.concatenate([np.zeros((0, width), np.int64), *atoms])
    there = (found >= 0).all(1)
    return found[there], np.concatenate([np.zeros(0), *values])[there]


def _along_polymers(structure: Structure, known: Across) -> tuple[np.ndarray, np.ndarray]:
    """Atoms [n, k] of what standard neighbours of a chain form, by names in the one and in the next residue, and the value known for it."""
    standard = ~structure.atomised
    neighbours = consecutive(structure) & standard[:-1] & standard[1:]
    rows, values = [np.zeros((0, sum(map(len, next(iter(known))))), np.int64)], [np.zeros(0)]
    for (here, there), value in known.items():
        atoms = np.stack([*(atoms_named(structure, n)[:-1] for n in here), *(atoms_named(structure, n)[1:] for n in there)], 1)
        rows.append(atoms[neighbours & (atoms >= 0).all(1)])
        values.append(np.full(len(rows[-1]), value))
    return np.concatenate(rows), np.concatenate(values)


def _inner_bonds(structure: Structure) -> np.ndarray:
    """[n, 2] bonds inside residues."""
    return np.concatenate([_of_standard(structure, "bonds")[0], structure.bonds[~structure.links]])


def _bent(bonds: np.ndarray) -> np.ndarray:
    """[n, 3] every two bonds that share an atom, which is in the middle."""
    ends = np.concatenate([bonds, bonds[:, ::-1]])
    ends = ends[np.lexsort(ends.T[::-1])]
    most = int(np.bincount(ends[:, 0]).max()) if len(ends) else 0
    rows = [np.zeros((0, 3), np.int64)]
    for step in range(1, most):
        first, second = ends[:-step], ends[step:]
        same = first[:, 0] == second[:, 0]
        rows.append(np.stack([first[:, 1], first[:, 0], second[:, 1]], 1)[same])
    return np.concatenate(rows)


def _atomised(structure: Structure) -> Iterator[tuple[int, Component, dict[int, int]]]:
    """First atom, component, and place in the residue of every component's atom that is there, of each residue that is not standard."""
    known = structure.component_of
    starts = np.searchsorted(structure.atom_residue, np.arange(len(structure.residue_names) + 1))
    for r in np.flatnonzero(structure.atomised).tolist():
        component = known.get(str(structure.residue_names[r]))
        if component:
            numbers = component.index
            names = structure.atom_names[starts[r] : starts[r + 1]].tolist()
            yield int(starts[r]), component, {numbers[name]: place for place, name in enumerate(names)}


def _has_twins(component: Component, centre: int, neighbours: list[list[int]]) -> bool:
    """Whether two ends of one element hang on the centre, as on phosphorus: only their protons tell them apart."""
    heavy = component.heavy
    ends = [str(component.elements[n]) for n in neighbours[centre] if heavy[n] and heavy[neighbours[n]].sum() == 1]
    return len(set(ends)) < len(ends)


def _component_centres(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Centres [n, 4] and hands [n] of components. Where one neighbour left for a bond to another residue, that bond takes its place."""
    partners: dict[int, list[int]] = {}
    for i, j in structure.bonds[structure.links].tolist():
        partners.setdefault(i, []).append(j)
        partners.setdefault(j, []).append(i)
    rows, hands = [], []
    for start, component, index in _atomised(structure):
        heavy, reference, neighbours = component.heavy, conformer(component), component.neighbours()
        for centre in np.flatnonzero(component.stereo != "N").tolist():
            around = [n for n in neighbours[centre] if heavy[n]][:3]
            gone = [n for n in around if n not in index]
            others = partners.get(index.get(centre, -1) + start, [])
            if _has_twins(component, centre, neighbours):
                continue
            if centre not in index or len(around) < 3 or len(gone) > 1 or (gone and len(others) != 1):
                continue
            rows.append([start + index[centre], *(start + index[n] if n in index else others[0] for n in around)])
            hands.append(_hands(reference[[centre, *around]][None])[0])
    return np.array(rows, np.int64).reshape(-1, 4), np.array(hands, np.float64)
