"""mmCIF with the categories of ModelCIF: the native file of a prediction. It holds every structure, whatever its size.

Readers in use rely on more than the standard asks for: one atom a line, ids from 1 without a gap, author ids equal to label ids, names
with a prime in double quotes, `.` as label_seq_id outside polymers, the columns of `_atom_site` in the order below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gemmi
import numpy as np

from structgen.errors import NumericalError
from structgen.features.atoms import Structure
from structgen.features.job import Kind
from structgen.io.component_tables import component_tables, connection_tables
from structgen.io.components import canonical_letter, derived_letters, is_standard, written_letter
from structgen.io.modelcif import Table, modelcif_tables
from structgen.io.printable import printable
from structgen.io.provenance import Provenance
from structgen.prediction import Prediction

POLYMER_TYPES = {Kind.PROTEIN: "polypeptide(L)", Kind.RNA: "polyribonucleotide", Kind.DNA: "polydeoxyribonucleotide"}
HYBRID = "polydeoxyribonucleotide/polyribonucleotide hybrid"
SEQUENCE_WIDTH = 80
DICTIONARY = "https://raw.githubusercontent.com/ihmwg/ModelCIF/master/dist/mmcif_ma.dic"


def write_mmcif(structure: Structure, prediction: Prediction, provenance: Provenance, *, entry: str = "structgen") -> str:
    """The text of the file: coordinates to 0.001 angstrom, B = pLDDT of the atom, 0-100, to 0.01. `entry` names the data block.

    Raises `NumericalError` for coordinates or pLDDT that are not finite.
    """
    if not (np.isfinite(prediction.positions).all() and np.isfinite(prediction.atom_plddt).all()):
        raise NumericalError(f"{entry}: coordinates or pLDDT of seed {prediction.seed}, sample {prediction.sample} are not finite")
    document = gemmi.cif.Document()
    block = document.add_new_block(entry)
    for table in (
        *_heading(entry),
        *modelcif_tables(structure, prediction, provenance),
        *_entities(structure),
        _poly_seq_scheme(structure),
        *_nonpoly_schemes(structure),
        _struct_asym(structure),
        *connection_tables(structure, prediction.positions),
        *component_tables(structure),
        Table("_atom_type", {"symbol": np.unique(structure.elements).tolist()}),
    ):
        _add(block, table)
    _add(block, _atom_site(structure, prediction), always_loop=True)
    style = gemmi.cif.WriteOptions()
    style.align_pairs, style.align_loops = 48, 24
    return document.as_string(style)


def _add(block: gemmi.cif.Block, table: Table, *, always_loop: bool = False) -> None:
    """One row becomes pairs, several a loop; a table without rows is left out."""
    columns = {name: [_quoted(value) for value in column] for name, column in table.columns.items()}
    rows = len(next(iter(columns.values()), ()))
    if rows > 1 or (rows and always_loop):
        block.init_loop(f"{table.category}.", list(columns)).set_all_values(list(columns.values()))
    elif rows:
        block.set_pairs(f"{table.category}.", {name: column[0] for name, column in columns.items()}, raw=True)


def _quoted(value: str) -> str:
    """The value as CIF text: `.` and `?` stay the marks of what does not apply or is not known."""
    return value if value in (".", "?") else gemmi.cif.quote(printable(value))


def _heading(entry: str) -> list[Table]:
    usage = {"id": ["1"], "type": ["license"], "details": ["see TERMS_OF_USE.md"], "url": ["?"], "name": ["?"]}
    return [
        Table("_entry", {"id": [entry]}),
        Table("_audit_conform", {"dict_name": ["mmcif_ma.dic"], "dict_version": ["1.4.5"], "dict_location": [DICTIONARY]}),
        Table("_pdbx_data_usage", usage),
    ]


def _entities(structure: Structure) -> list[Table]:
    first = np.unique(structure.chain_entity, return_index=True)[1].tolist()  # the first chain of every entity
    polymers = [c for c in first if structure.chain_kinds[c] in POLYMER_TYPES]
    entity = {
        "id": [str(structure.chain_entity[c]) for c in first],
        "type": ["polymer" if c in polymers else "branched" if _residues(structure, c) > 1 else "non-polymer" for c in first],
        "src_method": ["man" if c in polymers else "syn" for c in first],
        "pdbx_description": [_description(structure, c) for c in first],
        "pdbx_number_of_molecules": [str(np.count_nonzero(structure.chain_entity == structure.chain_entity[c])) for c in first],
    }
    rows = [(structure.chain_entity[c], r) for c in polymers for r in np.flatnonzero(structure.residue_chain == c)]
    sequence = {
        "entity_id": [str(entity) for entity, _ in rows],
        "num": [str(structure.residue_numbers[r]) for _, r in rows],
        "mon_id": [str(structure.residue_names[r]) for _, r in rows],
        "hetero": ["n"] * len(rows),
    }
    ligands = [(c, r) for c in first if c not in polymers for r in np.flatnonzero(structure.residue_chain == c)]
    single = [(c, str(structure.residue_names[r])) for c, r in ligands if _residues(structure, c) == 1]
    nonpolymer = {
        "entity_id": [str(structure.chain_entity[c]) for c, _ in single],
        "name": [_description(structure, c) for c, _ in single],
        "comp_id": [code for _, code in single],
    }
    return [
        Table("_entity", entity),
        Table("_pdbx_entity_nonpoly", nonpolymer),
        Table.of_rows("_entity_poly", [_entity_poly(structure, c) for c in polymers]),
        Table("_entity_poly_seq", sequence),
    ]


def _residues(structure: Structure, chain: int) -> int:
    return int(np.count_nonzero(structure.residue_chain == chain))


def _description(structure: Structure, chain: int) -> str:
    """What the entity is: the component's name for a ligand of one residue."""
    names = structure.residue_names[structure.residue_chain == chain].tolist()
    component = structure.component_of.get(names[0])
    kind = structure.chain_kinds[chain]
    if kind is not Kind.LIGAND:
        return f"{kind.value} {structure.chain_entity[chain]}"
    return component.name if component and len(names) == 1 else "-".join(names)


