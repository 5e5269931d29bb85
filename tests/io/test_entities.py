"""Every kind of entity in the files of results: read back by gemmi, Biopython and RDKit with equal content."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from rdkit import Chem

from structgen.features.atoms import build_atoms
from structgen.features.conformers import atom_reference
from structgen.features.job import AtomName, Bond, Chain, Job, Kind, Modification
from structgen.features.tokens import Tokens, tokenise
from structgen.io.extras import extras
from structgen.io.mmcif import write_mmcif
from structgen.io.pdb import pdb_codes, write_pdb
from structgen.io.sdf import sdf_chains, write_sdf
from structgen.io.writer import write_job
from structgen.prediction import Prediction
from tests.io.made import made_prediction, made_provenance
from tests.io.read_back import ReadBack, by_biopython, by_gemmi

SMILES = "C[C@H]([NH3+])C(=O)Oc1ccccc1/C=C/F"


def made_of_everything() -> Job:
    """Protein with a modified residue, a disulfide and a glycan, DNA, RNA, ATP, an ion, and a SMILES ligand in two copies."""

    def at(chain: str, residue: int, atom: str) -> AtomName:
        return AtomName(chain, residue, atom)

    chains = (
        Chain("A", Kind.PROTEIN, "CSNTKC", (Modification(2, "SEP"),)),
        Chain("B", Kind.DNA, "ACGT"),
        Chain("C", Kind.RNA, "GU"),
        Chain("D", Kind.LIGAND, residues=("ATP",)),
        Chain("E", Kind.LIGAND, residues=("MG",)),
        Chain("F", Kind.LIGAND, residues=("NAG", "NAG")),
        Chain("G", Kind.LIGAND, smiles=SMILES),
        Chain("H", Kind.LIGAND, smiles=SMILES),
    )
    bonds = (
        Bond(at("A", 3, "ND2"), at("F", 1, "C1")),
        Bond(at("F", 1, "O4"), at("F", 2, "C1")),
        Bond(at("A", 1, "SG"), at("A", 6, "SG")),
        Bond(at("D", 1, "O1G"), at("E", 1, "MG")),
    )
    return Job("everything", "job", chains, bonds=bonds)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return tokenise(build_atoms(made_of_everything()))


@pytest.fixture(scope="module")
def prediction(tokens: Tokens) -> Prediction:
    """Every residue in its reference conformer, side by side."""
    away = 12.0 * tokens.structure.atom_residue[:, None] * np.array([1, 0, 0])
    return replace(made_prediction(tokens), positions=(atom_reference(tokens.structure) + away).astype(np.float32))


def text_of(tokens: Tokens, prediction: Prediction, suffix: str) -> str:
    write = write_mmcif if suffix == "cif" else write_pdb
    return write(tokens.structure, prediction, made_provenance(*tokens.structure.chain_ids))


@pytest.mark.parametrize("suffix", ["cif", "pdb"])
@pytest.mark.parametrize("read", [by_gemmi, by_biopython])
def test_every_atom_reads_back(read, suffix: str, tokens: Tokens, prediction: Prediction, tmp_path: Path) -> None:
    """Chain, number, component, name and element of every atom in order; coordinates and B."""
    path = tmp_path / f"model.{suffix}"
    path.write_text(text_of(tokens, prediction, suffix))
    found: ReadBack = read(path)
    s, r = tokens.structure, tokens.structure.atom_residue
    codes = pdb_codes(s) if suffix == "pdb" else {code: code for code in s.residue_names.tolist()}
    names = [codes[code] for code in s.residue_names[r].tolist()]
    asym = [s.chain_ids[c] for c in s.atom_chain]
    assert found.atoms == list(zip(asym, s.residue_numbers[r].tolist(), names, s.atom_names, s.elements, strict=True))
    assert np.abs(found.positions - prediction.positions).max() < 0.00055
    assert found.b is not None and np.abs(found.b - prediction.atom_plddt).max() < 0.0051


def test_bonds_between_residues_are_connections(tokens: Tokens, prediction: Prediction) -> None:
    """`_struct_conn` holds each once with its kind: peptide bonds of the modified residue, glycan, disulfide, metal; so does PDB."""
    expected = {
        ("covale", "A/CYS 1/C", "A/SEP 2/N"),
        ("covale", "A/SEP 2/C", "A/ASN 3/N"),
        ("covale", "A/ASN 3/ND2", "F/NAG 1/C1"),
        ("covale", "F/NAG 1/O4", "F/NAG 2/C1"),
        ("disulf", "A/CYS 1/SG", "A/CYS 6/SG"),
        ("metalc", "D/ATP 1/O1G", "E/MG 1/MG"),
    }
    block = gemmi.cif.read_string(text_of(tokens, prediction, "cif")).sole_block()
    kinds = block.get_mmcif_category("_struct_conn.")["conn_type_id"]
    ends = [(str(c.partner1), str(c.partner2)) for c in gemmi.make_structure_from_block(block).connections]
    assert {(kind, *pair) for kind, pair in zip(kinds, ends, strict=True)} == expected
    read = gemmi.read_pdb_string(text_of(tokens, prediction, "pdb"))
    assert {(str(c.partner1), str(c.partner2)) for c in read.connections} == {pair[1:] for pair in expected}
    assert [(m.res_id.name, m.parent_comp_id) for m in read.mod_residues] == [("SEP", "SER")]


def test_entities_and_sequences(tokens: Tokens, prediction: Prediction) -> None:
    """Types of entities, one for both copies of the ligand; sequences with the modified residue in brackets and as its parent."""
    block = gemmi.cif.read_string(text_of(tokens, prediction, "cif")).sole_block()
    entities = block.get_mmcif_category("_entity.")
    assert entities["type"] == ["polymer"] * 3 + ["non-polymer"] * 2 + ["branched", "non-polymer"]
    assert entities["pdbx_number_of_molecules"] == ["1"] * 6 + ["2"]
    polymers = block.get_mmcif_category("_entity_poly.")
    assert polymers["type"] == ["polypeptide(L)", "polydeoxyribonucleotide", "polyribonucleotide"]
    assert polymers["pdbx_seq_one_letter_code"] == ["C(SEP)NTKC", "(DA)(DC)(DG)(DT)", "GU"]
    assert polymers["pdbx_seq_one_letter_code_can"] == ["CSNTKC", "ACGT", "GU"]
    assert block.get_mmcif_category("_pdbx_branch_scheme.")["mon_id"] == ["NAG", "NAG"]
    assert block.get_mmcif_category("_pdbx_entity_nonpoly.")["comp_id"] == ["ATP", "MG", "LIG-G"]
    sites = block.get_mmcif_category("_atom_site.")
    kinds = set(zip(sites["label_comp_id"], sites["group_PDB"], strict=True))
    hetero = {code for code, group in kinds if group == "HETATM"}
    assert hetero == {"SEP", "ATP", "MG", "NAG", "LIG-G"} and not {code for code, group in kinds if group == "ATOM"} & hetero
    lines = [shlex.split(line) for line in text_of(tokens, prediction, "cif").splitlines() if line.startswith("HETATM")]
    assert {row[8] for row in lines if row[6] != "A"} == {"."}


def test_components_are_defined_with_their_bonds(tokens: Tokens, prediction: Prediction) -> None:
    """gemmi makes every component of the tables: all atoms, all bonds with their orders."""
    block = gemmi.cif.read_string(text_of(tokens, prediction, "cif")).sole_block()
    bonds, atoms = block.get_mmcif_category("_chem_comp_bond."), block.get_mmcif_category("_chem_comp_atom.")
    for component in tokens.structure.components:
        own = [name for code, name in zip(atoms["comp_id"], atoms["atom_id"], strict=True) if code == component.code]
        assert own == component.atom_names.tolist()
        orders = [order for code, order in zip(bonds["comp_id"], bonds["value_order"], strict=True) if code == component.code]
        assert [("", "sing", "doub", "trip")[order] for order in component.orders] == orders
    assert set(atoms["comp_id"]) == {"SEP", "ATP", "MG", "NAG", "LIG-G"}


def test_the_sdf_of_a_ligand_is_the_molecule_that_was_given(tokens: Tokens, prediction: Prediction) -> None:
    """RDKit reads the input's SMILES back, stereochemistry and charge included; a mirror image is told by name."""
    structure = tokens.structure
    assert [structure.chain_ids[c] for c in sdf_chains(structure)] == ["D", "F", "G", "H"]
    text = write_sdf(structure, prediction, 6, title="x")
    molecule = Chem.MolFromMolBlock(text)
    assert Chem.MolToSmiles(molecule) == Chem.CanonSmiles(SMILES)
    np.testing.assert_allclose(molecule.GetConformer().GetPositions(), prediction.positions[structure.atom_chain == 6], atol=1e-4)
    assert ">  <centres_unlike_the_input>\nnone\n" in text
    mirrored = write_sdf(structure, replace(prediction, positions=prediction.positions * np.float32(-1)), 6, title="x")
    assert ">  <centres_unlike_the_input>\n1.C2\n" in mirrored
    assert Chem.MolToSmiles(Chem.MolFromMolBlock(mirrored)) == Chem.CanonSmiles(SMILES.replace("@", "@@"))


