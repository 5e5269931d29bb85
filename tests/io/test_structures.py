"""Chains, frames and pseudo-betas of structure files, against the tables of the files themselves."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from structgen.errors import InputError
from structgen.features.job import Given
from structgen.io.structures import Entry, read_entry, read_given
from tests.io.jobs.made import structure_cif

STRUCTURES = Path(__file__).parents[2] / "data" / "examples" / "structures"
HEAD = """data_x
_entity.id 1
_entity.type polymer
_entity_poly.entity_id 1
_entity_poly.type polypeptide(L)
_struct_asym.id A
_struct_asym.entity_id 1
loop_
_entity_poly_seq.entity_id
_entity_poly_seq.num
_entity_poly_seq.mon_id
_entity_poly_seq.hetero
{sequence}
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_entity_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.auth_seq_id
_atom_site.auth_asym_id
{atoms}
"""


def entry(name: str) -> Entry:
    return read_given(Given(path=str(STRUCTURES / f"{name}.cif.gz")))


def made(atoms: list[tuple], sequence: str = "GLY SER ALA") -> Entry:
    """A chain of (atom, alternate, residue, number, x, occupancy)."""
    names = [f"1 {k} {name} n" for k, places in enumerate(sequence.split(), 1) for name in places.split(",")]
    rows = [f"ATOM {i} {a[0]} {a} {alt} {code} A 1 {k} {x} 0 0 {occ} {k} A" for i, (a, alt, code, k, x, occ) in enumerate(atoms, 1)]
    return read_entry(HEAD.format(sequence="\n".join(names), atoms="\n".join(rows)).encode(), "made")


def residue(code: str, number: int, x: float, alt: str = ".", occupancy: float = 1.0) -> list[tuple]:
    """Four atoms at x, x + 1, x + 2, x + 3."""
    return [(name, alt, code, number, x + k, occupancy) for k, name in enumerate(("N", "CA", "C", "CB"))]


@pytest.mark.parametrize(("name", "chain", "frames"), [("1dul", "A", 69), ("6lu7", "A", 306), ("6lu7", "C", 3)])
def test_frames_are_those_of_the_table_of_atoms(name: str, chain: str, frames: int):
    """Every number of the file's own atom table, by its own residue numbers; unresolved residues and lacking atoms are masked."""
    polymer = entry(name).find(chain)
    assert polymer is not None
    found = polymer.backbone()
    block = gemmi.cif.read_string(gzip.decompress((STRUCTURES / f"{name}.cif.gz").read_bytes()).decode()).sole_block()
    columns = ["label_seq_id", "label_atom_id", "label_comp_id", "Cartn_x", "Cartn_y", "Cartn_z", "auth_asym_id", "label_entity_id"]
    table = block.find("_atom_site.", columns)
    atoms = {(int(r[0]), r.str(1)): np.array(r, "O")[3:6].astype(np.float32) for r in map(list_row, table) if r[6] == chain and r[0] != "."}
    codes = {int(r[0]): r.str(2) for r in map(list_row, table) if r[6] == chain and r[0] != "."}
    size = len(polymer.sequence)
    beta = {k: "CA" if codes.get(k) == "GLY" else "CB" for k in range(1, size + 1)}
    assert found.frame_mask.tolist() == [all((k, a) in atoms for a in ("N", "CA", "C")) for k in range(1, size + 1)]
    assert found.pseudo_beta_mask.tolist() == [(k, beta[k]) in atoms for k in range(1, size + 1)]
    assert found.frame_mask.sum() == frames
    for k in np.flatnonzero(found.frame_mask).tolist():
        np.testing.assert_array_equal(found.frame[k], [atoms[k + 1, name] for name in ("N", "CA", "C")])
    for k in np.flatnonzero(found.pseudo_beta_mask).tolist():
        np.testing.assert_array_equal(found.pseudo_beta[k], atoms[k + 1, beta[k + 1]])
    assert not found.frame[~found.frame_mask].any() and not found.pseudo_beta[~found.pseudo_beta_mask].any()


class list_row(list):
    """A row of a CIF table as plain texts."""

    def str(self, column: int) -> str:
        return gemmi.cif.as_string(self[column])


def test_sequences_are_whole_and_modified_residues_their_parents():
    """The letters that the file itself gives, selenomethionine as M; what is no amino acid is X; dates are those of the release."""
    block = gemmi.cif.read_string(gzip.decompress((STRUCTURES / "1dul.cif.gz").read_bytes()).decode()).sole_block()
    entities = block.find("_entity_poly.", ["type", "pdbx_seq_one_letter_code_can"])
    stated = {gemmi.cif.as_string(kind): "".join(gemmi.cif.as_string(text).split()) for kind, text in entities}
    protein = entry("1dul").proteins[0]
    assert protein.sequence == stated["polypeptide(L)"] and protein.names.count("MSE") == 14 and len(protein.sequence) == 105
    assert [polymer.sequence for polymer in entry("6lu7").proteins][1] == "XAVLXX"
    assert [entry(name).released for name in ("1dul", "6lu7")] == ["2000-02-28", "2020-02-05"]


