"""What fits into PDB, and the columns of what does. That the files read back is tested with the mmCIF ones."""

from __future__ import annotations

from dataclasses import replace

import gemmi
import numpy as np
import pytest

from structgen.errors import InputError
from structgen.features.atoms import Structure
from structgen.features.job import Kind
from structgen.io.pdb import CHAIN_IDS, pdb_chain_ids, pdb_codes, pdb_fits, write_pdb
from tests.io.made import RNA_AND_LIGAND, made_prediction, made_provenance, made_tokens


def _glycines(chains: int, residues: int, atoms: int = 1) -> Structure:
    """Chains of glycine with the first `atoms` atoms of every residue, built as arrays: nothing but the limits counts."""
    size = chains * residues
    names = np.array(["N", "CA", "C", "O"][:atoms])
    return Structure(
        chain_ids=tuple(f"C{c}" for c in range(chains)),
        chain_kinds=(Kind.PROTEIN,) * chains,
        chain_sequences=("G" * residues,) * chains,
        chain_entity=np.ones(chains, np.int64),
        chain_copy=np.arange(1, chains + 1),
        residue_names=np.full(size, "GLY"),
        residue_numbers=np.tile(np.arange(1, residues + 1), chains),
        residue_chain=np.repeat(np.arange(chains), residues),
        atom_names=np.tile(names, size),
        elements=np.array([name[0] for name in np.tile(names, size)]),
        charges=np.zeros(size * atoms, np.int64),
        atom_residue=np.repeat(np.arange(size), atoms),
    )


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        (_glycines(62, 1), None),
        (_glycines(63, 1), "63 chains; PDB holds 62"),
        (_glycines(1, 9_999), None),
        (_glycines(1, 10_000), "residue number 10000; PDB holds 9999"),
        (_glycines(3, 8_333, 4), None),  # 99,996 atoms and 3 TER: the last serial is 99,999
        (_glycines(4, 8_333, 3), "100000 atoms and chain ends; PDB holds 99999"),  # 99,996 atoms and 4 TER
    ],
    ids=lambda value: str(value)[:12] if not isinstance(value, Structure) else f"{len(value.chain_ids)}x{len(value.residue_names)}",
)
def test_limits_of_size(structure: Structure, reason: str | None) -> None:
    """Each limit holds exactly; TER takes serial numbers."""
    assert pdb_fits(structure, np.zeros((len(structure.atom_names), 3))) == reason


def test_the_largest_structure_is_written_and_read() -> None:
    """99,999 serial numbers: gemmi reads every atom, the last serial is the limit."""
    structure = _glycines(3, 8_333, 4)
    size = len(structure.atom_names)
    prediction = made_prediction(made_tokens(("A", "G"), ("B", "G"), ("C", "G")))
    prediction = replace(prediction, positions=np.zeros((size, 3), np.float32), atom_plddt=np.full(size, 70, np.float32))
    text = write_pdb(structure, prediction, made_provenance("C0"))
    assert text.splitlines()[-2].startswith("TER   99999      GLY C8333")
    read = gemmi.read_pdb_string(text)[0]
    assert read.count_atom_sites() == size and [chain.name for chain in read] == ["A", "B", "C"]
    assert read["C"][-1]["O"][0].serial == 99_998


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (9999.999, None),
        (-999.999, None),
        (9999.9996, "coordinates from 0.000 to 10000.000; PDB holds -999.999 to 9999.999"),
        (-999.9996, "coordinates from -1000.000 to 0.000; PDB holds -999.999 to 9999.999"),
        (np.nan, "coordinates that are not finite"),
        (np.inf, "coordinates that are not finite"),
    ],
)
def test_limits_of_coordinates(value: float, reason: str | None) -> None:
    """What counts is the number as it would be printed."""
    positions = np.zeros((1, 3))
    positions[0, 1] = value
    assert pdb_fits(_glycines(1, 1), positions) == reason


def test_long_component_codes_have_stand_ins() -> None:
    """More than three characters are fine in mmCIF only; in PDB each has a code of its own that no component bears."""
    structure = replace(_glycines(1, 4), residue_names=np.array(["GLY", "A1LU6", "~01", "LIG-B"]))
    assert pdb_codes(structure) == {"GLY": "GLY", "A1LU6": "~02", "~01": "~01", "LIG-B": "~03"}
    long = replace(_glycines(1, 1), atom_names=np.array(["CL100"]))
    assert pdb_fits(long, np.zeros((1, 3))) == "atom name CL100; PDB holds four characters"


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    """Never a damaged file: the error says why and points to mmCIF."""
    tokens = made_tokens(("A", "GA"))
    prediction = made_prediction(tokens)
    with pytest.raises(InputError, match=r"PDB holds -999\.999.*use the mmCIF file"):
        write_pdb(tokens.structure, replace(prediction, positions=prediction.positions + 1e4), made_provenance("A"))


