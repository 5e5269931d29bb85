"""Structure files that inputs give as templates: that they can be read, and hold the chains and residues that are spoken of."""

from __future__ import annotations

import os
from pathlib import Path

import gemmi

from structgen.errors import InputError
from structgen.features.job import Template

HITS = (".a3m", ".hhr", ".sto", ".m8")  # files that name structures; others are structures


def is_hits(template: Template) -> bool:
    """Whether a template is a file of search hits, not a structure."""
    return template.structure.path.lower().removesuffix(".gz").endswith(HITS)


def check_template(template: Template, where: str, *, alone: bool = False) -> None:
    """Raises `InputError` where the structure cannot be read, or lacks the chain or the residues that the template names.

    `alone`: the structure may hold one chain only. Files of hits and folders are looked at when they are used.
    """
    if is_hits(template) or os.path.isdir(template.structure.path):
        return
    lengths = _chain_lengths(template, where)
    if alone and len(lengths) != 1:
        found = f"chains {', '.join(lengths) or 'none'}"
        raise InputError("template must hold one chain", where=where, found=found, expected="one protein chain", remedy="cut it out")
    chain = template.chain if template.chain in lengths else template.chain.rstrip("0123456789")  # Boltz calls a PDB file's A: A1
    if chain and chain not in lengths:
        expected = f"one of {', '.join(lengths)}"
        raise InputError("template has no such chain", where=where, found=repr(template.chain), expected=expected)
    longest = lengths[chain] if chain else max(lengths.values(), default=0)
    if wrong := [i for i in template.template_indices if i >= longest]:
        expected = f"0 to {longest - 1}: the chain has {longest} residues, unresolved ones counted"
        raise InputError("template index is out of range", where=where, found=str(wrong[0]), expected=expected)


def _chain_lengths(template: Template, where: str) -> dict[str, int]:
    """Residues of every polymer chain, by its id in the file."""
    try:
        if template.structure.path:
            structure = gemmi.read_structure(template.structure.path)
        else:
            structure = gemmi.make_structure_from_block(gemmi.cif.read_string(template.structure.text).sole_block())
    except (OSError, ValueError, RuntimeError) as error:
        name = Path(template.structure.path).name if template.structure.path else "its text"
        problem = " ".join(str(error).split())[:200]
        raise InputError("template cannot be read", where=where, found=f"{name}: {problem}", expected="mmCIF or PDB") from error
    structure.setup_entities()
    lengths = {}
    for chain in structure[0] if len(structure) else ():
        polymer = chain.get_polymer()
        entity = structure.get_entity_of(polymer) if len(polymer) else None
        if len(polymer):
            lengths[chain.name] = len(entity.full_sequence) if entity is not None and entity.full_sequence else len(polymer)
    return lengths
