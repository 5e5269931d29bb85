"""What is particular to a format: ids, copies, older names, assumed bonds, restraints, segments of alignments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from structgen.errors import InputError
from structgen.features.job import Alignments, AtomName, Bond, Contact, Given, Job, Kind, Modification, Pocket
from structgen.io.jobs.colabfold_a3m import columns_of
from structgen.io.jobs.glycan import bonds_in, chai_text, parse_chai, parse_server, server_text, tree_of
from structgen.io.jobs.read import read_source
from structgen.io.jobs.reading import Source
from tests.io.jobs.made import QUERY, SECOND, af3, lay_files, lay_full, protein


def read(text: str, folder: Path, format: str = "", name: str = "x.txt") -> Job:
    (job,) = read_source(Source(name, text, folder), format)
    if isinstance(job, InputError):
        raise job
    return job


def one_protenix(*sequences: dict[str, Any], **rest: Any) -> str:
    return json.dumps([{"name": "x", "sequences": list(sequences), **rest}])


def chain(count: int = 1, **fields: Any) -> dict[str, Any]:
    return {"proteinChain": {"sequence": QUERY, "count": count} | fields}


def test_protenix_numbers_free_ids_around_the_given_ones(tmp_path: Path):
    """Unnamed copies get the next free letter; an id of another form is mapped and noted."""
    job = read(one_protenix(chain(2), chain(2, id=["B", "chain_1"])), tmp_path, "protenix")
    assert [c.id for c in job.chains] == ["A", "C", "B", "D"]
    assert "chain 'chain_1' is called D here: ids have 1 to 4 letters or digits" in job.notes


def test_protenix_bonds_copies_one_by_one(tmp_path: Path):
    """Without copies, copy k is bonded to copy k; unequal counts and one-sided copies are refused; old names are read."""
    bond = {"entity1": "1", "position1": 4, "atom1": "ND2", "entity2": "2", "position2": "1", "atom2": "C1"}
    sugar = {"ligand": {"ligand": "CCD_NAG", "count": 2}}
    job = read(one_protenix(chain(2), sugar, covalent_bonds=[bond]), tmp_path, "protenix")
    assert job.bonds == tuple(Bond(AtomName(a, 4, "ND2"), AtomName(b, 1, "C1")) for a, b in (("A", "C"), ("B", "D")))
    with pytest.raises(InputError, match="found 1 and 2 copies"):
        read(one_protenix(chain(1), sugar, covalent_bonds=[bond]), tmp_path, "protenix")
    with pytest.raises(InputError, match="only one end names its copy"):
        read(one_protenix(chain(2), sugar, covalent_bonds=[bond | {"copy1": 1}]), tmp_path, "protenix")
    with pytest.raises(InputError, match=r"found '3'; expected a whole number from 1 to 2"):
        read(one_protenix(chain(2), sugar, covalent_bonds=[bond | {"entity2": "3"}]), tmp_path, "protenix")


def test_protenix_rings_are_cyclic_chains(tmp_path: Path):
    """A bond of the two ends of one chain, in either direction; between two copies it is a bond."""
    ends = {"entity1": 1, "position1": 8, "atom1": "C", "entity2": 1, "position2": 1, "atom2": "N"}
    job = read(one_protenix(chain(2), covalent_bonds=[ends | {"copy1": 1, "copy2": 1}]), tmp_path, "protenix")
    assert [c.cyclic for c in job.chains] == [True, False] and job.bonds == ()
    job = read(one_protenix(chain(2), covalent_bonds=[ends | {"copy1": 1, "copy2": 2}]), tmp_path, "protenix")
    assert not any(c.cyclic for c in job.chains) and len(job.bonds) == 1


def test_protenix_code_without_prefix_is_no_smiles(tmp_path: Path):
    """`ATP` would be read as SMILES and fail far below; `CCO` and `CN` are SMILES."""
    with pytest.raises(InputError, match="write CCD_ATP"):
        read(one_protenix({"ligand": {"ligand": "ATP", "count": 1}}), tmp_path, "protenix")
    assert read(one_protenix({"ligand": {"ligand": "CCO", "count": 1}}), tmp_path, "protenix").chains[0].smiles == "CCO"


def test_protenix_older_alignments_are_found_by_name(tmp_path: Path):
    """A folder with `non_pairing.a3m` and `pairing.a3m`."""
    (tmp_path / "msa").mkdir()
    msa = {"precomputed_msa_dir": "msa", "pairing_db": "uniref100"}
    with pytest.raises(InputError, match="folder holds no alignment of Protenix"):
        read(one_protenix(chain(msa=msa)), tmp_path, "protenix")
    (tmp_path / "msa" / "pairing.a3m").write_text(f">q\n{QUERY}\n")
    expected = Alignments(paired=(Given(path=str(tmp_path / "msa" / "pairing.a3m")),))
    assert read(one_protenix(chain(msa=msa)), tmp_path, "protenix").chains[0].msa == expected


def test_server_letters_chains_as_it_does(tmp_path: Path):
    """The 27th chain is AA, the 28th BA; glycans follow behind all others; every assumed bond is noted."""
    element = {"sequence": QUERY, "count": 28, "glycans": [{"residues": "NAG(FUC)(NAG)", "position": 4}]}
    text = json.dumps([{"name": "x", "sequences": [{"proteinChain": element}], "dialect": "alphafoldserver", "version": 1}])
    job = read(text, tmp_path)
    assert [c.id for c in job.chains][25:29] == ["Z", "AA", "BA", "CA"] and len(job.chains) == 56
    glycan = job.chains[28]
    assert glycan.residues == ("NAG", "FUC", "NAG")
    assert [b for b in job.bonds if b.second.chain == glycan.id] == [
        Bond(AtomName("A", 4, "ND2"), AtomName("CA", 1, "C1")),
        Bond(AtomName("CA", 1, "O6"), AtomName("CA", 2, "C1")),
        Bond(AtomName("CA", 1, "O4"), AtomName("CA", 3, "C1")),
    ]
    assert "glycan NAG(FUC)(NAG) is chain CA: the bond A 4 ND2 to CA 1 C1 is assumed" in job.notes


@pytest.mark.parametrize(
    "tree", ["NAG(NAG)(BMA)", "NAG(NAG(BMA(MAN)))", "BMA(MAN)(NAG)", "BMA(MAN)(MAN)(MAN)", "GAL(SIA)", "NAG(SIA)", "NAG(FUC)(FUC)"]
)
def test_trees_without_one_usual_linkage_are_refused(tree: str):
    """With the tree in the error."""
    with pytest.raises(InputError, match="linkage of a glycan is not clear") as caught:
        parse_server(tree, "x")
    assert tree in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "NAG(", "NAG)", "NAG(4-1 NAG", "NAG(NAG)", "NAG(4-0 NAG)", "NA", "NAG(4-1 NAG)x", "NAG" + "(4-1 NAG" * 200]
)
def test_broken_trees_are_refused(text: str):
    """Chai's: a linkage at every branch, codes of three characters."""
    with pytest.raises(InputError, match="not the tree of a glycan"):
        parse_chai(text, "x")


