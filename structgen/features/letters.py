"""The letters of a chain as users write them: what is accepted, with which note, and what is refused."""

from __future__ import annotations

import re
import unicodedata

from structgen.errors import InputError
from structgen.features.job import Kind

_NOT_A_LETTER = re.compile(r"[^A-Za-z]")
_EFFECTS = {
    "B": "built as UNK",
    "J": "built as UNK",
    "Z": "built as UNK",
    "U": "selenocysteine is built as UNK and read as C in alignments",
    "O": "pyrrolysine is built as UNK",
}


def read_sequence(kind: Kind, text: str, where: str, *, small: bool = True, fix_nucleic: bool = False) -> tuple[str, list[str]]:
    """A polymer's sequence in capitals and notes on how it was read. Raises `InputError` that names the first wrong character.

    `small`: small letters are read as capitals, with a note. `fix_nucleic`: T in RNA is read as U, U in DNA as T.
    """
    sequence, notes = text, []
    if text.endswith("*") and kind is Kind.PROTEIN:
        sequence = text[:-1]
        notes.append("the stop sign '*' at the end was dropped")
    if not sequence:
        raise InputError("sequence is empty", where=where, found="no residues", expected="at least one", remedy="add it or drop the chain")
    if wrong := _NOT_A_LETTER.search(sequence):
        raise _wrong_character(sequence, wrong.start(), where)
    if not small and (count := sum(map(str.islower, sequence))):
        found, remedy = f"{count:,} of {len(sequence):,} letters small", "write capitals, or read them as such with --uppercase"
        raise InputError("small letters in the sequence", where=where, found=found, expected="letters A-Z", remedy=remedy)
    capitals, notes = sequence.upper(), notes + _case_notes(sequence)
    if kind is not Kind.PROTEIN:
        capitals, remarks = _nucleic(kind, capitals, where, fix=fix_nucleic)
        return capitals, notes + remarks + _length_notes(capitals)
    return capitals, notes + _letter_notes(capitals) + _length_notes(capitals)


def _nucleic(kind: Kind, sequence: str, where: str, *, fix: bool) -> tuple[str, list[str]]:
    """RNA or DNA without the other one's letter; letters that are no base are noted."""
    wrong, right, other = ("T", "U", "DNA") if kind is Kind.RNA else ("U", "T", "RNA")
    notes = []
    if wrong in sequence and not fix:
        found = f"{wrong} at {_places(sequence, wrong)}"
        likely = other if right not in sequence else f"{kind.value.upper()} with letters of {other}"
        remedy = f"is this {likely}? correct the type, or read {wrong} as {right} with --fix-nucleic"
        raise InputError(f"{wrong} in {kind.value.upper()}", where=where, found=found, expected=f"A C G {right} N", remedy=remedy)
    if wrong in sequence:
        notes.append(f"{wrong} at {_places(sequence, wrong)} was read as {right}")
        sequence = sequence.replace(wrong, right)
    unknown = sorted(set(sequence) - set(f"ACG{right}N"))
    built = "N" if kind is Kind.RNA else "DN"
    return sequence, notes + [f"{letter} at {_places(sequence, letter)}: built as {built}" for letter in unknown]


def _wrong_character(sequence: str, index: int, where: str) -> InputError:
    character = sequence[index]
    message, remedy = "illegal character in the sequence", "correct the sequence"
    if character == "/":
        message = "'/' does not separate chains"
        remedy = "write ':' between the chains of a complex; a break inside one chain ('/' in older notebooks) is not supported"
    elif character in "-.":
        remedy = "this is an alignment row: remove its gaps, or give the alignment with --msa"
    elif character.isascii() and character.isdigit():
        remedy = "a numbered sequence? remove the numbers"
    elif character == "*":
        remedy = "a stop sign may only stand at the end: correct the translation"
    elif character in "([":
        remedy = "write the parent's letter here, and the modified residue in a format that holds modifications (AlphaFold 3 JSON)"
    elif character.isspace():
        remedy = "remove blanks and line breaks (a folded text?)"
    shown = _shown(character)
    return InputError(message, where=where, found=f"{shown} at position {index + 1:,}", expected="letters A-Z", remedy=remedy)


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"byte 0x{code - 0xDC00:02x}, which is not UTF-8,"
    if character.isascii() and character.isprintable():
        return repr(character)
    return f"U+{code:04X} ({unicodedata.name(character, 'control character')})"


def _case_notes(sequence: str) -> list[str]:
    lower = sum(map(str.islower, sequence))
    if lower == 0:
        return []
    if lower == len(sequence):
        return ["lower case was read as capitals"]
    return [f"mixed case: {lower:,} of {len(sequence):,} letters are small (an alignment row, a masked region?); read as capitals"]


def _letter_notes(sequence: str) -> list[str]:
    notes = [f"{letter} at {_places(sequence, letter)}: {effect}" for letter, effect in _EFFECTS.items() if letter in sequence]
    if len(sequence) > 20 and not set(sequence) - set("ACGTUN"):
        notes.append("only the letters A C G T U N: is this DNA or RNA? It is read as protein")
    return notes


def _length_notes(sequence: str) -> list[str]:
    return [f"a chain of {len(sequence)} residue{'s' * (len(sequence) > 1)}"] if len(sequence) <= 2 else []


def _places(sequence: str, letter: str) -> str:
    """The first five positions of a letter, from 1."""
    places = [match.start() + 1 for match in re.finditer(letter, sequence)]
    more = f" and {len(places) - 5:,} more" if len(places) > 5 else ""
    return ", ".join(map(str, places[:5])) + more
