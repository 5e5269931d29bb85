"""Solvent-accessible area by rolling a probe (Shrake & Rupley 1973), and the share of disordered residues made of it (SI 5.9.3)."""

from __future__ import annotations

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.job import Kind
from structgen.metrics.neighbours import pairs_within

PROBE = 1.4  # angstrom, water
POINTS = 100  # on every sphere
DSSP_RADII = {"N": 1.65, "CA": 1.87, "C": 1.76, "O": 1.40}  # angstrom, by atom name (Kabsch & Sander 1983)
DSSP_SIDE_CHAIN = 1.80
# Largest area of a residue, square angstrom (Rost & Sander 1994); belongs to the radii above
LARGEST_AREA = {
    "ALA": 106, "ARG": 248, "ASN": 157, "ASP": 163, "CYS": 135, "GLN": 198, "GLU": 194, "GLY": 84, "HIS": 184, "ILE": 169,
    "LEU": 164, "LYS": 205, "MET": 188, "PHE": 197, "PRO": 136, "SER": 130, "THR": 142, "TRP": 227, "TYR": 222, "VAL": 142,
}  # fmt: skip
SMOOTHING_WINDOW = 25
DISORDERED_ABOVE = 0.581
CHUNK = 20_000  # pairs of atoms tested at once: bounds the memory


def accessible_area(positions: np.ndarray, radii: np.ndarray, *, points: int = POINTS, probe: float = PROBE) -> np.ndarray:
    """[L] area in square angstrom of every atom's sphere, grown by the probe, that lies in no other; `positions` [L, 3], `radii` [L]."""
    grown = np.asarray(radii, np.float64) + probe
    positions = np.asarray(positions, np.float64)
    sphere = spiral(points)
    buried = np.zeros((len(grown), points), bool)
    i, j = pairs_within(positions, 2 * grown.max(initial=0.0))
    atom, other = np.concatenate((i, j)), np.concatenate((j, i))
    order = np.argsort(atom, kind="stable")
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        _bury(buried, positions, grown, sphere, atom[chunk], other[chunk])
    return 4 * np.pi * grown**2 * (1 - buried.mean(-1))


def _bury(buried: np.ndarray, positions: np.ndarray, grown: np.ndarray, sphere: np.ndarray, atom: np.ndarray, other: np.ndarray) -> None:
    """Mark the points of sphere `atom` inside sphere `other`; `atom` is sorted.

    With d = x_atom - x_other, |d + R_atom u| < R_other is u . d < (R_other^2 - R_atom^2 - |d|^2) / (2 R_atom).
    """
    d = positions[atom] - positions[other]
    bound = (grown[other] ** 2 - grown[atom] ** 2 - (d**2).sum(-1)) / (2 * grown[atom])
    inside = d.astype(np.float32) @ sphere.T.astype(np.float32) < bound[:, None].astype(np.float32)
    first = np.flatnonzero(np.diff(atom, prepend=-1))
    buried[atom[first]] |= np.logical_or.reduceat(inside, first, axis=0)


def spiral(points: int) -> np.ndarray:
    """[points, 3] directions spread evenly over the unit sphere along a golden spiral."""
    y = (2 * np.arange(points) + 1) / points - 1
    angle = np.arange(points) * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - y**2)
    return np.stack((np.cos(angle) * ring, y, np.sin(angle) * ring), -1)


def relative_area(structure: Structure, positions: np.ndarray) -> np.ndarray:
    """[R] area of every protein residue in its chain alone over the largest area of its kind, at most 1; NaN outside proteins.

    Radii are DSSP's. A component without an entry is measured against the mean of the twenty.
    """
    area = np.zeros(len(structure.residue_names))
    protein = np.array([kind is Kind.PROTEIN for kind in structure.chain_kinds], bool)
    for chain in np.flatnonzero(protein):
        atoms = np.flatnonzero(structure.atom_chain == chain)
        radii = np.array([DSSP_RADII.get(str(name), DSSP_SIDE_CHAIN) for name in structure.atom_names[atoms]])
        area += np.bincount(structure.atom_residue[atoms], accessible_area(positions[atoms], radii), len(area))
    largest = np.array([LARGEST_AREA.get(str(name), np.mean(list(LARGEST_AREA.values()))) for name in structure.residue_names])
    return np.where(protein[structure.residue_chain], np.minimum(area / largest, 1.0), np.nan)


def fraction_disordered(structure: Structure, positions: np.ndarray) -> float:
    """Share of the protein residues whose relative area, averaged over 25 residues along the chain, exceeds 0.581; 0 without protein."""
    relative = relative_area(structure, positions)
    chains = [relative[structure.residue_chain == c] for c, kind in enumerate(structure.chain_kinds) if kind is Kind.PROTEIN]
    smooth = np.concatenate([np.zeros(0), *(_moving_mean(chain) for chain in chains if len(chain))])
    return float((smooth > DISORDERED_ABOVE).mean()) if len(smooth) else 0.0


def _moving_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the window centred on each value, the values reflected at both ends (as often as a short chain needs)."""
    padded = np.pad(values, SMOOTHING_WINDOW // 2, mode="reflect") if len(values) > 1 else np.repeat(values, SMOOTHING_WINDOW)
    return np.convolve(padded, np.full(SMOOTHING_WINDOW, 1 / SMOOTHING_WINDOW), mode="valid")
