"""One ligand as an SDF: predicted coordinates, bond orders and charges of the component, and whether the stereochemistry came out."""

from __future__ import annotations

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.components import Origin
from structgen.features.job import Kind
from structgen.io.printable import printable
from structgen.metrics.stereochemistry import chirality_checks, double_bond_checks
from structgen.prediction import Prediction

LARGEST = 999  # atoms or bonds that the format (V2000) counts
_AROMATIC = 4
_ORDERS = (0, 1, 2, 3, 3, _AROMATIC)  # a quadruple bond has no number


def sdf_chains(structure: Structure) -> list[int]:
    """Ligand chains that have bonds and fit."""
    atoms, bonds = (np.bincount(chain, minlength=len(structure.chain_ids)) for chain in (structure.atom_chain, _bond_chain(structure)))
    kinds = enumerate(structure.chain_kinds)
    return [c for c, kind in kinds if kind is Kind.LIGAND and bonds[c] and max(atoms[c], bonds[c]) <= LARGEST]


def write_sdf(structure: Structure, prediction: Prediction, chain: int, *, title: str) -> str:
    """The text for one ligand chain, heavy atoms only; coordinates to 0.0001 angstrom.

    The coordinates show the stereochemistry that was predicted; properties say which centres and double bonds of the input differ.
    """
    atoms = np.flatnonzero(structure.atom_chain == chain)
    local = np.full(len(structure.atom_names), -1)
    local[atoms] = np.arange(1, len(atoms) + 1)
    own = _bond_chain(structure) == chain
    bonds, orders = local[structure.bonds[own]], structure.bond_orders[own]
    lines = [printable(title).replace("\n", " ")[:80], "  structgen         3D", ""]
    lines.append(f"{len(atoms):3d}{len(bonds):3d}  0  0  1  0            999 V2000")
    for atom in atoms.tolist():
        x, y, z = prediction.positions[atom]
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {structure.elements[atom].capitalize():<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    lines += [f"{i:3d}{j:3d}{_ORDERS[order]:3d}  0" for (i, j), order in zip(bonds.tolist(), orders.tolist(), strict=True)]
    charged = [(int(local[atom]), int(structure.charges[atom])) for atom in atoms if structure.charges[atom]]
    for start in range(0, len(charged), 8):
        part = charged[start : start + 8]
        lines.append(f"M  CHG{len(part):3d}" + "".join(f"{atom:4d}{charge:4d}" for atom, charge in part))
    lines.append("M  END")
    for name, value in _properties(structure, prediction, chain, atoms).items():
        lines += [f">  <{name}>", printable(value), ""]
    return "\n".join([*lines, "$$$$", ""])


def _bond_chain(structure: Structure) -> np.ndarray:
    """[B] chain of a bond, the number of chains for one between two chains."""
    ends = structure.atom_chain[structure.bonds]
    return np.where(ends[:, 0] == ends[:, 1], ends[:, 0], len(structure.chain_ids))


def _properties(structure: Structure, prediction: Prediction, chain: int, atoms: np.ndarray) -> dict[str, str]:
    codes = structure.residue_names[structure.residue_chain == chain].tolist()
    first = structure.component_of[codes[0]]
    found = {"chain": structure.chain_ids[chain], "components": " ".join(codes)}
    found |= {"SMILES": first.name} if first.origin in (Origin.SMILES, Origin.FILE) else {}
    found |= {"mean_pLDDT": f"{prediction.atom_plddt[atoms].mean():.2f}", "seed": str(prediction.seed), "sample": str(prediction.sample)}
    checks = {
        "centres": chirality_checks(structure, prediction.positions),
        "double_bonds": double_bond_checks(structure, prediction.positions),
    }
    for name, check in checks.items():
        wrong = check.wrong[structure.atom_chain[check.wrong[:, 0]] == chain]
        middle = wrong[:, 0] if name == "centres" else wrong[:, 1]
        found[f"{name}_unlike_the_input"] = " ".join(_atom(structure, atom) for atom in middle.tolist()) or "none"
    return found


def _atom(structure: Structure, atom: int) -> str:
    return f"{structure.residue_numbers[structure.atom_residue[atom]]}.{structure.atom_names[atom]}"
