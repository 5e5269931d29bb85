"""The wwPDB Chemical Component Dictionary (CC0) as biotite ships it: read once, decoded column by column, never at import.

Texts stay as indices into the distinct ones, so the 49,000 components take tens of megabytes and not a gigabyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from structgen.errors import InputError
from structgen.features.components import Component, Origin, assemble

_COLUMNS = {
    "chem_comp": ("id", "name", "type", "one_letter_code", "formula", "pdbx_replaced_by"),
    "chem_comp_atom": (
        "comp_id", "atom_id", "type_symbol", "charge", "pdbx_leaving_atom_flag", "pdbx_stereo_config",
        *(f"{start}_{axis}{end}" for start, end in (("model_Cartn", ""), ("pdbx_model_Cartn", "_ideal")) for axis in "xyz"),
    ),
    "chem_comp_bond": ("comp_id", "atom_id_1", "atom_id_2", "value_order", "pdbx_aromatic_flag", "pdbx_stereo_config"),
}  # fmt: skip

_UNDEFINED = {
    "HOH": "water, which is never built",
    "DOD": "water, which is never built",
    "UNL": "an unknown ligand",
    "UNX": "an unknown atom",
    "DUM": "dummy atoms",
}


@dataclass(frozen=True)
class _Column:
    """Values of one item; of a text column the number of each row's text, which lie one after the other in `text`."""

    values: np.ndarray
    text: str = ""
    offsets: np.ndarray | None = None
    absent: np.ndarray | None = None  # [rows] bool

    def rows(self, rows: slice) -> Any:
        """The values of some rows: an array of numbers with NaN, or a list of texts, empty where absent."""
        values = self.values[rows]
        absent = np.zeros(len(values), bool) if self.absent is None else self.absent[rows]
        if self.offsets is None:
            return np.where(absent, np.nan, values)
        starts, stops = self.offsets[:-1], self.offsets[1:]
        return ["" if gone else self.text[starts[i] : stops[i]] for i, gone in zip(values.tolist(), absent.tolist(), strict=True)]


@dataclass(frozen=True)
class Dictionary:
    """Columns by category and item, and the rows of every component in each category."""

    columns: dict[str, dict[str, _Column]]
    rows: dict[str, dict[str, slice]]

    def __contains__(self, code: str) -> bool:
        return code in self.rows["chem_comp"]

    @property
    def codes(self) -> Sequence[str]:
        """Codes of all components."""
        return list(self.rows["chem_comp"])

    def item(self, code: str, category: str, name: str) -> Any:
        """The values of one item of a component that the dictionary holds; none where the category says nothing of it."""
        return self.columns[category][name].rows(self.rows[category].get(code, slice(0, 0)))


@cache
def dictionary() -> Dictionary:
    """The dictionary, read at the first call (about a second)."""
    import msgpack
    from biotite.structure import info

    raw = msgpack.unpackb(Path(info.__file__).with_name("components.bcif").read_bytes())["dataBlocks"][0]["categories"]
    stored = {category["name"].lstrip("_"): {column["name"]: column for column in category["columns"]} for category in raw}
    columns = {category: {name: _decoded(stored[category][name]) for name in names} for category, names in _COLUMNS.items()}
    return Dictionary(columns, {category: _rows_of(next(iter(columns[category].values()))) for category in columns})


def _decoded(column: dict[str, Any]) -> _Column:
    mask = None if column["mask"] is None else _numbers(column["mask"]) > 0
    outer = column["data"]["encoding"][0]
    if outer["kind"] != "StringArray":
        return _Column(_numbers(column["data"]), absent=mask)
    index = _numbers({"data": column["data"]["data"], "encoding": outer["dataEncoding"]})
    offsets = _numbers({"data": outer["offsets"], "encoding": outer["offsetEncoding"]})
    return _Column(index, outer["stringData"], offsets, mask)