def test_trees_and_bonds_are_one():
    """Text to residues and bonds and back, bonds in any order and direction; what is no tree is none."""
    tree = parse_chai("NAG(6-1 FUC)(4-1NAG(4-1 BMA(3-1 MAN)(6-2 SIA)))", "x")
    bonds = bonds_in(tree, "G")
    assert tree.residues == ("NAG", "FUC", "NAG", "BMA", "MAN", "SIA")
    assert bonds[-1] == Bond(AtomName("G", 4, "O6"), AtomName("G", 6, "C2"))
    turned = [Bond(bond.second, bond.first) for bond in reversed(bonds)]
    assert tree_of(tree.residues, "G", turned) == tree and chai_text(tree) == "NAG(6-1 FUC)(4-1 NAG(4-1 BMA(3-1 MAN)(6-2 SIA)))"
    assert server_text(tree) is None and server_text(parse_server("NAG(FUC)(NAG(BMA))", "x")) == "NAG(FUC)(NAG(BMA))"
    ring = [*bonds, Bond(AtomName("G", 1, "O3"), AtomName("G", 6, "C1"))]
    assert tree_of(tree.residues, "G", ring) is None and tree_of(tree.residues, "G", bonds[1:]) is None


def test_chai_restraints_become_bonds_contacts_and_pockets(tmp_path: Path):
    """Chains by letter; modified residues in line; the letter of a residue is compared."""
    lay_full(tmp_path, "chai")
    job = read((tmp_path / "full.fasta").read_text(), tmp_path, name=str(tmp_path / "full.fasta"))
    assert job.chains[0].sequence == "MKTNAYXW" and job.chains[0].modifications == (Modification(7, "SEP"),)
    assert Bond(AtomName("A", 4, "ND2"), AtomName("F", 1, "C1")) in job.bonds and len(job.bonds) == 3
    assert job.contacts == (Contact(AtomName("A", 1), AtomName("B", 1, "CA"), 8.5, 2.0, confidence=0.5, name="near"),)
    assert job.pockets == (Pocket("E", (AtomName("A", 2),), 6.0, name="site"),)
    table = tmp_path / "full.restraints"
    for before, after, message in (
        ("A,N4@ND2", "A,K4@ND2", "residue is another one; found K at 4 of chain A; expected N"),
        ("near,A", "near,Q", "line 3: chain does not exist; found 'Q'"),
        ("near,A", "bond,A", "restraint is given twice; found 'bond' again, first in line 2"),
        (",8.5,", ",25,", "max_distance_angstrom cannot be used; found '25'"),
        ("contact", "touch", "connection_type is not known; found 'touch'"),
        ("A,M1,B", "A,1M,B", "not a residue; found '1M'"),
        ("comment", "remark", "column is not known; found 'remark'"),
        ("site,E,,", "site,E,A1,", "pocket names a residue of its binder"),
        (",linked", ",linked,x", "row has another width; found 11 columns"),
    ):
        whole = table.read_text()
        table.write_text(whole.replace(before, after, 1))
        with pytest.raises(InputError) as caught:
            read((tmp_path / "full.fasta").read_text(), tmp_path, name=str(tmp_path / "full.fasta"))
        assert message in str(caught.value) and "full.restraints" in str(caught.value)
        table.write_text(whole)


