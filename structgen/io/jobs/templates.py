"""Structure files that inputs give as templates: that they can be read, and hold the chains and residues that are spoken of."""

from __future__ import annotations

import os
from pathlib import Path

from structgen.errors import InputError
from structgen.features.job import Template
from structgen.io.structures import Entry, read_given

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
    entry = _entry(template, where)
    if alone and len(entry.polymers) != 1:
        found = f"chains {', '.join(chain.name for chain in entry.polymers) or 'none'}"
        raise InputError("template must hold one chain", where=where, found=found, expected="one protein chain", remedy="cut it out")
    chain = entry.find(template.chain)
    if template.chain and chain is None:
        expected = f"one of {', '.join(chain.name for chain in entry.polymers)}"
        raise InputError("template has no such chain", where=where, found=repr(template.chain), expected=expected)
    longest = len(chain.sequence) if chain else max((len(chain.sequence) for chain in entry.polymers), default=0)
    if wrong := [i for i in template.template_indices if i >= longest]:
        expected = f"0 to {longest - 1}: the chain has {longest} residues, unresolved ones counted"
        raise InputError("template index is out of range", where=where, found=str(wrong[0]), expected=expected)


def _entry(template: Template, where: str) -> Entry:
    try:
        return read_given(template.structure)
    except InputError as error:
        name = Path(template.structure.path).name if template.structure.path else "its text"
        found = f"{name}: {error.message}" + (f" ({error.found})" if error.found else "")
        raise InputError("template cannot be read", where=where, found=found, expected="mmCIF or PDB") from error
