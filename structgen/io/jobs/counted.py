"""What AlphaFold Server's and Protenix's lists have in common: elements with a count, and how they are read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from structgen.errors import InputError
from structgen.features.job import Chain, Job, Kind, Modification
from structgen.features.slug import safe_slug
from structgen.io.jobs.molecules import IONS, code, modifications
from structgen.io.jobs.reading import Reading, Source
from structgen.io.jobs.value import Value
from structgen.io.jobs.written import without_empty

KINDS = {
    "proteinChain": Kind.PROTEIN,
    "dnaSequence": Kind.DNA,
    "rnaSequence": Kind.RNA,
    "ligand": Kind.LIGAND,
    "ion": Kind.LIGAND,
}
NAMES = {Kind.PROTEIN: "proteinChain", Kind.DNA: "dnaSequence", Kind.RNA: "rnaSequence"}
MOST_COPIES = 10_000


def jobs_of_list(source: Source, root: Value, form: str, read: Callable[[Reading, Value], Job]) -> list[Job | InputError]:
    """The jobs of a list: each is read by itself, so that a bad one hides no other. Names must stay distinct as folders."""
    reading = Reading(source)
    if not isinstance(root.data, list):
        remedy = "put it in [ ], or read it with --format alphafold3"
        raise reading.error(root, f"not {form}'s form", found="one object", expected="a list of jobs", remedy=remedy)
    jobs: list[Job | InputError] = []
    names: dict[str, tuple[int, str]] = {}
    for number, item in enumerate(reading.items(root, some=True), 1):
        one = reading.of_job(job_title(number, item))
        try:
            job = read(one, item)
            require_new_name(one, number, job.name, names)
            jobs.append(job)
        except InputError as error:
            jobs.append(error)
    return jobs


def job_title(number: int, item: Value) -> str:
    """`job 2 (its name)`."""
    name = item.data.get("name") if isinstance(item.data, dict) else None
    text = name.data if name is not None and isinstance(name.data, str) else ""
    shown = "".join(c if c.isprintable() else " " for c in text[:60]).strip()
    return f"job {number}" + (f" ({shown})" if shown else "")


def require_new_name(reading: Reading, number: int, name: str, names: dict[str, tuple[int, str]]) -> None:
    """Raises `InputError` where two jobs of one file would have one folder; remembers the name otherwise."""
    slug = safe_slug(name).lower()
    if slug in names:
        earlier, other = names[slug]
        found = f"{name!r} of job {number} and {other!r} of job {earlier}, both {safe_slug(name)!r} as a folder"
        raise InputError("two jobs have one name", where=reading.where, found=found, expected="distinct names", remedy="rename one")
    names[slug] = number, name


def count_of(reading: Reading, fields: Mapping[str, Value]) -> int:
    """Copies of an element; 1 where it says nothing."""
    return reading.integer(fields["count"], 1, MOST_COPIES) if "count" in fields else 1


def prefixed_modifications(reading: Reading, kind: Kind, value: Value, length: int) -> tuple[Modification, ...]:
    """`ptmType`, `ptmPosition` of proteins, `modificationType`, `basePosition` of nucleic acids; codes with CCD_ before them."""
    type_key, position_key = modification_keys(kind)
    found = []
    for item in reading.items(value):
        fields = reading.fields(item, (type_key, position_key), (type_key, position_key))
        found.append((item, reading.integer(fields[position_key]), code(reading, fields[type_key], prefix="CCD_")))
    return modifications(reading, found, length)


def modification_keys(kind: Kind) -> tuple[str, str]:
    """The two keys of a modification."""
    return ("ptmType", "ptmPosition") if kind is Kind.PROTEIN else ("modificationType", "basePosition")


def polymer_element(chain: Chain) -> dict[str, Any]:
    """Sequence and modifications of a polymer."""
    type_key, position_key = modification_keys(chain.kind)
    changed = [{type_key: f"CCD_{m.code}", position_key: m.position} for m in chain.modifications]
    return {"sequence": chain.sequence} | without_empty({"modifications": changed})


def is_ion(chain: Chain) -> bool:
    """Whether a ligand is written as an ion."""
    return len(chain.residues) == 1 and chain.residues[0] in IONS


def spreadsheet_ids(taken: Sequence[str]) -> Callable[[], str]:
    """Gives A to Z, AA, AB, ..., one at each call, but none of those that are taken."""
    number = 0

    def following() -> str:
        nonlocal number
        while True:
            number += 1
            letters, rest = "", number
            while rest:
                rest, letter = divmod(rest - 1, 26)
                letters = chr(ord("A") + letter) + letters
            if letters not in taken:
                return letters

    return following
