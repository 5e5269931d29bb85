"""The table of what each format holds, as the documentation shows it: `python -m structgen.io.jobs.table` prints it."""

from __future__ import annotations

from collections.abc import Callable

from structgen.features.job import Kind
from structgen.io.jobs.formats import FORMATS, Format
from structgen.io.jobs.holds import Holds


def _some(held: tuple[str, ...] | None, *words: str) -> str:
    """yes, no, or what is held besides."""
    return "no" if held is None else "yes" + (f" ({', '.join(words)})" if words else "")


def _flag(held: bool) -> str:
    return "yes" if held else "no"


def _ligands(holds: Holds) -> str:
    if Kind.LIGAND not in holds.kinds:
        return "no"
    return "list" if holds.several_codes else "one" if holds.codes else "sugars"


def _bonds(holds: Holds) -> str:
    return "no" if not holds.bonds else "yes" if holds.bonds_to_smiles else "not to SMILES"


def _glycan(holds: Holds) -> str:
    if holds.title.startswith(("AlphaFold Server", "Chai")):
        return "tree"
    return "codes, bonds" if holds.several_codes and holds.bonds else "no"


def _alignments(holds: Holds) -> str:
    if "unpaired" not in holds.alignments:
        return "no"
    return "text, path" if holds.inline and holds.title.startswith("Alpha") else "rows" if holds.inline else "path"


def _paired(holds: Holds) -> str:
    return "by species" if "paired" in holds.alignments else "by key" if "tables" in holds.alignments else "no"


def _templates(holds: Holds) -> str:
    held = [name for name in ("structure", "hits", "indices", "chain", "force") if name in holds.templates]
    return ", ".join(held) or "no"


_DETAILS = {"force": "force", "min": "least distance", "confidence": "confidence", "atoms": "atoms", "ligand-atoms": "ligand atoms"}
_ITEMS: dict[str, Callable[[Holds], str]] = {
    "jobs in a file": lambda h: "several" if h.several_jobs else "one",
    "name": lambda h: {"any": "yes", "line": "one line", "folder": "no slash", "file": "the file's"}[h.name],
    "chain ids": lambda h: {"any": "yes", "A-Z": "capitals", "order": "by order"}[h.ids],
    "seeds": lambda h: _flag(h.seeds),
    "RNA and DNA": lambda h: _flag(Kind.RNA in h.kinds),
    "modified residues": lambda h: "no" if not h.modifications else "yes" if h.letters_under else "yes, letter X or N",
    "ligand by code": _ligands,
    "SMILES": lambda h: _flag(h.smiles and Kind.LIGAND in h.kinds),
    "ligand file": lambda h: _flag(h.files),
    "own component": lambda h: _flag(h.own_components),
    "bonds": _bonds,
    "glycan": _glycan,
    "cyclic": lambda h: _flag(h.cyclic),
    "unpaired MSA": _alignments,
    "paired MSA": _paired,
    "no MSA": lambda h: _flag("none" in h.alignments),
    "RNA MSA": lambda h: _flag(h.rna_alignments),
    "templates": _templates,
    "no templates": lambda h: _flag("none" in h.templates),
    "contacts": lambda h: _some(h.contacts, *(_DETAILS[d] for d in h.contacts or () if d in _DETAILS)),
    "pockets": lambda h: "of one ligand" if h.pockets and "ligand" in h.pockets else _some(h.pockets),
    "affinity": lambda h: _flag(h.affinity),
    "description": lambda h: _flag(h.description),
}


def markdown() -> str:
    """The table: an item a row, a format a column."""
    formats: list[Format] = list(FORMATS.values())
    rows = [["", *(f"`{format.name}`" for format in formats)], ["---"] * (len(formats) + 1)]
    rows += [[item, *(say(format.holds) for format in formats)] for item, say in _ITEMS.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
