"""The PDB format: what fits into it. The mmCIF file is the native one and holds everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_lowercase, ascii_uppercase, digits
from textwrap import wrap

import numpy as np

from structgen.errors import InputError
from structgen.features.atoms import Structure
from structgen.features.chemistry import CLASSES
from structgen.features.components import Component
from structgen.features.job import Kind
from structgen.io.component_tables import connection_kind
from structgen.io.components import is_standard
from structgen.io.printable import printable
from structgen.io.provenance import Provenance
from structgen.prediction import Prediction

CHAIN_IDS = ascii_uppercase + ascii_lowercase + digits
LARGEST_SERIAL = 99_999
LARGEST_NUMBER = 9_999
LOWEST, HIGHEST = -999.999, 9_999.999  # angstrom, what eight columns hold
REMARK_WIDTH = 68


def pdb_fits(structure: Structure, positions: np.ndarray) -> str | None:
    """Why the format cannot hold the structure, in words for the user; None where it can. `positions` [L, 3] in angstrom."""
    serials = len(structure.atom_names) + sum(kind is not Kind.LIGAND for kind in structure.chain_kinds)
    long_names = [str(name) for name in structure.atom_names if len(name) > 4]
    rounded = np.round(np.asarray(positions, np.float64), 3)
    if len(structure.chain_ids) > len(CHAIN_IDS):
        return f"{len(structure.chain_ids)} chains; PDB holds {len(CHAIN_IDS)}"
    if serials > LARGEST_SERIAL:
        return f"{serials} atoms and chain ends; PDB holds {LARGEST_SERIAL}"
    if structure.residue_numbers.max() > LARGEST_NUMBER:
        return f"residue number {structure.residue_numbers.max()}; PDB holds {LARGEST_NUMBER}"
    if long_names:
        return f"atom name {long_names[0]}; PDB holds four characters"
    if not np.isfinite(rounded).all():
        return "coordinates that are not finite"
    if rounded.min() < LOWEST or rounded.max() > HIGHEST:
        return f"coordinates from {rounded.min():.3f} to {rounded.max():.3f}; PDB holds {LOWEST} to {HIGHEST}"
    return None


def pdb_chain_ids(structure: Structure) -> tuple[str, ...]:
    """[C] one character a chain: its own id where that is one, else the first character that no chain bears."""
    own = {id for id in structure.chain_ids if len(id) == 1}
    free = iter([character for character in CHAIN_IDS if character not in own])
    return tuple(id if id in own else next(free) for id in structure.chain_ids)


def pdb_codes(structure: Structure) -> dict[str, str]:
    """Component code to the three characters that stand for it: itself, or the next of ~01, ~02, ... for a longer one."""
    codes = dict.fromkeys(structure.residue_names.tolist())
    free = (f"~{number:02d}" for number in range(1, 100) if f"~{number:02d}" not in codes)
    return {code: code if len(code) <= 3 else next(free) for code in codes}


def write_pdb(structure: Structure, prediction: Prediction, provenance: Provenance, *, entry: str = "structgen") -> str:
    """The text of the file: lines of 80 columns, B = pLDDT of the atom, 0-100, where it comes from in REMARK 225 (theoretical model).

    Raises `InputError` with the reason where the format cannot hold the structure (`pdb_fits` says so beforehand).
    """
    reason = pdb_fits(structure, prediction.positions)
    if reason:
        raise InputError("the PDB format cannot hold this structure", where=entry, found=reason, remedy="use the mmCIF file")
    chains, codes = pdb_chain_ids(structure), pdb_codes(structure)
    structure = _renamed(structure, codes)
    serials = _serials(structure)
    lines = [
        *_continued("TITLE", f"{entry}: predicted by structgen {provenance.software}"),
        "EXPDTA    THEORETICAL MODEL",
        *(f"REMARK 225 {line}" for line in _remarks(structure, prediction, provenance, chains, codes)),
        *_sequences(structure, chains),
        *_modified(structure, chains),
        *_het_names(structure.components),
        *_links(structure, prediction.positions, chains),
        *_atoms(structure, prediction, chains, serials),
        *_connections(structure, serials),
        "END",
    ]
    return "".join(f"{line:<80}\n" for line in lines)


def _renamed(structure: Structure, codes: dict[str, str]) -> Structure:
    """The same with other component codes."""
    components = tuple(replace(component, code=codes[component.code]) for component in structure.components)
    return replace(structure, residue_names=np.array([codes[str(code)] for code in structure.residue_names]), components=components)


def _continued(record: str, text: str) -> list[str]:
    """A record of free text over as many lines as it needs."""
    pieces = wrap(printable(text), REMARK_WIDTH)
    return [f"{record:<6}  {number if number > 1 else '':>2}{' ' if number > 1 else ''}{piece}" for number, piece in enumerate(pieces, 1)]


def _remarks(
    structure: Structure, prediction: Prediction, provenance: Provenance, chains: tuple[str, ...], codes: dict[str, str]
) -> Iterator[str]:
    summary = prediction.summary
    scores = {"ranking score": summary.ranking_score, "pTM": summary.ptm, "ipTM": summary.iptm, "mean pLDDT": summary.mean_plddt}
    paragraphs = [
        "THEORETICAL MODEL",
        "pLDDT in the B column, 0-100",
        f"software: structgen {provenance.software}",
        f"model: {provenance.model}",
        f"weights: sha256 {provenance.model_sha256}",
        f"seed: {prediction.seed}",
        f"sample: {prediction.sample}",
        f"settings: {provenance.settings_text}",
        *(f"{name}: {value:.2f}" for name, value in scores.items() if np.isfinite(value)),
        "alignment rows: " + ", ".join(f"{id} {depth}" for id, depth in provenance.msa_depth.items()),
        *(f"chain {own} is chain {character} here" for own, character in zip(structure.chain_ids, chains, strict=True) if own != character),
        *(f"component {own} is {here} here" for own, here in codes.items() if own != here),
        *provenance.notes,
    ]
    for paragraph in paragraphs:
        yield from wrap(printable(paragraph), REMARK_WIDTH) or [""]


def _sequences(structure: Structure, chains: tuple[str, ...]) -> Iterator[str]:
    """SEQRES of the polymers, 13 residues a line."""
    for c, kind in enumerate(structure.chain_kinds):
        codes = structure.residue_names[structure.residue_chain == c].tolist()
        for line, start in enumerate(range(0, len(codes) if kind is not Kind.LIGAND else 0, 13)):
            row = " ".join(f"{code:>3}" for code in codes[start : start + 13])
            yield f"SEQRES {(line + 1) % 1000:3d} {chains[c]} {len(codes):4d}  {row}"


def _modified(structure: Structure, chains: tuple[str, ...]) -> Iterator[str]:
    """MODRES: what every modified residue of a polymer derives from."""
    classes, components = structure.residue_class, structure.component_of
    for r in np.flatnonzero(structure.atomised).tolist():
        c = structure.residue_chain[r]
        if structure.chain_kinds[c] is not Kind.LIGAND:
            code = str(structure.residue_names[r])
            name = " ".join(printable(components[code].name).split())[:41]
            yield f"MODRES {'':4} {code:>3} {chains[c]} {structure.residue_numbers[r]:4d}  {CLASSES[classes[r]]:>3}  {name}"


def _het_names(components: Sequence[Component]) -> Iterator[str]:
    """HETNAM: the names of all components that are not standard."""
    for component in components:
        for line, text in enumerate(wrap(printable(component.name), 55, break_long_words=True), 1):
            yield f"HETNAM  {line if line > 1 else '':>2} {component.code:>3} {text}"


def _links(structure: Structure, positions: np.ndarray, chains: tuple[str, ...]) -> Iterator[str]:
    """SSBOND and LINK: bonds between residues but those of plain polymers; disulfides come first."""
    bonds = structure.bonds[structure.links].tolist()
    disulfides = [pair for pair in bonds if connection_kind(structure, *pair) == "disulf"]
    for number, (i, j) in enumerate(disulfides, 1):
        (left, right), length = (_place(structure, atom, chains) for atom in (i, j)), np.linalg.norm(positions[i] - positions[j])
        yield f"SSBOND {number:3d} {left}    {right}{'':23} {'1555':>6} {'1555':>6} {min(length, 99.99):5.2f}"
    for i, j in (pair for pair in bonds if pair not in disulfides):
        left, right = (f"{_placed_name(structure, atom)} {_place(structure, atom, chains, blank='')}" for atom in (i, j))
        length = np.linalg.norm(positions[i] - positions[j])
        yield f"LINK        {left}{'':16}{right}{'':2} {'1555':>6} {'1555':>6} {min(length, 99.99):5.2f}"


def _place(structure: Structure, atom: int, chains: tuple[str, ...], blank: str = " ") -> str:
    residue = structure.atom_residue[atom]
    chain = chains[structure.residue_chain[residue]]
    return f"{structure.residue_names[residue]:>3} {chain}{blank}{structure.residue_numbers[residue]:4d}"


def _placed_name(structure: Structure, atom: int) -> str:
    """The atom's name in its four columns: elements of one letter begin in the second."""
    element, name = structure.elements[atom], structure.atom_names[atom]
    return f"{name:<4}" if len(element) > 1 or len(name) > 3 else f" {name:<3}"


