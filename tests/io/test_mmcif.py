"""Written mmCIF and PDB files read back identically in gemmi, Biopython and mdtraj; mmCIF keeps the traps of its readers in mind."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from structgen.errors import NumericalError
from structgen.features.tokens import Tokens
from structgen.io.mmcif import write_mmcif
from structgen.io.pdb import pdb_chain_ids, write_pdb
from tests.io.made import RNA_AND_LIGAND, made_prediction, made_provenance, made_tokens
from tests.io.read_back import ReadBack, biopython_sequences, by_biopython, by_gemmi, by_mdtraj, gemmi_sequences

ALL_TWENTY = "ARNDCQEGHILKMFPSTWYV"
JOBS = {
    "one chain": (("A", ALL_TWENTY),),
    "three chains, two alike": (("A", "MKTAYIAK"), ("B", "GSHMW"), ("C", "MKTAYIAK")),
    "ids of two letters": (("AA", "MKTW"), ("A", "GPGC"), ("Zz9", "MKTW"), ("NA", "VV")),
    "unknown residues": (("A", "XMXXKTX"), ("b", "X")),
    "a thousand residues": (("A", ALL_TWENTY * 52), ("B", ALL_TWENTY[::-1] * 3)),
    "glycine only": (("G", "GGGGG"),),
    "one residue": (("1", "G"),),
}


@pytest.fixture(params=JOBS, scope="module")
def tokens(request: pytest.FixtureRequest) -> Tokens:
    return made_tokens(*JOBS[request.param])


@pytest.fixture(params=["cif", "pdb"], scope="module")
def written(request: pytest.FixtureRequest, tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prediction in one of the two formats."""
    path = tmp_path_factory.mktemp("written") / f"model.{request.param}"
    write = {"cif": write_mmcif, "pdb": write_pdb}[request.param]
    path.write_text(write(tokens.structure, made_prediction(tokens), made_provenance(*tokens.structure.chain_ids)))
    return path


def _chains(tokens: Tokens, path: Path) -> tuple[str, ...]:
    return tokens.structure.chain_ids if path.suffix == ".cif" else pdb_chain_ids(tokens.structure)


@pytest.mark.parametrize("read", [by_gemmi, by_biopython, by_mdtraj])
def test_every_atom_reads_back(read, tokens: Tokens, written: Path) -> None:
    """Chain, number, residue, name, element and order of every atom; coordinates to half of 0.001, B to half of 0.01."""
    s, prediction, chains = tokens.structure, made_prediction(tokens), _chains(tokens, written)
    found: ReadBack = read(written)
    asym, r = [chains[c] for c in s.atom_chain], s.atom_residue
    expected = list(zip(asym, s.residue_numbers[r].tolist(), s.residue_names[r], s.atom_names, s.elements, strict=True))
    assert found.atoms == expected
    assert np.abs(found.positions - prediction.positions).max() <= 0.0005 + 2e-5  # the readers hold float32
    if found.b is not None:
        assert np.abs(found.b - prediction.atom_plddt).max() <= 0.005 + 1e-5
        assert (found.b[0], found.b[-1]) == (0, 100)


def test_only_mdtraj_on_mmcif_lacks_b_factors(tokens: Tokens, written: Path) -> None:
    """The comparison above skips nothing else."""
    missing = {read.__name__ for read in (by_gemmi, by_biopython, by_mdtraj) if read(written).b is None}
    assert missing == ({"by_mdtraj"} if written.suffix == ".cif" else set())


@pytest.mark.parametrize("read", [gemmi_sequences, biopython_sequences])
def test_sequences_equal_the_input(read, tokens: Tokens, written: Path) -> None:
    """Declared sequences and those of the atoms are the letters of the job."""
    assert read(written) == dict(zip(_chains(tokens, written), tokens.structure.chain_sequences, strict=True))


def _block(tokens: Tokens, **changes: object) -> gemmi.cif.Block:
    prediction = replace(made_prediction(tokens), **changes)
    return gemmi.cif.read_string(write_mmcif(tokens.structure, prediction, made_provenance(*tokens.structure.chain_ids))).sole_block()