def test_boltz_gives_templates_to_proteins_and_affinity_to_a_ligand(tmp_path: Path):
    """Without chain ids a template serves every protein; the lists must fit; only a small molecule has an affinity."""
    lay_files(tmp_path)
    job = f"sequences:\n- protein: {{id: [A, B], sequence: {QUERY}}}\n- rna: {{id: R, sequence: GG}}\n"
    read_job = read(job + "templates:\n- cif: template.cif\n", tmp_path, name="x.yaml")
    assert [bool(c.templates) for c in read_job.chains] == [True, True, False]
    for more, message in (
        ("templates:\n- {cif: template.cif, chain_id: [A, B], template_id: A}\n", "found 2 chain_id and 1 template_id"),
        ("templates:\n- {cif: template.cif, chain_id: A, template_id: Q}\n", "template has no such chain; found 'Q'; expected one of A"),
        ("templates:\n- {cif: template.cif, chain_id: R}\n", "template of a chain that is no protein"),
        ("templates:\n- {cif: template.cif, force: true}\n", "forced template without a threshold"),
        ("properties:\n- affinity: {binder: A}\n", "binder of an affinity is one small molecule"),
        ("constraints:\n- bonds: {}\n", "did you mean 'bond'?"),
    ):
        with pytest.raises(InputError) as caught:
            read(job + more, tmp_path, name="x.yaml")
        assert message in str(caught.value)


