"""Components of the dictionary, of users and of molecules; their reference conformers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import build_atoms
from structgen.features.components import Component, Origin
from structgen.features.dictionary import dictionary, dictionary_component
from structgen.features.job import AtomName, Bond, Chain, Given, Job, Kind, Modification
from structgen.features.molecules import conformer, molecule_of_file, molecule_of_smiles, to_rdkit
from structgen.features.own_components import read_components

VALENCES = {"H": (1,), "C": (4,), "N": (3, 5), "O": (2,), "P": (5,), "S": (2, 4, 6), "F": (1,), "CL": (1,)}

OWN = """data_XYZ-1
_chem_comp.id XYZ-1
_chem_comp.name "my serine"
_chem_comp.type "L-peptide linking"
_chem_comp.formula "C3 H7 N O3"
_chem_comp.mon_nstd_parent_comp_id SER
_chem_comp.pdbx_synonyms ?
_chem_comp.formula_weight 105.09
loop_
_chem_comp_atom.comp_id
_chem_comp_atom.atom_id
_chem_comp_atom.type_symbol
_chem_comp_atom.charge
_chem_comp_atom.pdbx_leaving_atom_flag
_chem_comp_atom.pdbx_model_Cartn_x_ideal
_chem_comp_atom.pdbx_model_Cartn_y_ideal
_chem_comp_atom.pdbx_model_Cartn_z_ideal
XYZ-1 N   N 0 N 1.525 0.493 -0.608
XYZ-1 CA  C 0 N 0.100 0.469 -0.252
XYZ-1 C   C 0 N -0.053 0.004 1.173
XYZ-1 O   O 0 N 0.751 -0.760 1.649
XYZ-1 CB  C 0 N -0.642 -0.489 -1.184
XYZ-1 OG  O 0 N -0.496 -0.049 -2.535
XYZ-1 OXT O 0 Y -1.084 0.440 1.913
loop_
_chem_comp_bond.atom_id_1
_chem_comp_bond.atom_id_2
_chem_comp_bond.value_order
_chem_comp_bond.pdbx_aromatic_flag
N CA SING N
CA C SING N
CA CB SING N
C O DOUB N
C OXT SING N
CB OG SING N
"""


def own(text: str = OWN) -> Component:
    (component,) = read_components(text, "mine.cif")
    return component


@pytest.mark.parametrize("code", ["ATP", "NAG", "SEP", "2MG", "CLR", "STI", "SIA", "TYS"])
def test_valences_of_the_dictionary(code: str) -> None:
    """The orders of an atom's bonds add up to a valence of its element, less its charge: nothing was dropped in reading."""
    component = dictionary_component(code)
    total = np.zeros(len(component.atom_names), np.int64)
    np.add.at(total, component.bonds.ravel(), np.repeat(component.orders, 2))
    for element, charge, valence in zip(component.elements.tolist(), component.charges.tolist(), total.tolist(), strict=True):
        assert valence - charge in VALENCES[element] or valence + abs(charge) in VALENCES[element]
    assert np.isfinite(component.ideal).all() and component.origin is Origin.DICTIONARY


@pytest.mark.parametrize("code", chemistry.CLASSES[: chemistry.GAP])
def test_the_table_of_standard_residues_is_the_dictionarys(code: str) -> None:
    """Heavy atoms, elements, charges and ideal coordinates of components.json; UNK alone is cut after CB."""
    component, row = dictionary_component(code), chemistry.CLASSES.index(code)
    heavy = component.heavy & ~((component.atom_names == "CG") & (code == "UNK"))
    used = chemistry.ATOM_NAMES[row] != ""
    assert component.atom_names[heavy].tolist() == chemistry.ATOM_NAMES[row][used].tolist()
    assert component.elements[heavy].tolist() == chemistry.ELEMENTS[row][used].tolist()
    assert component.charges[heavy].tolist() == chemistry.CHARGES[row][used].tolist()
    np.testing.assert_allclose(component.ideal[heavy], chemistry.IDEAL[row][used], atol=1e-3)