def _entity_poly(structure: Structure, chain: int) -> dict[str, str]:
    kind = structure.chain_kinds[chain]
    codes = structure.residue_names[structure.residue_chain == chain].tolist()
    copies = np.flatnonzero(structure.chain_entity == structure.chain_entity[chain])
    letters = derived_letters(structure)
    hybrid = kind is Kind.DNA and any(is_standard(code, Kind.RNA) for code in codes)
    hybrid |= kind is Kind.RNA and any(is_standard(code, Kind.DNA) for code in codes)
    return {
        "entity_id": str(structure.chain_entity[chain]),
        "type": HYBRID if hybrid else POLYMER_TYPES[kind],
        "nstd_linkage": "no",
        "nstd_monomer": "no" if all(is_standard(code, kind) for code in codes) else "yes",
        "pdbx_seq_one_letter_code": _wrapped([written_letter(code, kind) for code in codes]),
        "pdbx_seq_one_letter_code_can": _wrapped([canonical_letter(code, kind, letters) for code in codes]),
        "pdbx_strand_id": ",".join(structure.chain_ids[c] for c in copies),
    }


def _wrapped(letters: Sequence[str]) -> str:
    """Lines of a sequence; no bracket is broken."""
    lines, line = [], ""
    for letter in letters:
        if len(line) + len(letter) > SEQUENCE_WIDTH:
            lines.append(line)
            line = ""
        line += letter
    return "\n".join([*lines, line])


def _residue_columns(structure: Structure, residues: np.ndarray, names: Mapping[str, str]) -> dict[str, list[str]]:
    """Columns by name; each is one of the keys below or, after `=`, a constant."""
    chain = structure.residue_chain[residues]
    known = {
        "asym": [structure.chain_ids[c] for c in chain],
        "entity": structure.chain_entity[chain].astype(str).tolist(),
        "number": structure.residue_numbers[residues].astype(str).tolist(),
        "code": structure.residue_names[residues].tolist(),
    }
    return {name: [key[1:]] * len(residues) if key.startswith("=") else known[key] for name, key in names.items()}


