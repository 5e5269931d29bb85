"""Chemical components that a user defines: mmCIF text with one data block a component, as AlphaFold 3's userCCD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.components import Component, Origin, assemble
from structgen.features.job import Given

_REQUIRED = {
    "_chem_comp.": ("id", "name", "type", "formula", "mon_nstd_parent_comp_id", "pdbx_synonyms", "formula_weight"),
    "_chem_comp_atom.": ("comp_id", "atom_id", "type_symbol", "charge", *(f"pdbx_model_Cartn_{axis}_ideal" for axis in "xyz")),
    "_chem_comp_bond.": ("atom_id_1", "atom_id_2", "value_order", "pdbx_aromatic_flag"),
}
_PARENTS = dict(zip(chemistry.CLASSES, (*chemistry.AMINO_ACIDS, "X", *"AGCUN", *"AGCTN", ""), strict=True))
_FORBIDDEN = set("_# \t'\"")


def own_components(given: Sequence[Given]) -> dict[str, Component]:
    """The components by code. Raises `InputError` for text that is no CIF, a missing item (all are named), a code that is given twice."""
    found: dict[str, Component] = {}
    for one in given:
        where = one.path or "the job's own components"
        text = one.text
        if one.path:
            try:
                text = Path(one.path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError("own components cannot be read", where=where, found=str(error), expected="mmCIF text") from error
        for component in read_components(text, where):
            if component.code in found:
                raise InputError(f"component {component.code} is defined twice", where=where, remedy="leave one of them out")
            found[component.code] = component
    return found


@lru_cache(maxsize=64)
def read_components(text: str, where: str) -> tuple[Component, ...]:
    """The components of CIF text, one a data block."""
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise InputError("own components are not mmCIF", where=where, found=str(error).splitlines()[0], expected="data blocks") from error
    if not len(document):
        raise InputError("own components are empty", where=where, found="no data block", expected="one a component")
    return tuple(_component(block, where) for block in document)


def _component(block: gemmi.cif.Block, where: str) -> Component:
    tables = {category: _table(block, category) for category in _REQUIRED}
    single = len(next(iter(tables["_chem_comp_atom."].values()), [])) == 1
    needed = [category for category in _REQUIRED if not (single and category == "_chem_comp_bond.")]
    missing = [category + item for category in needed for item in _REQUIRED[category] if item not in tables[category]]
    if missing:
        remedy = "add the items ('?' where nothing is known)"
        raise InputError(f"component {block.name} lacks items", where=where, found=f"no {', '.join(missing)}", remedy=remedy)
    head, atoms, bonds = tables["_chem_comp."], tables["_chem_comp_atom."], tables["_chem_comp_bond."]
    code = head["id"][0]
    if code != block.name or not code or _FORBIDDEN & set(code):
        expected = "equal names without '_', '#', quotes and blanks, as in data_ABC-1"
        raise InputError("component has no usable code", where=where, found=f"data_{block.name} with id {code!r}", expected=expected)
    parent = head["mon_nstd_parent_comp_id"][0]
    if parent and parent not in _PARENTS:
        expected = "a code such as SER, or ?"
        raise InputError(f"component {code}: its parent is no standard residue", where=where, found=parent, expected=expected)
    identity = {"code": code, "name": head["name"][0] or code, "type": head["type"][0].upper(), "formula": head["formula"][0]}
    columns = _atoms(atoms, f"{where}: component {code}")
    return assemble({**identity, "letter": _PARENTS.get(parent, "")}, Origin.USER, columns, _bonds(bonds), where)


def _table(block: gemmi.cif.Block, category: str) -> dict[str, list[str]]:
    """Texts by item, `?` and `.` as empty ones."""
    table = block.find_mmcif_category(category)
    tags = [tag.removeprefix(category) for tag in table.tags]
    return {tag: ["" if text in ("?", ".") else gemmi.cif.as_string(text) for text in table.column(i)] for i, tag in enumerate(tags)}


def _atoms(columns: Mapping[str, list[str]], where: str) -> dict[str, np.ndarray]:
    size = len(columns["atom_id"])
    empty = [""] * size
    model = [_numbers(columns.get(f"model_Cartn_{axis}", empty), where) for axis in "xyz"]
    return {
        "atom_names": np.array(columns["atom_id"]),
        "elements": np.array(columns["type_symbol"]),
        "charges": np.nan_to_num(_numbers(columns["charge"], where)),
        "leaving": np.array([flag == "Y" for flag in columns.get("pdbx_leaving_atom_flag", empty)]),
        "stereo": np.array([flag or "N" for flag in columns.get("pdbx_stereo_config", empty)]),
        "ideal": np.stack([_numbers(columns[f"pdbx_model_Cartn_{axis}_ideal"], where) for axis in "xyz"], 1),
        "model": np.stack(model, 1),
    }


def _bonds(columns: Mapping[str, list[str]]) -> dict[str, Any]:
    first = columns.get("atom_id_1", [])
    return {
        "first": first,
        "second": columns.get("atom_id_2", []),
        "orders": columns.get("value_order", []),
        "aromatic": np.array([flag == "Y" for flag in columns.get("pdbx_aromatic_flag", [])], bool),
        "stereo": [flag or "N" for flag in columns.get("pdbx_stereo_config", ["N"] * len(first))],
    }


def _numbers(texts: Sequence[str], where: str) -> np.ndarray:
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError as error:
        raise InputError("not a number", where=where, found=str(error).rpartition(":")[2].strip(), expected="a number or ?") from error
