"""Job files of every format that hold all that the format can hold, and the small files that they name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemmi
import yaml

from structgen.errors import InputError
from structgen.features.job import Job
from structgen.io.jobs.read import read_jobs
from structgen.io.jobs.reading import Options
from workflows.inputs import understand

QUERY, SECOND = "MKTNAYSW", "GSHMKR"
A3M = f">query\n{QUERY}\n>hit\nMKTaNAYS-\n"
PAIRED = f">query\n{QUERY}\n>tr|A0A1|X_HUMAN\nMRTNAYSW\n"
TABLE = f"key,sequence\n,{QUERY}\n7,MRTNAYSW\n,MKTNAYS-\n"
RNA_A3M = ">query\nGGCA\n>hit\nGG-A\n"
OPTIONS = Options()


def structure_cif(*sequences: str) -> str:
    """mmCIF of chains A, B, ... with one atom a residue."""
    structure = gemmi.Structure()
    structure.name = "made"
    model = gemmi.Model(1)
    for k, sequence in enumerate(sequences):
        chain = gemmi.Chain("ABCDEF"[k])
        for number, letter in enumerate(sequence, 1):
            residue = gemmi.Residue()
            residue.name, residue.seqid = gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA), gemmi.SeqId(number, " ")
            atom = gemmi.Atom()
            atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(3.8 * number, 0, 10 * k)
            residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    structure.assign_label_seq_id()
    return structure.make_mmcif_document().as_string()


def component_cif(code: str = "ABC-1") -> str:
    """A component of two atoms with all that AlphaFold 3 asks for."""
    return f"""data_{code}
_chem_comp.id {code}
_chem_comp.name 'made up'
_chem_comp.type non-polymer
_chem_comp.formula 'C O'
_chem_comp.mon_nstd_parent_comp_id ?
_chem_comp.pdbx_synonyms ?
_chem_comp.formula_weight 28.01
loop_
_chem_comp_atom.comp_id
_chem_comp_atom.atom_id
_chem_comp_atom.type_symbol
_chem_comp_atom.charge
_chem_comp_atom.pdbx_leaving_atom_flag
_chem_comp_atom.pdbx_model_Cartn_x_ideal
_chem_comp_atom.pdbx_model_Cartn_y_ideal
_chem_comp_atom.pdbx_model_Cartn_z_ideal
{code} C1 C 0 N 0.0 0.0 0.0
{code} O1 O 0 N 1.2 0.0 0.0
loop_
_chem_comp_bond.comp_id
_chem_comp_bond.atom_id_1
_chem_comp_bond.atom_id_2
_chem_comp_bond.value_order
_chem_comp_bond.pdbx_aromatic_flag
{code} C1 O1 DOUB N
"""


def af3(**changes: Any) -> dict[str, Any]:
    """A small AlphaFold 3 job; a change of None drops the key."""
    job: dict[str, Any] = {
        "dialect": "alphafold3",
        "version": 1,
        "name": "made",
        "modelSeeds": [1],
        "sequences": [{"protein": {"id": "A", "sequence": QUERY}}],
    }
    job |= changes
    return {key: value for key, value in job.items() if value is not None}


def protein(**fields: Any) -> dict[str, Any]:
    """An element of AlphaFold 3's sequences."""
    return {"protein": {"id": "A", "sequence": QUERY} | fields}


def ligand(**fields: Any) -> dict[str, Any]:
    """A ligand of AlphaFold 3's sequences."""
    return {"ligand": {"id": "L"} | fields}


GLYCAN_BONDS = [[["A", 4, "ND2"], ["G", 1, "C1"]], [["G", 1, "O4"], ["G", 2, "C1"]]]