def test_chains_are_found_by_the_authors_id_first():
    """In 1DUL the protein is the author's A and the archive's B; the RNA the other way round. Boltz's A1 is A."""
    polymers = entry("1dul")
    assert [(p.name, p.label, p.is_protein) for p in polymers.polymers] == [("B", "A", False), ("A", "B", True)]
    assert polymers.find("A") is polymers.find("A1") is polymers.proteins[0]
    assert polymers.find("B") is polymers.polymers[0] and polymers.find("C") is None and polymers.find("") is None
    peptide = entry("6lu7").find("B")  # the archive's id: the author has no B
    assert peptide is not None and peptide.name == "C"


@pytest.mark.parametrize(("occupancy", "x"), [((0.4, 0.6), 20.0), ((0.6, 0.4), 10.0), ((0.5, 0.5), 10.0)])
def test_of_alternates_the_most_occupied_is_taken_then_the_first(occupancy: tuple[float, float], x: float):
    """The whole residue comes from one conformer, and B before A in the file makes no difference."""
    both = residue("SER", 2, 20, "B", occupancy[1]) + residue("SER", 2, 10, "A", occupancy[0])
    found = made(residue("GLY", 1, 0) + both + residue("ALA", 3, 30)).proteins[0].backbone()
    assert found.frame[1, :, 0].tolist() == [x, x + 1, x + 2] and found.pseudo_beta[1, 0] == x + 3
    assert found.pseudo_beta[:, 0].tolist() == [1, x + 3, 33]


def test_of_several_residues_at_one_place_the_first_listed_is_taken():
    """Microheterogeneity, whichever the atoms begin with."""
    atoms = residue("GLY", 1, 0) + residue("ALA", 2, 20, "B", 0.6) + residue("SER", 2, 10, "A", 0.4) + residue("ALA", 3, 30)
    chain = made(atoms, "GLY SER,ALA ALA").proteins[0]
    assert chain.sequence == "GSA" and chain.backbone().frame[1, 0, 0] == 10
    assert made(atoms, "GLY ALA,SER ALA").proteins[0].backbone().frame[1, 0, 0] == 20


def test_lacking_atoms_are_masked_alone():
    """Without CB there is a frame, without N a pseudo-beta; a position that is no number is none."""
    atoms = residue("GLY", 1, 0) + residue("SER", 2, 10)[:3] + residue("ALA", 3, 20)[1:]
    found = made(atoms).proteins[0].backbone()
    assert found.frame_mask.tolist() == [True, True, False] and found.pseudo_beta_mask.tolist() == [True, False, True]
    unknown = [*residue("GLY", 1, 0), *residue("SER", 2, 10)[:3], ("CB", ".", "SER", 2, "?", 1.0)]
    assert made(unknown).proteins[0].backbone().pseudo_beta_mask.tolist() == [True, False, False]


def test_pdb_files_are_numbered_by_their_seqres_records(tmp_path: Path):
    """Whatever the author's numbers and insertion codes, the residues are where the mmCIF file has them."""
    structure = gemmi.read_structure(str(STRUCTURES / "1dul.cif.gz"))
    structure.setup_entities()
    for number, one in enumerate(structure[0]["A"].get_polymer()):
        one.seqid = gemmi.SeqId(7 + number // 3, " AB"[number % 3])
    structure.write_pdb(str(tmp_path / "x.pdb"))
    text = (tmp_path / "x.pdb").read_text()
    there, here = entry("1dul").proteins[0], read_given(Given(path=str(tmp_path / "x.pdb"))).proteins[0]
    assert here.sequence == there.sequence
    np.testing.assert_allclose(here.backbone().frame, there.backbone().frame, atol=1e-3)
    np.testing.assert_array_equal(here.backbone().pseudo_beta_mask, there.backbone().pseudo_beta_mask)
    bare = read_given(Given(text="".join(line for line in text.splitlines(True) if not line.startswith("SEQRES")))).proteins[0]
    assert len(bare.sequence) == 69 and bare.backbone().frame_mask.all()
    assert bare.sequence == "".join(there.sequence[k] for k in there.place)


def test_files_without_tables_of_entities_are_understood():
    """What small tools write: no sequence, no entities; residues are numbered by label_seq_id, and X fills a gap."""
    text = structure_cif("MKT", "GS")
    assert [p.sequence for p in read_given(Given(text=text)).proteins] == ["MKT", "GS"]
    atoms = "\n".join(f"ATOM {k} C CA . ALA A 1 {k} {k} 0 0 1 {k} A" for k in (1, 2, 4))
    bare = "data_x\nloop_\n" + HEAD.format(sequence="", atoms=atoms).rpartition("loop_\n")[2]
    chain = read_entry(bare.encode(), "x").polymers[0]
    assert chain.sequence == "AAXA" and chain.is_protein and chain.backbone().pseudo_beta_mask.tolist() == [False] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "holds no atoms"),
        ("data_x\n_cell.length_a 1\n", "holds no atoms"),
        ("data_x\nloop_\n_a.b\n_a.c\n1\n", "cannot be read"),
    ],
)
def test_what_is_no_structure_is_refused(text: str, message: str):
    """Words, a block without atoms, broken CIF."""
    with pytest.raises(InputError) as caught:
        read_given(Given(text=text), "job: template 1")
    assert message in str(caught.value) and str(caught.value).startswith("job: template 1")


def test_a_residue_outside_the_sequence_is_refused():
    """label_seq_id 4 of 3 residues."""
    with pytest.raises(InputError, match="label_seq_id 4; expected 1 to 3"):
        _ = made(residue("GLY", 1, 0) + residue("ALA", 4, 10)).polymers
