"""What result files say of a residue's chemical component: its name, its type, its letter."""

from __future__ import annotations

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


def canonical_letter(code: str, kind: Kind) -> str:
    """One letter for a residue of a polymer; X or N for one that has none."""
    return LETTERS[kind].get(code, UNKNOWN_LETTER[kind])


def written_letter(code: str, kind: Kind) -> str:
    """The letter as the archive writes it: the code in brackets for DNA and for everything that is not known or not standard."""
    letter = canonical_letter(code, kind)
    return f"({code})" if kind is Kind.DNA or letter == UNKNOWN_LETTER[kind] else letter


def component_name(code: str) -> str:
    """The amino acid's name; `?` for other components."""
    return AMINO_ACIDS[code][1] if code in AMINO_ACIDS else "?"


def component_type(code: str, kind: Kind) -> str:
    """The dictionary's type of the component in a chain of that kind."""
    return "PEPTIDE LINKING" if code == "GLY" else TYPES[kind]