def alphafold3_full() -> str:
    """Everything that AlphaFold 3's JSON can hold."""
    template = {"mmcif": structure_cif("MKTNAY"), "queryIndices": [0, 1, 2], "templateIndices": [1, 2, 4]}
    first = protein(
        id=["A", "B"], modifications=[{"ptmType": "SEP", "ptmPosition": 7}], unpairedMsa=A3M, pairedMsa="", templates=[template]
    )
    other = {"id": "C", "sequence": SECOND, "unpairedMsaPath": "second.a3m", "pairedMsaPath": "second_paired.a3m", "templates": []}
    file = {"id": "H", "sequence": QUERY, "unpairedMsa": "", "pairedMsa": "", "templates": [{"mmcifPath": "template.cif"}]}
    rna = {"id": "R", "sequence": "GGCA", "modifications": [{"modificationType": "2MG", "basePosition": 2}], "unpairedMsa": RNA_A3M}
    dna = {"id": "D", "sequence": "GATC", "modifications": [{"modificationType": "5CM", "basePosition": 4}], "description": "strand"}
    elements = [first, {"protein": other}, {"protein": file}, {"rna": rna}, {"dna": dna}, ligand(id="G", ccdCodes=["NAG", "NAG"])]
    elements += [ligand(id="S", smiles="CC(=O)O"), ligand(id=["M", "N"], ccdCodes=["MG"]), ligand(id="O", ccdCodes=["ABC-1"])]
    bonds = [*GLYCAN_BONDS, [["A", 1, "SD"], ["C", 2, "OG"]]]
    return json.dumps(af3(version=4, modelSeeds=[7, 2**32 - 1], sequences=elements, bondedAtomPairs=bonds, userCCD=component_cif()))


def server_full() -> str:
    """Everything that AlphaFold Server's list can hold."""
    tree = "NAG(FUC)(NAG(BMA(MAN)(MAN)))"
    changed = {"modifications": [{"ptmType": "CCD_SEP", "ptmPosition": 7}], "glycans": [{"residues": tree, "position": 4}]}
    sequences = [
        {"proteinChain": {"sequence": QUERY, "count": 2, "useStructureTemplate": False} | changed},
        {"proteinChain": {"sequence": SECOND}},
        {"dnaSequence": {"sequence": "GATC", "count": 1, "modifications": [{"modificationType": "CCD_5CM", "basePosition": 4}]}},
        {"rnaSequence": {"sequence": "GGCA", "count": 2}},
        {"ligand": {"ligand": "CCD_ATP", "count": 2}},
        {"ion": {"ion": "MG", "count": 3}},
    ]
    job = {"name": "full", "modelSeeds": ["5", 6], "sequences": sequences, "dialect": "alphafoldserver", "version": 1}
    return json.dumps([job, {"name": "second", "modelSeeds": [], "sequences": sequences[1:2]}])


def boltz_full() -> str:
    """Everything that Boltz's YAML can hold."""
    bond = {"bond": {"atom1": ["A1", 4, "ND2"], "atom2": ["G", 1, "C1"]}}
    sugar = {"bond": {"atom1": ["G", 1, "O4"], "atom2": ["G", 2, "C1"]}}
    pocket = {"pocket": {"binder": "S", "contacts": [["A1", 1], ["G", "C2"]], "max_distance": 5.5, "force": True}}
    contact = {"contact": {"token1": ["A1", 2], "token2": ["B", 3], "max_distance": 9.0}}
    changed = [{"position": 7, "ccd": "SEP"}]
    sequences = [
        {"protein": {"id": ["A1", "A2"], "sequence": QUERY, "msa": "first.a3m", "modifications": changed, "cyclic": True}},
        {"protein": {"id": "B", "sequence": QUERY, "msa": "first.csv"}},
        {"protein": {"id": "C", "sequence": SECOND, "msa": "empty"}},
        {"rna": {"id": "R", "sequence": "GGCA", "cyclic": True}},
        {"dna": {"id": "D", "sequence": "GATC", "modifications": [{"position": 4, "ccd": "5CM"}]}},
        {"ligand": {"id": "G", "ccd": ["NAG", "NAG"]}},
        {"ligand": {"id": "S", "smiles": "CC(=O)O"}},
        {"ligand": {"id": "M", "ccd": "MG"}},
    ]
    templates = [
        {"cif": "template.cif", "chain_id": ["A1", "B"], "template_id": ["A", "A"], "force": True, "threshold": 2.0},
        {"cif": "template.cif", "chain_id": "C"},
    ]
    body = {"version": 1, "sequences": sequences, "constraints": [bond, sugar, pocket, contact], "templates": templates}
    return yaml.safe_dump(body | {"properties": [{"affinity": {"binder": "S"}}]}, sort_keys=False)