def test_the_dictionary_is_read_by_need() -> None:
    """Importing what builds jobs reads no dictionary and loads neither library; a protein needs none."""
    code = (
        "import sys\nfrom structgen.features.atoms import build_atoms\nfrom structgen.features.job import *\n"
        "from structgen.features.tokens import tokenise\ntokenise(build_atoms(Job('x', 'x', protein_chains(['MKT']))))\n"
        "print([name for name in ('biotite', 'rdkit', 'msgpack') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"


def test_the_dictionary_is_whole() -> None:
    """Over 40,000 components, each with the atoms that its formula counts, in a sample."""
    codes = dictionary().codes
    assert len(codes) > 40_000 and len(set(codes)) == len(codes)
    for code in ("ATP", "HEM", "NAG", "MG", "A1LU6"):
        if code not in codes:
            continue
        component = dictionary_component(code)
        formula = component.formula.split()
        counted = sum(
            int("".join(filter(str.isdigit, part)) or 1)
            for part in formula
            if part.lstrip("-").isalnum() and not part.lstrip("-").isdigit()
        )
        assert counted == len(component.atom_names)


def test_a_users_component_is_a_residue_of_a_chain() -> None:
    """As modification and as ligand: atoms by its own leaving flags, class of its parent."""
    chain = Chain("A", Kind.PROTEIN, "GSG", (Modification(2, "XYZ-1"),))
    s = build_atoms(Job("x", "x", (chain, Chain("B", Kind.LIGAND, residues=("XYZ-1",))), components=(Given(OWN),)))
    inside, alone = (s.atom_names[s.atom_residue == r].tolist() for r in (1, 3))
    assert inside == ["N", "CA", "C", "O", "CB", "OG"] and alone == [*inside, "OXT"]
    assert chemistry.CLASSES[s.residue_class[1]] == "SER" and s.links.sum() == 2 and s.notes == ()


def test_a_users_component_wins_over_the_dictionary() -> None:
    """The same code in both: the user's."""
    s = build_atoms(Job("x", "x", (Chain("B", Kind.LIGAND, residues=("SEP",)),), components=(Given(OWN.replace("XYZ-1", "SEP")),)))
    assert len(s.atom_names) == 7 and s.components[0].origin is Origin.USER


WRONG = [
    (OWN.replace("_chem_comp.formula_weight 105.09\n", ""), "lacks items; found no _chem_comp.formula_weight"),
    (OWN.replace("_chem_comp_bond.value_order\n", "_chem_comp_bond.order\n"), "lacks items; found no _chem_comp_bond.value_order"),
    (OWN.replace("data_XYZ-1", "data_other"), "no usable code; found data_other with id 'XYZ-1'"),
    (OWN.replace("XYZ-1", "X_Z"), "no usable code"),
    (OWN.replace("comp_id SER", "comp_id QQQ"), "parent is no standard residue; found QQQ"),
    (OWN.replace("CB OG SING", "CB OQ SING"), "a bond to 'OQ'; expected atoms N, CA"),
    (OWN.replace("CB OG SING", "CB CA SING"), "a bond is given twice or to itself; found CA and CB"),
    (OWN.replace("CB OG SING", "CB OG HALF"), "bond order; found HALF"),
    (OWN.replace("XYZ-1 OG  O", "XYZ-1 CB  O"), "two atoms 'CB'"),
    (OWN.replace("1.525", "abc"), "not a number; found .*abc"),
    (OWN[: len(OWN) // 2 - 3], "mine.cif"),
    ("", "own components are empty"),
    ("nonsense", "own components are not mmCIF"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:20] for _, message in WRONG])
def test_wrong_definitions_are_refused(text: str, message: str) -> None:
    """Each names the file, what is missing or wrong, and what would be right."""
    with pytest.raises(InputError, match=message):
        own(text)


def test_standard_residues_are_not_redefined() -> None:
    with pytest.raises(InputError, match="standard residues cannot be redefined; found a definition of SER"):
        build_atoms(Job("x", "x", (Chain("A", Kind.PROTEIN, "S"),), components=(Given(OWN.replace("XYZ-1", "SER")),)))


def sdf_of(smiles: str, *, flat: bool = False) -> str:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if flat:
        AllChem.Compute2DCoords(molecule)
    else:
        AllChem.EmbedMolecule(molecule, randomSeed=1)
    return Chem.MolToMolBlock(Chem.RemoveHs(molecule)) + "$$$$\n"


def test_a_file_is_the_molecule_of_its_smiles(tmp_path: Path) -> None:
    """Names, orders and stereochemistry as from the SMILES in the same order; the file's coordinates are kept as the model's."""
    smiles = "C[C@H](N)C(=O)Oc1ccccc1/C=C/F"
    path = tmp_path / "x.sdf"
    path.write_text(sdf_of(smiles))
    given, written = molecule_of_file(path, "LIG-A"), molecule_of_smiles(smiles, "LIG-A")
    heavy = given.heavy
    assert given.atom_names[heavy].tolist() == written.atom_names[written.heavy].tolist()
    assert given.stereo[heavy].tolist() == written.stereo[written.heavy].tolist() and given.name == written.name
    assert np.isfinite(given.model[heavy]).all() and given.origin is Origin.FILE
    back = to_rdkit(given)
    assert back is not None and Chem.MolToSmiles(Chem.RemoveHs(back)) == Chem.CanonSmiles(smiles)


def test_mol2_is_read(tmp_path: Path) -> None:
    """Ethanol with its hydrogens."""
    lines = ["@<TRIPOS>MOLECULE", "ethanol", " 3 2 0 0 0", "SMALL", "NO_CHARGES", "", "@<TRIPOS>ATOM"]
    lines += ["1 C1 -0.88 0.17 -0.02 C.3", "2 C2 0.46 -0.51 -0.04 C.3", "3 O3 1.44 0.30 0.54 O.3"]
    lines += ["@<TRIPOS>BOND", "1 1 2 1", "2 2 3 1", ""]
    path = tmp_path / "x.mol2"
    path.write_text("\n".join(lines))
    component = molecule_of_file(path, "LIG-A")
    assert component.atom_names[component.heavy].tolist() == ["C1", "C2", "O1"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.sdf", None, "cannot be read|cannot read"),
        ("x.pdb", "", "unknown kind of ligand file; found .pdb; expected .sdf, .mol, .mol2"),
        ("x.sdf", sdf_of("CCO") * 2, "must hold one molecule; .*found 2 molecules"),
        ("x.sdf", sdf_of("CCO", flat=True), "no 3-D coordinates"),
        ("x.sdf", "", "found 0 molecules"),
        ("x.sdf", "not a molecule\n\n\n  9  9\n$$$$\n", "molecule cannot be read; found RDKit says"),
        ("x.sdf", sdf_of("CC.O"), "in several parts"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    """FORMATS 6, row 46: the path, what is lacking, how many."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        molecule_of_file(path, "LIG-A")
    assert str(path) in str(caught.value)


def test_conformers_are_the_same_every_time() -> None:
    """No randomness but the fixed seed: equal to the bit in two processes, and when made again."""
    code = (
        "from structgen.features.molecules import *\nfrom structgen.features.dictionary import dictionary_component as d\nimport hashlib\n"
        "points = conformer(d('ATP')).tobytes() + conformer(molecule_of_smiles('CC(=O)Oc1ccccc1C(=O)O', 'LIG-A')).tobytes()\n"
        "print(hashlib.sha256(points).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1] and len(runs[0]) == 65


def test_what_rdkit_cannot_embed_falls_back() -> None:
    """Ideal coordinates where RDKit fails, then the model's, then an error that says what was tried."""
    cube = dictionary_component("SF4")
    positions = conformer(cube)
    assert np.isfinite(positions).all()
    broken = replace(own(), orders=np.full(6, 3))  # three triple bonds on one carbon
    assert np.array_equal(conformer(broken), own().ideal)
    without = replace(broken, ideal=np.full_like(broken.ideal, np.nan), model=broken.ideal + 1)
    assert np.array_equal(conformer(without), broken.ideal + 1)
    with pytest.raises(InputError, match="XYZ-1 has no conformer; found none by RDKit, no ideal and no model coordinates"):
        conformer(replace(without, model=without.ideal))


def test_bonded_smiles_atoms_by_name() -> None:
    """Atoms of a SMILES ligand are bonded by the names that structgen gives them."""
    chains = (Chain("A", Kind.PROTEIN, "GCG"), Chain("B", Kind.LIGAND, smiles="CC(=O)N"))
    bond = Bond(AtomName("A", 2, "SG"), AtomName("B", 1, "C1"))
    s = build_atoms(Job("x", "x", chains, bonds=(bond,)))
    ((i, j),) = s.bonds[s.links]
    assert s.atom_names[[i, j]].tolist() == ["SG", "C1"]
