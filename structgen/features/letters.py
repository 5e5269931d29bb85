"""The letters of a protein chain as users write them: what is accepted, with which note, and what is refused."""

from __future__ import annotations

import re
import unicodedata

from structgen.errors import InputError

_DECLARED = re.compile(r"(RNA|DNA|CCD|SMILES)\|", re.IGNORECASE)
_NOT_A_LETTER = re.compile(r"[^A-Za-z]")
_EFFECTS = {
    "B": "built as UNK",
    "J": "built as UNK",
    "Z": "built as UNK",
    "U": "selenocysteine is built as UNK and read as C in alignments",
    "O": "pyrrolysine is built as UNK",
}


def read_protein(text: str, where: str) -> tuple[str, list[str]]:
    """The chain's sequence in capitals and notes on how it was read. Raises `InputError` that names the first wrong character."""
    if found := _DECLARED.match(text):
        kind = {"RNA": "RNA", "DNA": "DNA"}.get(found[1].upper(), "a ligand")
        raise not_built(kind, where, found=f"a part that starts with {found[0]!r}")
    sequence, notes = text, []
    if text.endswith("*"):
        sequence = text[:-1]
        notes.append("the stop sign '*' at the end was dropped")
    if not sequence:
        raise InputError("sequence is empty", where=where, found="no residues", expected="at least one", remedy="add it or drop the chain")
    if wrong := _NOT_A_LETTER.search(sequence):
        raise _wrong_character(sequence, wrong.start(), where)
    return sequence.upper(), notes + _case_notes(sequence) + _letter_notes(sequence.upper())


def not_built(kind: str, where: str, found: str) -> InputError:
    """The error for a molecule that structgen cannot predict yet."""
    remedy = "leave it out: only proteins are built so far"
    return InputError(f"{kind} is not built yet", where=where, found=found, expected="protein chains", remedy=remedy)


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
        remedy = "modified residues are not built yet: write the parent's letter"
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
    notes = []
    for letter, effect in _EFFECTS.items():
        if places := [match.start() + 1 for match in re.finditer(letter, sequence)]:
            more = f" and {len(places) - 5:,} more" if len(places) > 5 else ""
            notes.append(f"{letter} at {', '.join(map(str, places[:5]))}{more}: {effect}")
    if len(sequence) > 20 and not set(sequence) - set("ACGTUN"):
        notes.append("only the letters A C G T U N: is this DNA or RNA? It is read as protein")
    if len(sequence) <= 2:
        notes.append(f"a chain of {len(sequence)} residue{'s' * (len(sequence) > 1)}")
    return notes
