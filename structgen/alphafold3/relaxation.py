"""Small moves of the atoms after which bonds, angles, planes and stereocentres are those of chemistry and atoms do not overlap.

A network that was trained for minutes, or is sampled in few steps, puts atoms near their place and not at it. `relaxed` finds the nearest
coordinates that are a molecule: the minimum of restraints and of a pull towards the prediction. AlphaFold 2 did so with a force field
(Jumper et al. 2021, SI 1.8.6); here nothing is said of energies and no hydrogens are needed. What a molecule looks like comes from the
reference conformers, which are features already, so ligands and nucleic acids are relaxed as proteins are. In units of the width s of
each term,

    2 E(x) = sum over pairs   ((|x_i - x_j| - d) / s)^2              bonds, ends of angles, neighbouring CA atoms
           + sum over corners ((V(x) - V_ref) / s)^2                 V: volume that three neighbours span about an atom
           + sum over near    (min(|x_i - x_j| - c_ij, 0) / s)^2     more than three bonds apart; c_ij: least distance, without a clash
           + sum over atoms   (|x_i - prediction_i| / s)^2           narrow for the atom that a token is placed by, wide for all others.

V is zero about a planar atom, and has opposite signs about a stereocentre and its mirror image. A peptide bond is flat where its CA atoms
are 3.80 angstrom apart (trans). Scales linearly with the number of atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from structgen.alphafold3.restraints import Molecule
from structgen.features.batch import Batch
from structgen.typing import Float, Tensor

TRANS, CIS = 3.80, 2.94  # angstrom between CA atoms about a peptide bond
CIS_BELOW = 3.3  # angstrom: a bond before a proline that is predicted shorter than this stays cis,
TRUSTED = 3.6  # if the median of the sample is at least this: a chain that is too short as a whole says nothing of single bonds
LOOKS, STEPS = 4, 60  # how often the near atoms are looked for, and steps of L-BFGS in between


@dataclass(frozen=True)
class Widths:
    """What each term of E is measured in: angstrom, and cubic angstrom of volumes."""

    bond: float = 0.02
    angle: float = 0.03  # its ends, and neighbouring CA atoms
    volume: float = 0.2
    contact: float = 0.05
    centre: float = 0.2  # CA, C1', each atom of a ligand
    other: float = 5.0


def relaxed(atoms: Float[Tensor, "s l 3"], batch: Batch, widths: Widths = Widths()) -> Float[Tensor, "s l 3"]:
    """The samples of one job (b = 1), each moved to the nearest minimum of E; in the input's type, on its device.

    Runs on the processor in float64; a sample comes out the same whatever others are there. Atoms without a reference position keep
    nothing but their place and their contacts.
    """
    molecule = Molecule.of(batch)
    moved = [_minimum(one, molecule, widths) for one in atoms.double().cpu().numpy()]
    return torch.as_tensor(np.stack(moved)).to(atoms) if moved else atoms


def _minimum(start: np.ndarray, molecule: Molecule, widths: Widths) -> np.ndarray:
    x = start[molecule.present]
    prediction = x
    for _ in range(LOOKS):
        terms = Energy(molecule, prediction, molecule.near(x), widths)
        found = minimize(terms, x.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 12})
        x = found.x.reshape(-1, 3)
    out = start.copy()
    out[molecule.present] = x
    return out


class Energy:
    """E and its gradient at flat coordinates [3 n], as `scipy.optimize.minimize` asks for them with `jac=True`."""

    def __init__(self, molecule: Molecule, prediction: np.ndarray, near: tuple[np.ndarray, np.ndarray], widths: Widths) -> None:
        flat = np.where(_short(prediction[molecule.peptides]) & molecule.to_proline, CIS, TRANS)
        groups = [
            (molecule.bonds, molecule.bond_lengths, widths.bond),
            (molecule.angles, molecule.angle_lengths, widths.angle),
            (molecule.peptides, flat, widths.angle),
            (*near, widths.contact),
        ]
        self.prediction, self.corners, self.volumes, self.volume_width = prediction, molecule.corners, molecule.volumes, widths.volume
        self.place_widths = np.where(molecule.centre, widths.centre, widths.other)[:, None]
        pairs = np.concatenate([pairs for pairs, _, _ in groups])
        self.lengths = np.concatenate([lengths for _, lengths, _ in groups])
        self.widths = np.concatenate([np.full(len(pairs), width) for pairs, _, width in groups])
        self.contacts = slice(len(pairs) - len(near[0]), None)
        self.differences = _differences(pairs, len(prediction))
        self.back = self.differences.T.tocsr()
        self.legs = [_differences(molecule.corners[:, [0, k]], len(prediction)) for k in (1, 2, 3)]
        self.legs_back = [leg.T.tocsr() for leg in self.legs]

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = flat.reshape(-1, 3)
        pull = (x - self.prediction) / self.place_widths
        value, gradient = float(np.vdot(pull, pull)), pull / self.place_widths
        difference = self.differences @ x
        length = np.sqrt(_dots(difference, difference) + 1e-12)
        off = (length - self.lengths) / self.widths
        off[self.contacts] = np.minimum(off[self.contacts], 0)
        value += float(off @ off)
        gradient += self.back @ ((off / self.widths / length)[:, None] * difference)
        a, b, c = (leg @ x for leg in self.legs)
        across = _cross(b, c)
        off = (_dots(a, across) - self.volumes) / self.volume_width
        value += float(off @ off)
        off = (off / self.volume_width)[:, None]
        for back, slope in zip(self.legs_back, (across, _cross(c, a), _cross(a, b)), strict=True):
            gradient += back @ (off * slope)
        return value / 2, gradient.ravel()


def _short(peptides: np.ndarray) -> np.ndarray:
    """[k] which neighbouring CA atoms [k, 2, 3] are as near as about a cis bond, in a sample whose lengths can be trusted."""
    steps = np.linalg.norm(peptides[:, 1] - peptides[:, 0], axis=-1)
    return (steps < CIS_BELOW) & (len(steps) > 0 and float(np.median(steps)) >= TRUSTED)


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[k, 3], in a third of the time of `numpy.cross`, which looks at its axes first."""
    (a0, a1, a2), (b0, b1, b2) = a.T, b.T
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], 1)


def _differences(pairs: np.ndarray, atoms: int) -> csr_matrix:
    """The matrix [k, n] that makes x_j - x_i of the points [n, 3] for every pair (i, j)."""
    rows = np.repeat(np.arange(len(pairs)), 2)
    return csr_matrix((np.tile([-1.0, 1.0], len(pairs)), (rows, pairs.ravel())), (len(pairs), atoms))
