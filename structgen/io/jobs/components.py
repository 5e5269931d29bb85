"""What a user's own chemical components must hold before any chemistry is asked of them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from pathlib import Path

import gemmi

from structgen.errors import InputError
from structgen.features.job import Given

_ATOM = ("comp_id", "atom_id", "type_symbol", "charge", *(f"pdbx_model_Cartn_{axis}_ideal" for axis in "xyz"))
_REQUIRED = (
    *(f"_chem_comp.{item}" for item in ("id", "name", "type", "formula", "mon_nstd_parent_comp_id", "pdbx_synonyms", "formula_weight")),
    *(f"_chem_comp_atom.{item}" for item in _ATOM),
    *(f"_chem_comp_bond.{item}" for item in ("atom_id_1", "atom_id_2", "value_order", "pdbx_aromatic_flag")),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,30}")
_UNPACK = {b"\x1f\x8b": gzip.decompress, b"\xfd7zXZ": lzma.decompress, b"BZh": bz2.decompress}


def component_names(given: Given, where: str) -> tuple[str, ...]:
    """Names of the components in CIF, given as text or file (plain, gzip, xz). Raises `InputError` for blocks that lack what is needed."""
    try:
        document = gemmi.cif.read_string(component_text(given, where))
    except (ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise InputError("components are not CIF", where=where, found=problem, expected="data blocks of the dictionary's form") from error
    names = tuple(_checked(block, where) for block in document)
    if not names:
        raise InputError("components are empty", where=where, found="no data block", expected="one a component")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError("component is given twice", where=where, found=twice, expected="each name once")
    return names


def component_text(given: Given, where: str) -> str:
    """The CIF text of components."""
    if not given.path:
        return given.text
    try:
        data = Path(given.path).read_bytes()
        for magic, unpack in _UNPACK.items():
            data = unpack(data) if data.startswith(magic) else data
        return data.decode()
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise InputError(f"components cannot be read: {error}", where=where, found=given.path, expected="CIF, plain, .gz or .xz") from error


def _checked(block: gemmi.cif.Block, where: str) -> str:
    """The block's component; it must hold every required item and be named like its block."""
    missing = [item for item in _REQUIRED if not len(block.find_values(item))]
    name = block.find_value("_chem_comp.id") or block.name
    name = gemmi.cif.as_string(name)
    if missing:
        found, expected = f"without {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}", "all items that AlphaFold 3 needs"
        raise InputError(f"component {name} is not complete", where=where, found=found, expected=expected, remedy="add them")
    if name != block.name:
        raise InputError("component and its block differ in name", where=where, found=f"data_{block.name} with {name}", expected="one name")
    if not _NAME.fullmatch(name):
        raise InputError("component's name cannot be used", where=where, found=repr(name), expected="letters, digits, '-' and '.'")
    return name