def _in_polymer(structure: Structure) -> np.ndarray:
    """[R] bool."""
    return np.array([kind in POLYMER_TYPES for kind in structure.chain_kinds], bool)[structure.residue_chain]


def _poly_seq_scheme(structure: Structure) -> Table:
    names = {
        "asym_id": "asym", "entity_id": "entity", "seq_id": "number", "mon_id": "code",
        "ndb_seq_num": "number", "pdb_seq_num": "number", "auth_seq_num": "number", "pdb_mon_id": "code", "auth_mon_id": "code",
        "pdb_strand_id": "asym", "pdb_ins_code": "=.", "hetero": "=n",
    }  # fmt: skip
    return Table("_pdbx_poly_seq_scheme", _residue_columns(structure, np.flatnonzero(_in_polymer(structure)), names))


def _nonpoly_schemes(structure: Structure) -> list[Table]:
    """Ligands of one residue, and those of several."""
    branched = np.bincount(structure.residue_chain)[structure.residue_chain] > 1
    names = {
        "asym_id": "asym", "entity_id": "entity", "mon_id": "code", "ndb_seq_num": "number", "pdb_seq_num": "number",
        "auth_seq_num": "number", "pdb_mon_id": "code", "auth_mon_id": "code", "pdb_strand_id": "asym", "pdb_ins_code": "=.",
    }  # fmt: skip
    branch = {
        "asym_id": "asym", "entity_id": "entity", "mon_id": "code", "num": "number", "pdb_asym_id": "asym", "pdb_mon_id": "code",
        "pdb_seq_num": "number", "auth_asym_id": "asym", "auth_mon_id": "code", "auth_seq_num": "number", "hetero": "=n",
    }  # fmt: skip
    ligand = ~_in_polymer(structure)
    return [
        Table("_pdbx_nonpoly_scheme", _residue_columns(structure, np.flatnonzero(ligand & ~branched), names)),
        Table("_pdbx_branch_scheme", _residue_columns(structure, np.flatnonzero(ligand & branched), branch)),
    ]


def _struct_asym(structure: Structure) -> Table:
    return Table("_struct_asym", {"id": structure.chain_ids, "entity_id": structure.chain_entity.astype(str).tolist()})


def _atom_site(structure: Structure, prediction: Prediction) -> Table:
    residue, chain = structure.atom_residue, structure.atom_chain
    codes, asym = structure.residue_names[residue].tolist(), np.array(structure.chain_ids)[chain].tolist()
    numbers = structure.residue_numbers[residue].astype(str)
    size = len(residue)
    columns = {
        "group_PDB": ["ATOM" if is_standard(code, structure.chain_kinds[c]) else "HETATM" for code, c in zip(codes, chain, strict=True)],
        "id": [str(i) for i in range(1, size + 1)],
        "type_symbol": structure.elements.tolist(),
        "label_atom_id": structure.atom_names.tolist(),
        "label_alt_id": ["."] * size,
        "label_comp_id": codes,
        "label_asym_id": asym,
        "label_entity_id": structure.chain_entity[chain].astype(str).tolist(),
        "label_seq_id": np.where(_in_polymer(structure)[residue], numbers, ".").tolist(),
        "pdbx_PDB_ins_code": ["."] * size,
        **{f"Cartn_{axis}": [f"{value:.3f}" for value in prediction.positions[:, k].tolist()] for k, axis in enumerate("xyz")},
        "occupancy": ["1.00"] * size,
        "B_iso_or_equiv": [f"{value:.2f}" for value in prediction.atom_plddt.tolist()],
        "auth_seq_id": numbers.tolist(),
        "auth_asym_id": asym,
        "pdbx_PDB_model_num": ["1"] * size,
    }
    return Table("_atom_site", columns)