def test_long_chain_ids_take_free_characters() -> None:
    """Single characters keep theirs; the others take the first that no chain bears, and REMARK says which."""
    tokens = made_tokens(("AA", "G"), ("B", "G"), ("A", "G"), ("Ab", "G"))
    assert pdb_chain_ids(tokens.structure) == ("C", "B", "A", "D")
    text = write_pdb(tokens.structure, made_prediction(tokens), made_provenance("AA", "B", "A", "Ab"))
    mapped = [line[11:].strip() for line in text.splitlines() if "is chain" in line]
    assert mapped == ["chain AA is chain C here", "chain Ab is chain D here"]
    everything = made_tokens(*((f"x{c}", "G") for c in range(62)))
    assert pdb_chain_ids(everything.structure) == tuple(CHAIN_IDS)


def test_columns() -> None:
    """Every line is 80 wide; records stand in their fixed columns, in their order, END is last."""
    tokens = made_tokens(("A", "MRNDCQEGHILKMFPW"), ("B", "GS"))
    lines = write_pdb(tokens.structure, made_prediction(tokens), made_provenance("A", "B")).splitlines()
    assert {len(line) for line in lines} == {80}
    records = [line[:6].strip() for line in lines]
    assert list(dict.fromkeys(records)) == ["TITLE", "EXPDTA", "REMARK", "SEQRES", "ATOM", "TER", "END"]
    assert [line.rstrip() for line in lines if line.startswith("SEQRES")] == [
        "SEQRES   1 A   16  MET ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET",
        "SEQRES   2 A   16  PHE PRO TRP",
        "SEQRES   1 B    2  GLY SER",
    ]
    serials = [int(line[6:11]) for line in lines if line.startswith(("ATOM", "TER"))]
    assert serials == list(range(1, len(tokens.atom_token) + 3))
    first = next(line for line in lines if line.startswith("ATOM"))
    x, y, z = made_prediction(tokens).positions[0]
    assert first == f"ATOM      1  N   MET A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           N  "
    assert next(line for line in lines if line.startswith("TER")).rstrip() == f"TER   {serials[-1] - 12:5d}      TRP A  16"
    assert lines[-1].strip() == "END"


def test_names_with_primes_ions_and_charges() -> None:
    """One-letter elements start in column 14, two-letter ones in 13; a ligand is HETATM without TER and shows its charge."""
    prediction = made_prediction(made_tokens(("A", "GG"), ("B", "G")))
    prediction = replace(prediction, positions=np.zeros((7, 3), np.float32), atom_plddt=np.full(7, 5, np.float32))
    lines = write_pdb(RNA_AND_LIGAND, prediction, made_provenance("A", "B")).splitlines()
    assert [line[12:16] for line in lines if line.startswith("ATOM")] == [" O5'", " C5'", " N9 ", " P  ", " O5'", " N1 "]
    assert lines[-2] == "HETATM    8 MG    MG B   1       0.000   0.000   0.000  1.00  5.00          MG2+"
    assert lines[-3].rstrip() == "TER       7        U A   2"


def test_provenance_is_in_the_remarks() -> None:
    """Software, model, digest, seed, sample, settings and the meaning of B; long and foreign text is wrapped and escaped."""
    tokens = made_tokens(("A", "GA"))
    provenance = made_provenance("A", notes=("é " * 60, "read as a single chain"))
    text = write_pdb(tokens.structure, made_prediction(tokens, seed=7, sample=3), provenance, entry="ubiquitin")
    remarks = " ".join(line[11:].strip() for line in text.splitlines() if line.startswith("REMARK 225"))
    for expected in (
        "pLDDT in the B column, 0-100",
        "software: structgen 0.1.0",
        "model: toy",
        f"sha256 {provenance.model_sha256}",
        "seed: 7",
        "sample: 3",
        "cycles=2 precision=float32 steps=20",
        "alignment rows: A 17",
        "\\xe9 \\xe9",
        "read as a single chain",
    ):
        assert expected in remarks
    assert text.isascii() and "TITLE     ubiquitin: predicted by structgen 0.1.0" in text
    assert "ipTM" not in remarks
