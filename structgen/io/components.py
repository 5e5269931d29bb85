"""What result files say of a residue's chemical component: its name, its type, its letter."""

from __future__ import annotations

from structgen.features.atoms import Structure
from structgen.features.components import Component
from structgen.features.job import Kind

AMINO_ACIDS = {
    "ALA": ("A", "ALANINE"), "ARG": ("R", "ARGININE"), "ASN": ("N", "ASPARAGINE"), "ASP": ("D", "ASPARTIC ACID"),
    "CYS": ("C", "CYSTEINE"), "GLN": ("Q", "GLUTAMINE"), "GLU": ("E", "GLUTAMIC ACID"), "GLY": ("G", "GLYCINE"),
    "HIS": ("H", "HISTIDINE"), "ILE": ("I", "ISOLEUCINE"), "LEU": ("L", "LEUCINE"), "LYS": ("K", "LYSINE"),
    "MET": ("M", "METHIONINE"), "PHE": ("F", "PHENYLALANINE"), "PRO": ("P", "PROLINE"), "SER": ("S", "SERINE"),
    "THR": ("T", "THREONINE"), "TRP": ("W", "TRYPTOPHAN"), "TYR": ("Y", "TYROSINE"), "VAL": ("V", "VALINE"),
    "UNK": ("X", "UNKNOWN"),
}  # fmt: skip
RNA = {"A": "A", "G": "G", "C": "C", "U": "U", "N": "N"}
DNA = {"DA": "A", "DG": "G", "DC": "C", "DT": "T", "DN": "N"}
LETTERS = {Kind.PROTEIN: {code: letter for code, (letter, _) in AMINO_ACIDS.items()}, Kind.RNA: RNA, Kind.DNA: DNA, Kind.LIGAND: {}}
UNKNOWN_LETTER = {Kind.PROTEIN: "X", Kind.RNA: "N", Kind.DNA: "N"}
TYPES = {Kind.PROTEIN: "L-PEPTIDE LINKING", Kind.RNA: "RNA LINKING", Kind.DNA: "DNA LINKING", Kind.LIGAND: "NON-POLYMER"}


def is_standard(code: str, kind: Kind) -> bool:
    """Whether the component is one of the usual residues of such a chain, the unknown one among them: ATOM, not HETATM."""
    return code in LETTERS[kind]


def canonical_letter(code: str, kind: Kind, letters: dict[str, str]) -> str:
    """One letter for a residue of a polymer: its own, else that of the residue it derives from (`letters`), else X or N."""
    return LETTERS[kind].get(code) or letters.get(code) or UNKNOWN_LETTER[kind]


def derived_letters(structure: Structure) -> dict[str, str]:
    """Letters of the standard residues that the structure's other components derive from; RNA in DNA and DNA in RNA among them."""
    return {component.code: component.letter for component in structure.components} | RNA | DNA


def written_letter(code: str, kind: Kind) -> str:
    """The letter as the archive writes it: the code in brackets for DNA and for everything that is not known or not standard."""
    letter = LETTERS[kind].get(code, UNKNOWN_LETTER[kind])
    return f"({code})" if kind is Kind.DNA or letter == UNKNOWN_LETTER[kind] else letter


def component_name(code: str, component: Component | None) -> str:
    """The component's name; `?` where nothing says one."""
    return component.name if component else AMINO_ACIDS[code][1] if code in AMINO_ACIDS else "?"


def component_type(code: str, kind: Kind, component: Component | None) -> str:
    """The dictionary's type of the component, here in a chain of that kind."""
    if component:
        return component.type or TYPES[kind]
    own = next((standard for standard in (Kind.PROTEIN, Kind.RNA, Kind.DNA) if code in LETTERS[standard]), kind)
    return "PEPTIDE LINKING" if code == "GLY" else TYPES[own]