def test_atp_as_sdf_has_the_dictionarys_bonds(tokens: Tokens, prediction: Prediction) -> None:
    """ATP by its canonical SMILES."""
    molecule = Chem.MolFromMolBlock(write_sdf(tokens.structure, prediction, 3, title="x"))
    for atom in molecule.GetAtoms():
        if atom.GetAtomicNum() == 15:
            atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)  # of two oxygens that differ by a proton alone
    atp = "Nc1ncnc2c1ncn2[C@@H]1O[C@H](COP(=O)(O)OP(=O)(O)OP(=O)(O)O)[C@@H](O)[C@H]1O"
    assert Chem.CanonSmiles(Chem.MolToSmiles(molecule)) == Chem.CanonSmiles(atp)


def test_geometry_of_every_chain_is_in_the_extras(tokens: Tokens, prediction: Prediction) -> None:
    """The reference: all centres right but those whose neighbour is a residue away; every wrong one is named."""
    told = json.loads(extras(tokens, prediction, made_provenance("A")))["geometry"]
    assert set(told) == {"bonds", "angles", "stereocentres", "double_bonds"}
    assert told["double_bonds"] == {"checked": [0, 0, 0, 0, 0, 0, 1, 1], "wrong": [0] * 8, "first_wrong": []}
    assert told["stereocentres"]["checked"][6:] == [1, 1] and told["stereocentres"]["wrong"][6:] == [0, 0]
    turned = replace(prediction, positions=prediction.positions * np.float32(-1))
    told = json.loads(extras(tokens, turned, made_provenance("A")))["geometry"]
    assert told["stereocentres"]["wrong"][6:] == [1, 1]
    assert "G:1:C2 G:1:C1 G:1:N1 G:1:C3" in told["stereocentres"]["first_wrong"]


