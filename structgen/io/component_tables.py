"""The mmCIF tables of chemistry: components with their atoms and bonds, and the bonds between residues."""

from __future__ import annotations

from itertools import count

import numpy as np

from structgen.features.atoms import Structure
from structgen.features.components import METALS, ORDERS, Component
from structgen.features.job import Kind
from structgen.features.molecules import conformer
from structgen.io.components import component_name, component_type, is_standard
from structgen.io.modelcif import Table


def component_tables(structure: Structure) -> list[Table]:
    """Every component in use; atoms and bonds of those that are not standard, hydrogens among them: readers draw bond orders from here."""
    return [_chem_comp(structure), *_atoms_and_bonds([c for _, c in sorted(structure.component_of.items())])]


def _chem_comp(structure: Structure) -> Table:
    kinds = [structure.chain_kinds[c] for c in structure.residue_chain]
    used = dict(sorted(zip(structure.residue_names.tolist(), kinds, strict=True), key=lambda pair: pair[0]))
    own = structure.component_of
    columns = {
        "id": list(used),
        "type": [component_type(code, kind, own.get(code)) for code, kind in used.items()],
        "mon_nstd_flag": ["." if kind is Kind.LIGAND else "y" if is_standard(code, kind) else "n" for code, kind in used.items()],
        "name": [component_name(code, own.get(code)) for code in used],
        "formula": [(own[code].formula or "?") if code in own else "?" for code in used],
    }
    return Table("_chem_comp", columns)


def _atoms_and_bonds(components: list[Component]) -> list[Table]:
    atoms = [
        {
            "comp_id": c.code,
            "atom_id": str(c.atom_names[i]),
            "type_symbol": str(c.elements[i]),
            "charge": str(c.charges[i]),
            "pdbx_stereo_config": str(c.stereo[i]),
            "pdbx_leaving_atom_flag": "Y" if c.leaving[i] else "N",
            **{f"pdbx_model_Cartn_{axis}_ideal": _coordinate(x) for axis, x in zip("xyz", conformer(c)[i], strict=True)},
            "pdbx_ordinal": str(i + 1),
        }
        for c in components
        for i in range(len(c.atom_names))
    ]
    bonds = [
        {
            "comp_id": c.code,
            "atom_id_1": str(c.atom_names[i]),
            "atom_id_2": str(c.atom_names[j]),
            "value_order": ORDERS[order].lower(),
            "pdbx_aromatic_flag": "Y" if aromatic else "N",
            "pdbx_stereo_config": str(stereo),
            "pdbx_ordinal": str(ordinal),
        }
        for c in components
        for ordinal, ((i, j), order, aromatic, stereo) in enumerate(zip(c.bonds, c.orders, c.aromatic, c.bond_stereo, strict=True), 1)
    ]
    return [Table.of_rows("_chem_comp_atom", atoms), Table.of_rows("_chem_comp_bond", bonds)]


def _coordinate(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "?"


def connection_tables(structure: Structure, positions: np.ndarray) -> list[Table]:
    """`_struct_conn`: every bond between residues but those of plain polymers, and its kinds."""
    numbers = {kind: count(1) for kind in ("covale", "disulf", "metalc")}
    rows = []
    for i, j in structure.bonds[structure.links].tolist():
        kind = connection_kind(structure, i, j)
        rows.append(
            {
                "id": f"{kind}{next(numbers[kind])}",
                "conn_type_id": kind,
                **_partner(structure, i, "ptnr1"),
                **_partner(structure, j, "ptnr2"),
                "pdbx_dist_value": f"{np.linalg.norm(positions[i].astype(np.float64) - positions[j]):.3f}",
                "pdbx_value_order": "?" if kind == "metalc" else "sing",
            }
        )
    kinds = sorted({row["conn_type_id"] for row in rows})
    return [Table.of_rows("_struct_conn", rows), Table("_struct_conn_type", {"id": kinds})]


def connection_kind(structure: Structure, i: int, j: int) -> str:
    """`disulf`, `metalc` or `covale`, by the elements of the two atoms."""
    elements = {str(structure.elements[i]), str(structure.elements[j])}
    return "disulf" if elements == {"S"} else "metalc" if elements & METALS else "covale"


def _partner(structure: Structure, atom: int, name: str) -> dict[str, str]:
    residue = structure.atom_residue[atom]
    chain = structure.residue_chain[residue]
    number, asym = str(structure.residue_numbers[residue]), structure.chain_ids[chain]
    return {
        f"{name}_label_asym_id": asym,
        f"{name}_label_comp_id": str(structure.residue_names[residue]),
        f"{name}_label_seq_id": "." if structure.chain_kinds[chain] is Kind.LIGAND else number,
        f"{name}_label_atom_id": str(structure.atom_names[atom]),
        f"{name}_auth_asym_id": asym,
        f"{name}_auth_comp_id": str(structure.residue_names[residue]),
        f"{name}_auth_seq_id": number,
        f"{name}_symmetry": "1_555",
    }