COLUMNS = """group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id pdbx_PDB_ins_code
Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id pdbx_PDB_model_num"""
CATEGORIES = """entry audit_conform pdbx_data_usage struct citation software ma_software_group ma_data ma_target_entity
ma_target_entity_instance ma_model_list ma_protocol_step ma_qa_metric ma_qa_metric_global ma_qa_metric_local entity entity_poly
entity_poly_seq pdbx_poly_seq_scheme struct_asym chem_comp atom_type atom_site"""


def test_categories_and_columns(tokens: Tokens) -> None:
    """Those of AlphaFold 3 and ModelCIF; `_atom_site` in AlphaFold 3's order, ids from 1 without a gap, author ids equal to label ids."""
    block = _block(tokens)
    assert [name[1:-1] for name in block.get_mmcif_category_names()] == CATEGORIES.split()
    sites = block.get_mmcif_category("_atom_site.")
    assert list(sites) == COLUMNS.split()
    assert sites["id"] == [str(i + 1) for i in range(len(tokens.atom_token))]
    assert sites["auth_asym_id"] == sites["label_asym_id"] and sites["auth_seq_id"] == sites["label_seq_id"]
    assert set(sites["group_PDB"]) == {"ATOM"}


def test_references_between_tables_hold(tokens: Tokens) -> None:
    """Every id that a table refers to is defined in the table that it refers to."""
    block = _block(tokens)

    def values(tag: str) -> set[str]:
        return {gemmi.cif.as_string(value) for value in block.find_values(tag)}

    for referring, defining in {
        "_atom_site.label_entity_id": "_entity.id",
        "_atom_site.label_asym_id": "_struct_asym.id",
        "_atom_site.label_comp_id": "_chem_comp.id",
        "_atom_site.type_symbol": "_atom_type.symbol",
        "_struct_asym.entity_id": "_entity.id",
        "_entity_poly.entity_id": "_entity.id",
        "_entity_poly_seq.mon_id": "_chem_comp.id",
        "_pdbx_poly_seq_scheme.asym_id": "_struct_asym.id",
        "_ma_target_entity.entity_id": "_entity.id",
        "_ma_target_entity.data_id": "_ma_data.id",
        "_ma_target_entity_instance.asym_id": "_struct_asym.id",
        "_ma_model_list.data_id": "_ma_data.id",
        "_ma_qa_metric_global.metric_id": "_ma_qa_metric.id",
        "_ma_qa_metric_local.metric_id": "_ma_qa_metric.id",
        "_ma_qa_metric_local.label_asym_id": "_struct_asym.id",
        "_ma_qa_metric.software_group_id": "_ma_software_group.group_id",
        "_ma_protocol_step.software_group_id": "_ma_software_group.group_id",
        "_ma_software_group.software_id": "_software.pdbx_ordinal",
        "_software.citation_id": "_citation.id",
    }.items():
        assert values(referring) - {""} <= values(defining) and values(referring), referring


def test_entities_are_the_distinct_sequences() -> None:
    """Copies share an entity, its sequence is written once, and the strands are listed."""
    block = _block(made_tokens(*JOBS["three chains, two alike"]))
    polymers = block.get_mmcif_category("_entity_poly.")
    assert polymers["pdbx_seq_one_letter_code_can"] == ["MKTAYIAK", "GSHMW"]
    assert polymers["pdbx_strand_id"] == ["A,C", "B"]
    assert block.get_mmcif_category("_entity.")["pdbx_number_of_molecules"] == ["2", "1"]
    assert len(block.find_values("_entity_poly_seq.num")) == 13
    assert len(block.find_values("_pdbx_poly_seq_scheme.seq_id")) == 21


def test_unknown_residues_are_written_as_the_archive_does() -> None:
    """UNK in the sequence, brackets in the written letters, X in the canonical ones; long sequences keep their brackets whole."""
    polymers = _block(made_tokens(("A", "MX" + "X" * 60))).get_mmcif_category("_entity_poly.")
    assert polymers["pdbx_seq_one_letter_code"][0].replace("\n", "") == "M" + "(UNK)" * 61
    assert all(line.count("(") == line.count(")") for line in polymers["pdbx_seq_one_letter_code"][0].split("\n"))
    assert polymers["pdbx_seq_one_letter_code_can"] == ["M" + "X" * 61]