def test_boltz_ids_may_be_longer_than_ours(tmp_path: Path):
    """Five characters are mapped, six refused; constraints speak of the file's ids."""
    job = f"sequences:\n- protein: {{id: HEAVY, sequence: {QUERY}}}\n- ligand: {{id: L, ccd: NAG}}\nconstraints:\n"
    job += "- bond: {atom1: [HEAVY, 4, ND2], atom2: [L, 1, C1]}\n"
    assert read(job, tmp_path, name="x.yaml").bonds == (Bond(AtomName("A", 4, "ND2"), AtomName("L", 1, "C1")),)
    with pytest.raises(InputError, match="chain id cannot be used; found 'HEAVYY'; expected 1 to 5 characters"):
        read(job.replace("HEAVY", "HEAVYY"), tmp_path, name="x.yaml")


def test_openfold3_takes_files_of_known_names_from_folders(tmp_path: Path):
    """Others lie there unused, as with OpenFold3; switches leave alignments out with a note; bonds by number are refused."""
    (tmp_path / "A").mkdir()
    for name in ("uniref90_hits.a3m", "mgnify_hits.sto", "notes.txt"):
        (tmp_path / "A" / name).write_text("x")
    element = {"molecule_type": "protein", "chain_ids": "A", "sequence": QUERY, "main_msa_file_paths": "A"}
    query = {"queries": {"x": {"chains": [element]}}}
    msa = read(json.dumps(query), tmp_path).chains[0].msa
    assert msa and [Path(given.path).name for given in msa.unpaired] == ["mgnify_hits.sto", "uniref90_hits.a3m"]
    query["queries"]["x"]["use_msas"] = False  # type: ignore[assignment]
    job = read(json.dumps(query), tmp_path)
    assert job.chains[0].msa == Alignments() and "chain A: main_msa_file_paths is not used, as the query says" in job.notes
    query["queries"]["x"]["covalent_bonds"] = [{"atom": 3}]  # type: ignore[assignment]
    with pytest.raises(InputError, match="bonds cannot be understood in this format"):
        read(json.dumps(query), tmp_path)
    with pytest.raises(InputError, match=r"query 1 \(\.\.\): .*name cannot be used"):
        read(json.dumps({"queries": {"..": {"chains": [element]}}}), tmp_path)


def test_colabfold_rows_are_cut_where_chains_end():
    """Insertions go with the next column, also over a border; one segment is unpaired, several are paired; repeats are dropped."""
    text = (
        f"#8,6\t2,1\n>101\t102\n{QUERY}{SECOND}\n>a\tb\nMKTNAYSWxGSHMKR\n>a\tb\nMKTNAYSWxGSHMKR\n>101\n{QUERY}------\n>u\nMK------------\n"
    )
    (first, two, msa), (second, one, other) = columns_of(text + "\0", "x")
    assert (first, two, second, one) == (QUERY, 2, SECOND, 1)
    assert msa.unpaired == (Given(text=f">query\n{QUERY}\n>u\nMK------\n"),) and other.unpaired == ()
    assert msa.paired == (Given(text=f"key,sequence\n,{QUERY}\n1,{QUERY}\n"),)
    assert other.paired == (Given(text=f"key,sequence\n,{SECOND}\n1,xGSHMKR\n"),)
    for wrong, message in (
        (text.replace("#8,6", "#8,7"), "expected 15, the sum of the lengths"),
        (text.replace("\t2,1", "\t2"), "do not fit"),
    ):
        with pytest.raises(InputError, match=message):
            columns_of(wrong, "x")


def test_alphafold3_writes_the_lowest_version_that_holds_the_job(tmp_path: Path):
    """1 for the plain case, 2 for paths, 4 for descriptions; read and written numbers agree."""
    from structgen.io.jobs.formats import FORMATS

    lay_files(tmp_path)
    for fields, version in (
        ({}, 1),
        ({"unpairedMsa": "", "pairedMsa": ""}, 1),
        ({"unpairedMsaPath": "first.a3m", "pairedMsa": ""}, 2),
        ({"description": "x"}, 4),
    ):
        job = read(json.dumps(af3(version=4, sequences=[protein(**fields)])), tmp_path)
        assert json.loads(FORMATS["alphafold3"].write(job).data)["version"] == version
    assert job.chains[0].kind is Kind.PROTEIN
