"""Local geometry of proteins: bond lengths, angles, handedness, clashes. Lengths in angstrom, angles in degrees."""

from __future__ import annotations

import numpy as np

from structgen.features.atoms import Structure
from structgen.metrics.neighbours import pairs_within

VAN_DER_WAALS = {"C": 1.70, "N": 1.55, "O": 1.52, "S": 1.80, "P": 1.80}  # Bondi 1964
OVERLAP = 0.4  # allowed between any two atoms (Word et al. 1999)
HYDROGEN_BOND = 0.4  # more between two of N, O and S
POLAR = ("N", "O", "S")


def atoms_named(structure: Structure, name: str) -> np.ndarray:
    """[R] index of the atom of that name in every residue, -1 where the residue has none."""
    index = np.full(len(structure.residue_names), -1)
    atoms = np.flatnonzero(structure.atom_names == name)
    index[structure.atom_residue[atoms]] = atoms
    return index


def consecutive(structure: Structure) -> np.ndarray:
    """[R - 1] bool: residue r and r + 1 are neighbours in one chain."""
    return (np.diff(structure.residue_chain) == 0) & (np.diff(structure.residue_numbers) == 1)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[n] distance of the points [n, 3] of two sets, row by row: CA to the next CA, C to the next N."""
    return np.linalg.norm(np.asarray(second, np.float64) - first, axis=-1)


def angles(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """[n] angle a-b-c in degrees, 0 to 180; points [n, 3]."""
    u, v = np.asarray(a, np.float64) - b, np.asarray(c, np.float64) - b
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1)))


def dihedrals(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """[n] torsion a-b-c-d in degrees, -180 to 180, IUPAC sign; omega is CA, C, N, CA of two neighbours. Points [n, 3]."""
    a, b, c, d = (np.asarray(each, np.float64) for each in (a, b, c, d))
    axis, before, after = c - b, np.cross(b - a, c - b), np.cross(c - b, d - c)
    sine = np.linalg.norm(axis, axis=-1) * ((b - a) * after).sum(-1)
    return np.degrees(np.arctan2(sine, (before * after).sum(-1)))


def chirality(n: np.ndarray, ca: np.ndarray, c: np.ndarray, cb: np.ndarray) -> np.ndarray:
    """[n] handedness at CA: +1 for L, -1 for D amino acids; points [n, 3]."""
    n, ca, c, cb = (np.asarray(each, np.float64) for each in (n, ca, c, cb))
    return np.sign((np.cross(n - ca, c - ca) * (cb - ca)).sum(-1))


def radius_of_gyration(positions: np.ndarray) -> float:
    """Root mean square distance of the points [n, 3] from their centre."""
    positions = np.asarray(positions, np.float64)
    return float(np.sqrt(((positions - positions.mean(0)) ** 2).sum(-1).mean()))


def clashes(structure: Structure, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of atoms whose van der Waals spheres overlap by more than 0.4 angstrom; two index arrays.

    0.8 angstrom is allowed between N, O and S, which share hydrogens; pairs inside a residue or in neighbouring residues
    of a chain or bonded ones, and sulphurs of two CYS, do not count. Heavy atoms only: not to be compared with scores made with hydrogens.
    """
    radius = np.array([VAN_DER_WAALS.get(str(element), 1.70) for element in structure.elements])
    polar = np.isin(structure.elements, POLAR)
    i, j = pairs_within(np.asarray(positions, np.float64), 2 * max(VAN_DER_WAALS.values()) - OVERLAP)
    allowed = OVERLAP + HYDROGEN_BOND * (polar[i] & polar[j])
    overlaps = distances(positions[i], positions[j]) < radius[i] + radius[j] - allowed
    far = overlaps & ~_bonded_surroundings(structure, i, j)
    return i[far], j[far]


def clashes_per_thousand(structure: Structure, positions: np.ndarray) -> float:
    """Clashing pairs (see `clashes`) for every 1,000 atoms."""
    return 1000 * len(clashes(structure, positions)[0]) / len(positions)


def _bonded_surroundings(structure: Structure, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """[pairs] bool: the atoms are bonded, or too near in the chain for their distance to be a clash."""
    first, second = structure.atom_residue[i], structure.atom_residue[j]
    near = np.abs(structure.residue_numbers[first] - structure.residue_numbers[second]) <= 1
    same_chain = structure.residue_chain[first] == structure.residue_chain[second]
    sulphur = (structure.atom_names == "SG") & (structure.residue_names[structure.atom_residue] == "CYS")
    pairs = np.sort(structure.atom_residue[structure.bonds], axis=1)
    size = len(structure.residue_names)
    bonded = np.isin(np.minimum(first, second) * size + np.maximum(first, second), pairs[:, 0] * size + pairs[:, 1])
    return (near & same_chain) | bonded | (sulphur[i] & sulphur[j])
