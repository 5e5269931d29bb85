"""Chains from what formats say about them: letters, modifications, component codes, SMILES, ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from structgen.errors import InputError
from structgen.features.job import Chain, Kind, Modification, chain_ids
from structgen.features.letters import read_sequence
from structgen.io.jobs.reading import Reading
from structgen.io.jobs.value import Value

IONS = frozenset("LI NA K RB CS MG CA SR BA MN FE FE2 CO NI CU CU1 ZN CD HG PT AU AG AL GA TL PB YB CL BR IOD F".split())
_CODE = re.compile(r"[A-Z0-9]{1,5}|[A-Za-z0-9][A-Za-z0-9.-]*-[A-Za-z0-9.-]+")  # of the dictionary, or a user's own
_CHARGED = re.compile(r"([A-Za-z]{1,2})[ _]?(?:\(?\d*[+-]+\d*\)?)")
_INSIDE = re.compile(r"[A-Za-z0-9]{1,4}")


def sequence_at(reading: Reading, kind: Kind, text: str, where: str, chain: str = "", *, small: bool = False) -> str:
    """A polymer's letters; how they were read is noted under the chain's name."""
    limit = reading.options.limits.letters
    if len(text) > limit:
        found, expected = f"{len(text):,} letters", f"at most {limit:,}"
        raise InputError("chain is too long", where=where, found=found, expected=expected, remedy="predict its domains one by one")
    options = reading.options
    sequence, notes = read_sequence(kind, text, where, small=small or options.uppercase, fix_nucleic=options.fix_nucleic)
    for note in notes:
        reading.note(f"chain {chain}: {note}" if chain else note)
    return sequence


def sequence(reading: Reading, kind: Kind, value: Value, chain: str) -> str:
    """A polymer's letters as a value of JSON or YAML."""
    return sequence_at(reading, kind, reading.text(value), reading.at(value), chain)


def code(reading: Reading, value: Value, *, prefix: str = "", own: Sequence[str] = ()) -> str:
    """A component's code. `prefix` must stand before it (or, empty, no `CCD_` may); `own` are the user's own components."""
    text = reading.text(value)
    plain = text.removeprefix("CCD_")
    if (prefix == "CCD_") != text.startswith("CCD_"):
        expected, remedy = ("a code with CCD_ before it", f"write CCD_{text}") if prefix else ("a code without CCD_", f"write {plain}")
        raise reading.error(value, "code is written otherwise in this format", found=repr(text), expected=expected, remedy=remedy)
    return code_at(reading, plain, reading.at(value), own=own)


def code_at(reading: Reading, text: str, where: str, *, own: Sequence[str] = ()) -> str:
    """A component's code in capitals without blanks, noted where it was written otherwise."""
    if text in own:
        return text
    if (ion := _CHARGED.fullmatch(text.strip())) and ion[1].upper() in IONS:
        remedy = f"use {ion[1].upper()}"
        raise InputError("an ion is named by its code", where=where, found=repr(text), expected="a component's code", remedy=remedy)
    cleaned = text.strip() if "-" in text else text.strip().upper()
    if not _CODE.fullmatch(cleaned):
        expected = "1 to 5 letters and digits, or the name of a component of your own"
        raise InputError("not a component's code", where=where, found=repr(text[:60]), expected=expected)
    if cleaned != text:
        reading.note(f"component {text!r} was read as {cleaned}")
    return cleaned


def smiles_at(reading: Reading, text: str, where: str) -> str:
    """A SMILES string without blanks at its ends."""
    cleaned = text.strip()
    if not cleaned:
        raise InputError("SMILES string is empty", where=where, found=repr(text), expected="a molecule")
    if wrong := re.search(r"[\s\x00-\x1f\x7f]", cleaned):
        found = f"{wrong[0]!r} at position {wrong.start() + 1}"
        remedy = "write each backslash of a bond's direction twice" if wrong[0] in "\t\n\f\b\v" else "one molecule, without its name"
        raise InputError("blank or control character in a SMILES string", where=where, found=found, remedy=remedy)
    if not cleaned.isascii():
        raise InputError("SMILES string is not plain text", where=where, found=repr(cleaned[:60]), expected="ASCII characters")
    return cleaned


def modifications(reading: Reading, found: Sequence[tuple[Value, int, str]], length: int) -> tuple[Modification, ...]:
    """Modified residues by position, from (place, position, code): inside the chain, one a position."""
    by_position: dict[int, str] = {}
    for place, position, name in found:
        if not 1 <= position <= length:
            expected = f"a position from 1 to {length:,}, the chain's length"
            raise reading.error(place, "modification lies outside of the chain", found=f"position {position}", expected=expected)
        if position in by_position:
            both = f"{by_position[position]} and {name} at position {position}"
            raise reading.error(place, "two modifications at one position", found=both, expected="one", remedy="remove one of them")
        by_position[position] = name
    return tuple(Modification(position, by_position[position]) for position in sorted(by_position))


def inside_ids(reading: Reading, ids: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """The id that each chain has inside, from (id in the file, its place): its own where it has 1 to 4 letters or digits, else a free one.

    Raises `InputError` for an id that is used twice, with both places.
    """
    places: dict[str, str] = {}
    for id, place in ids:
        if id in places:
            found = f"{id!r} again, first at {places[id].removeprefix(reading.where + ': ')}"
            raise InputError("chain id is used twice", where=place, found=found, expected="each id once", remedy="rename one of the chains")
        places[id] = place
    kept = {id for id in places if _INSIDE.fullmatch(id)}
    free = (id for id in chain_ids(len(places) + len(kept)) if id not in kept)
    inside = {id: id if id in kept else next(free) for id in places}
    for id, own in inside.items():
        if id != own:
            reading.note(f"chain {id!r} is called {own} here: ids have 1 to 4 letters or digits")
    lower: dict[str, str] = {}
    for id in kept:
        if lower.setdefault(id.lower(), id) != id:
            reading.note(f"chain ids {lower[id.lower()]} and {id} differ by case alone: some file systems do not tell them apart")
    return inside


def spread(chain: Chain, ids: Sequence[str]) -> list[Chain]:
    """A copy of a chain for every id."""
    return [replace(chain, id=id) for id in ids]
