"""What a backbone without a sequence can be asked: how much of it is helix and strand, and whether its bonds are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structgen.metrics.geometry import dihedrals, distances

BONDS = {"N-CA": 1.458, "CA-C": 1.525, "C-N": 1.329}  # angstrom (Engh & Huber 1991)
TOLERANCE = 0.1
SHORTEST = {"helix": 4, "strand": 3}  # residues in a row


@dataclass(frozen=True)
class BackboneScores:
    """Shares from 0 to 1."""

    helix: float
    strand: float
    bonds: float  # of N-CA, CA-C and C-N bonds within 0.1 angstrom of their length
    ca_ca: float  # of neighbouring CA atoms 3.6 to 4.0 angstrom apart
    omega: float  # of peptide bonds within 30 degrees of trans or cis
    phi_negative: float  # of residues with phi below 0: nearly all of a protein of L amino acids, few of its mirror image
    gyration: float  # radius in angstrom, over 2.2 n^0.38, what a globular protein has


def score_backbone(atoms: np.ndarray) -> BackboneScores:
    """Of N, CA, C (and more) of n residues in a row, [n, 3 or more, 3] in angstrom, n > 2."""
    n, ca, c = (np.asarray(atoms[:, k], np.float64) for k in range(3))
    phi = dihedrals(c[:-1], n[1:], ca[1:], c[1:])
    omega = np.abs(dihedrals(ca[:-1], c[:-1], n[1:], ca[1:]))
    kinds = secondary_structure(n, ca, c)
    steps = distances(ca[:-1], ca[1:])
    lengths = {"N-CA": distances(n, ca), "CA-C": distances(ca, c), "C-N": distances(c[:-1], n[1:])}
    right = np.concatenate([np.abs(found - BONDS[name]) < TOLERANCE for name, found in lengths.items()])
    spread = float(np.sqrt(((ca - ca.mean(0)) ** 2).sum(-1).mean()))
    return BackboneScores(
        helix=float((kinds == "helix").mean()),
        strand=float((kinds == "strand").mean()),
        bonds=float(right.mean()),
        ca_ca=float(((steps > 3.6) & (steps < 4.0)).mean()),
        omega=float(((omega > 150) | (omega < 30)).mean()),
        phi_negative=float((phi < 0).mean()),
        gyration=spread / (2.2 * len(ca) ** 0.38),
    )


def secondary_structure(n: np.ndarray, ca: np.ndarray, c: np.ndarray) -> np.ndarray:
    """[residues] "helix", "strand" or "" by phi and psi, in runs of at least four and three residues; hydrogen bonds are not asked."""
    phi = np.concatenate([[np.nan], dihedrals(c[:-1], n[1:], ca[1:], c[1:])])
    psi = np.concatenate([dihedrals(n[:-1], ca[:-1], c[:-1], n[1:]), [np.nan]])
    found = {
        "helix": (phi > -100) & (phi < -30) & (psi > -80) & (psi < -5),
        "strand": (phi > -180) & (phi < -40) & ((psi > 90) | (psi < -160)),
    }
    kinds = np.full(len(ca), "", "<U6")
    for name, mask in found.items():
        kinds[_runs(mask, SHORTEST[name])] = name
    return kinds


def _runs(mask: np.ndarray, shortest: int) -> np.ndarray:
    """The mask without runs that are too short."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    kept = np.zeros_like(mask)
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= shortest:
            kept[start:stop] = True
    return kept
