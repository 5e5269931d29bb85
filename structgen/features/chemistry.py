"""What the standard residues are made of, and the 32-letter alphabet of the network (SI Table 13 with N and DN).

Arrays with a leading dimension of 32 are indexed by class: 0-19 amino acids, 20 UNK, 21-25 A G C U N, 26-30 DA DG DC DT DN, 31 gap.
A slot is an atom's place in the fixed order of its residue type (SI 5.3): OXT is the last of an amino acid, OP3 the first of a
nucleotide. Ideal coordinates (angstrom) come from the wwPDB Chemical Component Dictionary (CC0), see components.json.
"""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np

AMINO_ACIDS = "ARNDCQEGHILKMFPSTWYV"
_RESIDUES = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL UNK A G C U N DA DG DC DT DN"
CLASSES = (*_RESIDUES.split(), "GAP")
UNKNOWN = 20
GAP = 31
SLOTS = 24  # the largest standard residue, G with OP3
ELEMENTS_IN_ORDER = (
    "H HE LI BE B C N O F NE NA MG AL SI P S CL AR K CA SC TI V CR MN FE CO NI CU ZN GA GE AS SE BR KR RB SR Y ZR NB MO TC RU RH PD AG CD "
    "IN SN SB TE I XE CS BA LA CE PR ND PM SM EU GD TB DY HO ER TM YB LU HF TA W RE OS IR PT AU HG TL PB BI PO AT RN FR RA AC TH PA U NP "
    "PU AM CM BK CF ES FM MD NO LR RF DB SG BH HS MT DS RG CN NH FL MC LV TS OG"
).split()
ATOMIC_NUMBERS = {"": 0, **{element: number for number, element in enumerate(ELEMENTS_IN_ORDER, 1)}, "D": 1}
ILLEGAL = 255


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _letters(*, substitutes: dict[str, str]) -> np.ndarray:
    """[256] class of every ASCII code; other capitals are UNK after the substitutes; the rest is ILLEGAL."""
    table = np.full(256, ILLEGAL, np.uint8)
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        table[ord(letter)] = AMINO_ACIDS.find(substitutes.get(letter, letter)) % (UNKNOWN + 1)
    return table


RESIDUE_OF_LETTER = _frozen(_letters(substitutes={}))
"""[256] class of a letter as a residue of the structure: B, J, O, U, X and Z are UNK."""


def _nucleotides(letters: str, unknown: int, *, other: str) -> np.ndarray:
    """[256] class of every ASCII code: `letters` in the order of the classes, other capitals `unknown`, the other acid's letter ILLEGAL."""
    table = np.full(256, ILLEGAL, np.uint8)
    table[ord("A") : ord("Z") + 1] = unknown
    for place, letter in enumerate(letters):
        table[ord(letter)] = unknown - len(letters) + place
    if other:
        table[ord(other)] = ILLEGAL
    return table


RNA_OF_LETTER = _frozen(_nucleotides("AGCU", 25, other="T"))
DNA_OF_LETTER = _frozen(_nucleotides("AGCT", 30, other="U"))
"""[256] class of a letter as a nucleotide of the structure: N, X and other capitals are N or DN; T in RNA and U in DNA are ILLEGAL."""

_msa_letters = _letters(substitutes={"B": "D", "Z": "E", "U": "C"})
_msa_letters[ord("-")] = GAP
MSA_OF_LETTER = _frozen(_msa_letters)
"""[256] class of a letter in a column of an alignment: B is D, Z is E, U is C; J, O and X are UNK; '-' is the gap."""

_rna_letters = _nucleotides("AGCU", 25, other="")
_rna_letters[ord("T")] = _rna_letters[ord("U")]
_rna_letters[ord("-")] = GAP
MSA_OF_RNA_LETTER = _frozen(_rna_letters)
"""The same for alignments of RNA: T, which databases of genomes write, is U; other capitals are N."""


def atomic_numbers(elements: np.ndarray) -> np.ndarray:
    """[n] atomic numbers of element symbols in capitals, 0 for an empty one; KeyError for what is no element."""
    distinct, index = np.unique(elements, return_inverse=True)
    return np.array([ATOMIC_NUMBERS[str(element)] for element in distinct], np.int64)[index].reshape(np.shape(elements))


def encode(text: str | bytes, table: np.ndarray) -> np.ndarray:
    """[n] uint8 classes of a text's letters by one of the tables above; what is not ASCII becomes ILLEGAL."""
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    return table[np.frombuffer(data, np.uint8)]


def _load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    table = json.loads(files(__package__).joinpath("components.json").read_text())
    names, elements = np.zeros((32, SLOTS), "<U4"), np.zeros((32, SLOTS), "<U2")
    charges, ideal = np.zeros((32, SLOTS), np.int64), np.zeros((32, SLOTS, 3), np.float32)
    for row, code in enumerate(CLASSES[:GAP]):
        for slot, (name, element, charge, *position) in enumerate(table[code]):
            names[row, slot], elements[row, slot], charges[row, slot], ideal[row, slot] = name, element, charge, position
    return _frozen(names), _frozen(elements), _frozen(charges), _frozen(ideal)


ATOM_NAMES, ELEMENTS, CHARGES, IDEAL = _load()
"""[32, 24] names, elements and formal charges, [32, 24, 3] ideal coordinates of every slot; empty names fill the rest."""

ATOM_COUNT = _frozen((ATOM_NAMES != "").sum(1))
"""[32] slots in use, the leaving atom (OXT or OP3) among them."""