BOLTZ_FASTA_FULL = (
    f">A1|protein|first.a3m\n{QUERY}\n>B|protein|empty\n{SECOND}\n>C|rna\nGGCA\n>D|DNA\nGATC\n>E|ccd\nATP\n>F|smiles\nCC(=O)O\n"
)


def protenix_full() -> str:
    """Everything that Protenix's JSON can hold."""
    first = {"sequence": QUERY, "count": 2, "id": ["A", "X1"], "modifications": [{"ptmType": "CCD_SEP", "ptmPosition": 7}]}
    first |= {"unpairedMsaPath": "first.a3m", "pairedMsaPath": "first_paired.a3m", "templatesPath": "hits.a3m"}
    sequences = [
        {"proteinChain": first},
        {"proteinChain": {"sequence": SECOND, "count": 1}},
        {"dnaSequence": {"sequence": "GATC", "count": 1, "modifications": [{"modificationType": "CCD_5CM", "basePosition": 4}]}},
        {"rnaSequence": {"sequence": "GGCA", "count": 1, "unpairedMsaPath": "rna.a3m"}},
        {"ligand": {"ligand": "CCD_NAG_NAG", "count": 2}},
        {"ligand": {"ligand": "CC(=O)O", "count": 1}},
        {"ligand": {"ligand": "FILE_ligand.sdf", "count": 1}},
        {"ion": {"ion": "MG", "count": 2}},
    ]
    bonds = [
        {"entity1": "1", "position1": "4", "atom1": "ND2", "entity2": 5, "position2": 1, "atom2": "C1"},
        {"left_entity": 5, "left_position": 1, "left_atom": "O4", "right_entity": 5, "right_position": 2, "right_atom": "C1"},
        {"entity1": 2, "position1": 1, "atom1": "N", "entity2": 2, "position2": 6, "atom2": "C"},
        {"entity1": 1, "copy1": 2, "position1": 1, "atom1": "SD", "entity2": 6, "copy2": 1, "position2": 1, "atom2": 0},
    ]
    contact = {"entity1": 1, "copy1": 1, "position1": 2, "atom1": "CA", "entity2": 2, "copy2": 1, "position2": 3, "max_distance": 8}
    pocket = {"binder_chain": {"entity": 6, "copy": 1}, "contact_residues": [{"entity": 1, "copy": 2, "position": 5}], "max_distance": 6.5}
    constraint = {"contact": [contact | {"min_distance": 2}], "pocket": pocket}
    job = {"name": "full", "modelSeeds": [3, 4], "sequences": sequences, "covalent_bonds": bonds, "constraint": constraint}
    return json.dumps([job, {"name": "second", "sequences": sequences[1:2]}])


def openfold3_full() -> str:
    """Everything that OpenFold3's JSON can hold."""
    chains = [
        {"molecule_type": "protein", "chain_ids": ["A", "B"], "sequence": QUERY, "non_canonical_residues": {"7": "SEP"}, "cyclic": True}
        | {"main_msa_file_paths": ["first.a3m"], "paired_msa_file_paths": "first_paired.a3m", "description": "first"}
        | {"template_cif_paths": ["template.cif", "template.cif"], "template_cif_chain_ids": ["A", None]},
        {"molecule_type": "PROTEIN", "chain_ids": "C", "sequence": SECOND, "template_alignment_file_path": "hits.a3m"}
        | {"template_entry_chain_ids": ["1abc_A", "2def_B"]},
        {"molecule_type": 1, "chain_ids": "R", "sequence": "GGCA", "main_msa_file_paths": "rna.a3m"},
        {"molecule_type": "dna", "chain_ids": "D", "sequence": "GATC", "non_canonical_residues": {"4": "5CM"}},
        {"molecule_type": "ligand", "chain_ids": ["L", "M"], "ccd_codes": "ATP"},
        {"molecule_type": 3, "chain_ids": "S", "smiles": "CC(=O)O"},
    ]
    pocket = {"ligand_chain_id": "S", "pocket_residues": [["A", 1], ["B", 2]], "max_distance": 6.0}
    alone = {"chains": [{"molecule_type": "protein", "chain_ids": "A", "sequence": SECOND}], "use_msas": False}
    return json.dumps({"seeds": [42, 1], "queries": {"full": {"chains": chains, "pocket_constraint": pocket}, "alone": alone}})