def _numbers(content: dict[str, Any]) -> np.ndarray:
    from biotite.structure.io.pdbx.encoding import decode_stepwise, deserialize_encoding

    values = decode_stepwise(content["data"], [deserialize_encoding(encoding) for encoding in content["encoding"]])
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _rows_of(codes: _Column) -> dict[str, slice]:
    """Rows of every component; they lie together."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(codes.values)) + 1, [len(codes.values)]]).tolist()
    text, offsets = codes.text, codes.offsets
    assert offsets is not None
    names = [text[offsets[i] : offsets[i + 1]] for i in codes.values[starts[:-1]].tolist()]
    return {name: slice(start, stop) for name, start, stop in zip(names, starts[:-1], starts[1:], strict=True)}


@lru_cache(maxsize=1024)
def dictionary_component(code: str) -> Component:
    """The component of that code. Raises `InputError` where the dictionary has none or knows no atoms of it."""
    known = dictionary()
    if code in _UNDEFINED:
        remedy = "leave it out, or give a molecule by its own code"
        raise InputError(f"{code} is not a defined molecule", found=_UNDEFINED[code], remedy=remedy)
    if code not in known:
        raise unknown_code(code, known.codes)
    identity = {name: known.item(code, "chem_comp", name)[0] for name in _COLUMNS["chem_comp"]}
    if not known.item(code, "chem_comp_atom", "atom_id"):
        remedy = "give the molecule as SMILES or as a component of your own"
        raise InputError(f"{code} is not a defined molecule", found=identity["name"].lower(), expected="atoms", remedy=remedy)
    if instead := identity["pdbx_replaced_by"]:
        raise InputError(f"component {code} is obsolete", found=identity["name"].lower(), remedy=f"use {instead}")
    letter = identity["one_letter_code"]
    return assemble(
        {
            "code": code,
            "name": identity["name"],
            "type": identity["type"].upper(),
            "letter": letter if len(letter) == 1 else "",
            "formula": identity["formula"],
        },
        Origin.DICTIONARY,
        _atoms(known, code),
        _bonds(known, code),
        where="the component dictionary",
    )


def _atoms(known: Dictionary, code: str) -> dict[str, np.ndarray]:
    def item(name: str) -> Any:
        return known.item(code, "chem_comp_atom", name)

    return {
        "atom_names": item("atom_id"),
        "elements": item("type_symbol"),
        "charges": np.nan_to_num(np.asarray(item("charge"), np.float64)),
        "leaving": np.array(item("pdbx_leaving_atom_flag")) == "Y",
        "stereo": item("pdbx_stereo_config"),
        "ideal": np.stack([item(f"pdbx_model_Cartn_{axis}_ideal") for axis in "xyz"], 1),
        "model": np.stack([item(f"model_Cartn_{axis}") for axis in "xyz"], 1),
    }


def _bonds(known: Dictionary, code: str) -> dict[str, Any]:
    def item(name: str) -> Any:
        return known.item(code, "chem_comp_bond", name)

    return {
        "first": item("atom_id_1"),
        "second": item("atom_id_2"),
        "orders": item("value_order"),
        "aromatic": np.array(item("pdbx_aromatic_flag"), "<U1") == "Y",
        "stereo": np.array(item("pdbx_stereo_config"), "<U1"),
    }


def unknown_code(code: str, codes: Sequence[str]) -> InputError:
    """The error for a code that is in no dictionary: the ion it may mean, or the nearest codes."""
    element = "".join(character for character in code if character.isalpha())
    if element in codes and len(element) <= 2 and element != code and len(code) <= 4:
        return InputError(f"unknown component {code!r}", expected="a code of the component dictionary", remedy=f"use {element}")
    near = ", ".join(get_close_matches(code, codes, 4, 0.6)) or "none"
    remedy = f"correct the code (nearest: {near}), give a SMILES string, or add the component to the job's own components"
    return InputError(f"unknown component {code!r}", expected="a code of the component dictionary", remedy=remedy)
