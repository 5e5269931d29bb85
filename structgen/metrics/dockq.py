"""DockQ: one number for an interface of two chains (Basu & Wallner 2016, eqs. 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.metrics.rmsd import deviation, rmsd, superpose

CONTACT, INTERFACE = 5.0, 10.0  # angstrom between heavy atoms: in contact; a residue of the interface
BACKBONE = 4  # the first atoms of a residue: N, CA, C, O


@dataclass(frozen=True)
class Interface:
    """How well an interface of the truth is found."""

    dockq: float
    fnat: float  # share of the true contacts between residues that are there
    irmsd: float  # angstrom, backbone of the true interface, superposed on itself
    lrmsd: float  # angstrom, backbone of the shorter chain once the longer one is superposed


def dockq(fnat: float, irmsd: float, lrmsd: float) -> float:
    """Equation 2: 1 for a perfect interface, 0.23 and more for an acceptable one."""
    return (fnat + 1 / (1 + (irmsd / 1.5) ** 2) + 1 / (1 + (lrmsd / 8.5) ** 2)) / 3


def score_interface(
    predicted: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray], known: tuple[np.ndarray, np.ndarray]
) -> Interface | None:
    """Of two chains, each [n, a, 3] with residue i of one on residue i of the other; `known` [n, a] are the atoms that both have.

    None where the true chains do not touch.
    """
    contacts = _near(true, known, CONTACT)
    if not contacts.any():
        return None
    near = _near(true, known, INTERFACE)
    sides: list[np.ndarray] = [np.asarray(near.any(axis)) for axis in (1, 0)]
    backbone = [mask[:, :BACKBONE] & side[:, None] for mask, side in zip(known, sides, strict=True)]
    mine, target = (np.concatenate([x[:, :BACKBONE][m] for x, m in zip(pair, backbone, strict=True)]) for pair in (predicted, true))
    order = np.argsort([-len(x) for x in true], kind="stable")  # the receptor is the longer chain
    receptor, ligand = ([x[k][:, :BACKBONE][known[k][:, :BACKBONE]] for x in (predicted, true)] for k in order)
    moved = superpose(receptor[0].astype(np.float64), receptor[1].astype(np.float64))(ligand[0].astype(np.float64))
    fnat = float((_near(predicted, known, CONTACT) & contacts).sum() / contacts.sum())
    inner, outer = rmsd(mine, target), deviation(moved, ligand[1])
    return Interface(dockq(fnat, inner, outer), fnat, inner, outer)


def _near(chains: tuple[np.ndarray, np.ndarray], known: tuple[np.ndarray, np.ndarray], radius: float) -> np.ndarray:
    """[n, m] bool: residues with any two atoms nearer than the radius."""
    (a, b), (own, other) = chains, known
    found = np.zeros((len(a), len(b)), bool)
    points, residue = b[other].astype(np.float64), np.nonzero(other)[0]
    for i in range(len(a)):
        mine = a[i][own[i]].astype(np.float64)
        if len(mine) and len(points):
            close = (np.linalg.norm(mine[:, None] - points, axis=-1) < radius).any(0)
            found[i, residue[close]] = True
    return found