def _serials(structure: Structure) -> np.ndarray:
    """[L] serial number of every atom; the end of every polymer takes one as well."""
    polymer = np.array([kind is not Kind.LIGAND for kind in structure.chain_kinds], np.int64)
    ended = np.cumsum(polymer) - polymer
    return np.arange(1, len(structure.atom_names) + 1) + ended[structure.atom_chain]


def _connections(structure: Structure, serials: np.ndarray) -> Iterator[str]:
    """CONECT: all bonds but those of plain polymers, from both sides, four partners a line."""
    partners: dict[int, list[int]] = {}
    for i, j in structure.bonds.tolist():
        partners.setdefault(int(serials[i]), []).append(int(serials[j]))
        partners.setdefault(int(serials[j]), []).append(int(serials[i]))
    for serial, others in sorted(partners.items()):
        others.sort()
        for start in range(0, len(others), 4):
            yield f"CONECT{serial:5d}" + "".join(f"{other:5d}" for other in others[start : start + 4])


def _atoms(structure: Structure, prediction: Prediction, chains: tuple[str, ...], serials: np.ndarray) -> Iterator[str]:
    """Every chain's atoms; a polymer ends with TER, which takes a serial number."""
    for c, kind in enumerate(structure.chain_kinds):
        atoms = np.flatnonzero(structure.atom_chain == c).tolist()
        for i in atoms:
            yield _atom(structure, prediction, i, chains[c], int(serials[i]))
        if kind is not Kind.LIGAND:
            last = np.flatnonzero(structure.residue_chain == c)[-1]
            end = serials[atoms[-1]] + 1
            yield f"TER   {end:5d}      {structure.residue_names[last]:>3} {chains[c]}{structure.residue_numbers[last]:4d}"


def _atom(structure: Structure, prediction: Prediction, i: int, chain: str, serial: int) -> str:
    residue = structure.atom_residue[i]
    code, element = structure.residue_names[residue], structure.elements[i]
    standard = is_standard(str(code), structure.chain_kinds[structure.residue_chain[residue]])
    x, y, z = prediction.positions[i]
    charge = "" if standard or not structure.charges[i] else f"{abs(structure.charges[i])}{'+' if structure.charges[i] > 0 else '-'}"
    number = structure.residue_numbers[residue]
    return (
        f"{'ATOM' if standard else 'HETATM':<6}{serial:5d} {_placed_name(structure, i)} {code:>3} {chain}{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{1:6.2f}{prediction.atom_plddt[i]:6.2f}          {element:>2}{charge:<2}"
    )
