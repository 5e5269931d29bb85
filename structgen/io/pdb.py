"""The PDB format: what fits into it. The mmCIF file is the native one and holds everything."""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase, ascii_uppercase, digits
from textwrap import wrap

import numpy as np

from structgen.errors import InputError
from structgen.features.atoms import Structure
from structgen.features.job import Kind
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
    long_codes = [str(code) for code in structure.residue_names if len(code) > 3]
    rounded = np.round(np.asarray(positions, np.float64), 3)
    if len(structure.chain_ids) > len(CHAIN_IDS):
        return f"{len(structure.chain_ids)} chains; PDB holds {len(CHAIN_IDS)}"
    if serials > LARGEST_SERIAL:
        return f"{serials} atoms and chain ends; PDB holds {LARGEST_SERIAL}"
    if structure.residue_numbers.max() > LARGEST_NUMBER:
        return f"residue number {structure.residue_numbers.max()}; PDB holds {LARGEST_NUMBER}"
    if long_codes:
        return f"component code {long_codes[0]}; PDB holds three characters"
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


def write_pdb(structure: Structure, prediction: Prediction, provenance: Provenance, *, entry: str = "structgen") -> str:
    """The text of the file: lines of 80 columns, B = pLDDT of the atom, 0-100, where it comes from in REMARK 225 (theoretical model).

    Raises `InputError` with the reason where the format cannot hold the structure (`pdb_fits` says so beforehand).
    """
    reason = pdb_fits(structure, prediction.positions)
    if reason:
        raise InputError("the PDB format cannot hold this structure", where=entry, found=reason, remedy="use the mmCIF file")
    chains = pdb_chain_ids(structure)
    lines = [
        *_continued("TITLE", f"{entry}: predicted by structgen {provenance.software}"),
        "EXPDTA    THEORETICAL MODEL",
        *(f"REMARK 225 {line}" for line in _remarks(structure, prediction, provenance, chains)),
        *_sequences(structure, chains),
        *_atoms(structure, prediction, chains),
        "END",
    ]
    return "".join(f"{line:<80}\n" for line in lines)


def _continued(record: str, text: str) -> list[str]:
    """A record of free text over as many lines as it needs."""
    pieces = wrap(printable(text), REMARK_WIDTH)
    return [f"{record:<6}  {number if number > 1 else '':>2}{' ' if number > 1 else ''}{piece}" for number, piece in enumerate(pieces, 1)]


def _remarks(structure: Structure, prediction: Prediction, provenance: Provenance, chains: tuple[str, ...]) -> Iterator[str]:
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


def _atoms(structure: Structure, prediction: Prediction, chains: tuple[str, ...]) -> Iterator[str]:
    """Every chain's atoms; a polymer ends with TER, which takes a serial number."""
    serial = 0
    for c, kind in enumerate(structure.chain_kinds):
        for i in np.flatnonzero(structure.atom_chain == c).tolist():
            serial += 1
            yield _atom(structure, prediction, i, chains[c], serial)
        if kind is not Kind.LIGAND:
            serial += 1
            last = np.flatnonzero(structure.residue_chain == c)[-1]
            yield f"TER   {serial:5d}      {structure.residue_names[last]:>3} {chains[c]}{structure.residue_numbers[last]:4d}"


def _atom(structure: Structure, prediction: Prediction, i: int, chain: str, serial: int) -> str:
    residue = structure.atom_residue[i]
    code, element, name = structure.residue_names[residue], structure.elements[i], structure.atom_names[i]
    standard = is_standard(str(code), structure.chain_kinds[structure.residue_chain[residue]])
    placed = f"{name:<4}" if len(element) > 1 or len(name) > 3 else f" {name:<3}"
    x, y, z = prediction.positions[i]
    charge = "" if standard or not structure.charges[i] else f"{abs(structure.charges[i])}{'+' if structure.charges[i] > 0 else '-'}"
    return (
        f"{'ATOM' if standard else 'HETATM':<6}{serial:5d} {placed} {code:>3} {chain}{structure.residue_numbers[residue]:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{1:6.2f}{prediction.atom_plddt[i]:6.2f}          {element:>2}{charge:<2}"
    )
