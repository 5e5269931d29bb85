"""Protenix's dictionary of components made of the one that biotite ships: its package comes without, and downloads it at first use.

The reference conformers are structgen's, so that frames and conformers of both sides can be compared number by number.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem

from structgen.features import chemistry
from structgen.features.dictionary import dictionary_component
from structgen.features.molecules import conformer

CATEGORIES = ("chem_comp", "chem_comp_atom", "chem_comp_bond")


def install(codes: Iterable[str], folder: Path) -> None:
    """Let Protenix's modules read these components and no others."""
    from protenix.data.core import ccd

    path = folder / "components.cif"
    codes = sorted({*codes, *chemistry.CLASSES[: chemistry.GAP], "MSE"})
    path.write_text("".join(_block(code) for code in codes))
    ccd.COMPONENTS_FILE = path
    ccd._ccd_rdkit_mols = {code: _molecule(code) for code in codes}


def _block(code: str) -> str:
    from biotite.structure.info.ccd import get_from_ccd
    from biotite.structure.io import pdbx

    block = pdbx.CIFBlock()
    for category in CATEGORIES:
        rows = get_from_ccd(category, code)
        if rows is not None:
            columns = {name: pdbx.CIFColumn(*_texts(rows[name])) for name in rows}
            block[category] = pdbx.CIFCategory(columns)
    file = pdbx.CIFFile()
    file[code] = block
    return file.serialize() + "\n"


def _texts(column: Any) -> tuple[Any, Any]:
    values = np.asarray(column.data.array)
    texts = np.array([f"{value:.3f}" if values.dtype.kind == "f" else str(value) for value in values])
    return texts, None if column.mask is None else column.mask.array


def _molecule(code: str) -> Chem.Mol:
    """The component as Protenix's cache holds it: conformer 0, names to atoms, which atoms have coordinates."""
    component = dictionary_component(code)
    standard = code in chemistry.CLASSES
    points = np.nan_to_num(component.ideal if standard else conformer(component)).astype(np.float64)
    molecule = Chem.RWMol()
    for element, charge in zip(component.elements.tolist(), component.charges.tolist(), strict=True):
        atom = Chem.Atom(element.capitalize())
        atom.SetFormalCharge(charge)
        molecule.AddAtom(atom)
    for i, j in component.bonds.tolist():
        molecule.AddBond(i, j, Chem.BondType.SINGLE)
    placed = Chem.Conformer(len(points))
    placed.SetPositions(points)
    molecule.AddConformer(placed, assignId=True)
    found = molecule.GetMol()
    found.atom_map = component.index
    found.ref_conf_id = 0
    found.ref_mask = np.ones(len(points), bool)
    return found