def test_quality_metrics_equal_the_prediction(tokens: Tokens) -> None:
    """Local pLDDT is the mean over a residue's atoms; ipTM is listed between chains only."""
    prediction, block = made_prediction(tokens), _block(tokens)
    local = np.array(block.get_mmcif_category("_ma_qa_metric_local.")["metric_value"], float)
    expected = [prediction.atom_plddt[tokens.structure.atom_residue == r].mean() for r in range(len(tokens.residue))]
    np.testing.assert_allclose(local, expected, atol=0.005 + 1e-4)
    names = dict(zip(block.find_values("_ma_qa_metric.id"), block.find_values("_ma_qa_metric.name"), strict=True))
    whole = block.get_mmcif_category("_ma_qa_metric_global.")
    values = {names[id]: value for id, value in zip(whole["metric_id"], whole["metric_value"], strict=True)}
    several = {"ipTM": "0.34"} if len(tokens.structure.chain_ids) > 1 else {}
    assert values == {"pLDDT": f"{prediction.summary.mean_plddt:.2f}", "pTM": "0.61"} | several


def test_primes_ligands_and_ions() -> None:
    """Names with a prime stand in double quotes, rows split by the rules of a shell, non-polymers are HETATM without label_seq_id."""
    size = len(RNA_AND_LIGAND.atom_names)
    prediction = replace(
        made_prediction(made_tokens(("A", "GG"), ("B", "G"))), positions=np.zeros((size, 3), np.float32), atom_plddt=np.full(size, 50.0)
    )
    text = write_mmcif(RNA_AND_LIGAND, prediction, made_provenance("A", "B"))
    rows = [shlex.split(line) for line in text.splitlines() if re.match("ATOM|HETATM", line)]
    assert [row[3] for row in rows] == RNA_AND_LIGAND.atom_names.tolist()
    assert text.count('"O5\'"') == 2
    assert rows[-1][:9] == ["HETATM", "7", "MG", "MG", ".", "MG", "B", "2", "."] and rows[-1][15] == "1"
    assert {row[0] for row in rows[:-1]} == {"ATOM"}
    block = gemmi.cif.read_string(text).sole_block()
    assert block.get_mmcif_category("_entity.")["type"] == ["polymer", "non-polymer"]
    assert block.get_mmcif_category("_pdbx_nonpoly_scheme.")["mon_id"] == ["MG"]
    assert block.get_mmcif_category("_chem_comp.")["type"] == ["RNA LINKING", "NON-POLYMER", "RNA LINKING"]
    assert gemmi.make_structure_from_block(block)[0].count_atom_sites() == size


def test_text_of_the_user_cannot_break_the_file() -> None:
    """Quotes, semicolons, newlines, keywords and other alphabets in names and settings stay inside their values; the file is ASCII."""
    tokens = made_tokens(("A", "GA"))
    hostile = "it's \"x\"\n;loop_\ndata_evil _y\t\x00\r'é日"
    provenance = made_provenance("A", model=hostile, settings={"name": hostile}, notes=(hostile,))
    text = write_mmcif(tokens.structure, made_prediction(tokens), provenance)
    block = gemmi.cif.read_string(text).sole_block()
    assert text.isascii()
    written = gemmi.cif.as_string(block.find_values("_software.name")[1])
    assert written == "it's \"x\"\n ;loop_\ndata_evil _y\\t\\x00\\r'\\xe9\\u65e5"
    assert gemmi.make_structure_from_block(block)[0].count_atom_sites() == len(tokens.atom_token)


@pytest.mark.parametrize("field", ["positions", "atom_plddt"])
def test_values_that_are_not_finite_are_refused(field: str) -> None:
    """One NaN is an error that names seed and sample."""
    tokens = made_tokens(("A", "GA"))
    values = getattr(made_prediction(tokens), field).copy()
    values.flat[3] = np.nan
    with pytest.raises(NumericalError, match="seed 1, sample 0 are not finite"):
        _block(tokens, **{field: values})


def test_equal_predictions_give_equal_text(tokens: Tokens) -> None:
    """No clock, no memory address, no order of a hash in the file."""
    texts = {write_mmcif(tokens.structure, made_prediction(tokens), made_provenance(*tokens.structure.chain_ids)) for _ in range(2)}
    assert len(texts) == 1