COLABFOLD_FULL = f">one job\n{QUERY}:{QUERY}:{SECOND}:RNA|GGCA:DNA|GATC:CCD|ATP|2:SMILES|CC(=O)[O-;1]|1\n>alone\n{SECOND}\n"
COLABFOLD_CSV_FULL = f"id,sequence,a3mpath,templatepath\nfull,{QUERY}:{QUERY}:CCD|ATP,first.a3m,template.cif\nplain,{SECOND}:{QUERY},,\n"
COLABFOLD_A3M_FULL = (
    f"#8,6\t2,1\n>101\t102\n{QUERY}{SECOND}\n>a\tb\nMRTNAYSWGSHMkKR\n>c\td\n--TNAYSWGSH---\n>101\n{QUERY}------\n>e\nMKTNaAYS-------\n>102\n"
    f"--------{SECOND}\n>f\n--------GSHMKK\n"
)
CHAI_FULL = (
    ">protein|heavy\nMKTNAY(SEP)W\n>protein|B\ngshmkr\n>rna|R\nGGCA\n>dna|d=d\nGAT(5CM)\n>ligand|acid\nCC(=O)O\n"
    ">glycan|tree\nNAG(6-1 FUC)(4-1 NAG)\n"
)
CHAI_TABLE = """restraint_id,chainA,res_idxA,chainB,res_idxB,max_distance_angstrom,min_distance_angstrom,connection_type,confidence,comment
bond,A,N4@ND2,F,@C1,0,0,covalent,1,linked
near,A,M1,B,G1@CA,8.5,2,contact,0.5,
site,E,,A,K2,6,0,pocket,1,
"""

FULL: dict[str, tuple[str, Callable[[], str]]] = {
    "alphafold3": ("full.json", alphafold3_full),
    "server": ("full.json", server_full),
    "boltz": ("full.yaml", boltz_full),
    "boltz-fasta": ("full.fasta", lambda: BOLTZ_FASTA_FULL),
    "protenix": ("full.json", protenix_full),
    "openfold3": ("full.json", openfold3_full),
    "colabfold": ("full.fasta", lambda: COLABFOLD_FULL),
    "colabfold-csv": ("full.csv", lambda: COLABFOLD_CSV_FULL),
    "colabfold-a3m": ("full.a3m", lambda: COLABFOLD_A3M_FULL),
    "chai": ("full.fasta", lambda: CHAI_FULL),
}


def lay_files(folder: Path) -> None:
    """The files that the full jobs name."""
    second = f">query\n{SECOND}\n"
    texts = {"first.a3m": A3M, "first_paired.a3m": PAIRED, "first.csv": TABLE, "rna.a3m": RNA_A3M, "hits.a3m": A3M}
    texts |= {"second.a3m": second, "second_paired.a3m": second, "template.cif": structure_cif(QUERY), "ligand.sdf": "x\n"}
    for name, text in texts.items():
        (folder / name).write_text(text)


def lay_full(folder: Path, format: str) -> Path:
    """The full job of a format with its files, and Chai's table beside it."""
    lay_files(folder)
    name, text = FULL[format]
    (folder / name).write_text(text())
    if format == "chai":
        (folder / "full.restraints").write_text(CHAI_TABLE)
    return folder / name


def complaints(path: Path, format: str = "", options: Options = OPTIONS) -> tuple[list[Job], list[InputError], list[str]]:
    """What reading and understanding a file gives: jobs, errors of both, notes."""
    jobs, errors = read_jobs([path], options, format=format)
    understood = [understand(job) for job in jobs]
    return jobs, [*errors, *(error for one in understood for error in one.errors)], [note for one in understood for note in one.notes]