def test_residues_beyond_the_standard_have_their_plddt_in_the_extras(tokens: Tokens, prediction: Prediction) -> None:
    """The modified residue, and every residue of every ligand, each with the mean over its atoms."""
    told = json.loads(extras(tokens, prediction, made_provenance("A")))["residues"]
    expected = [("A", 2, "SEP"), ("D", 1, "ATP"), ("E", 1, "MG"), ("F", 1, "NAG"), ("F", 2, "NAG"), ("G", 1, "LIG-G"), ("H", 1, "LIG-G")]
    assert [(each["chain"], each["position"], each["component"]) for each in told] == expected
    s = tokens.structure
    for each in told:
        own = (s.atom_chain == s.chain_ids.index(each["chain"])) & (s.residue_numbers[s.atom_residue] == each["position"])
        assert each["plddt"] == pytest.approx(prediction.atom_plddt[own].mean(), abs=0.0051)


def test_the_folder_has_an_sdf_for_every_ligand(tokens: Tokens, prediction: Prediction, tmp_path: Path) -> None:
    """Beside each sample and with the best; the job in AlphaFold 3's dialect names what it cannot hold."""
    manifest = write_job(tmp_path, made_of_everything(), tokens, [prediction], made_provenance(*"ABCDEFGH"))
    for chain in "DFGH":
        sample = tmp_path / f"job/seed-1_sample-0/job_seed-1_sample-0_ligand_{chain}.sdf"
        assert sample.read_bytes() == (tmp_path / f"job/job_ligand_{chain}.sdf").read_bytes()
    assert len(list(tmp_path.rglob("*.sdf"))) == 8 and set(manifest.files) >= {"job_ligand_G.sdf", "job_model.pdb"}
    told = json.loads((tmp_path / "job/job_data.json").read_text())
    assert [next(iter(each)) for each in told["sequences"]] == ["protein", "dna", "rna", *["ligand"] * 4]
    assert len(told["bondedAtomPairs"]) == 4
    assert Job.from_json(json.dumps(json.loads((tmp_path / "job/job_job.json").read_text())["job"])) == made_of_everything()
