"""RDKit's part: molecules from SMILES and files as components, and the reference conformer of every component (SI 2.8)."""

from __future__ import annotations

import io
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from structgen.errors import InputError
from structgen.features.components import METALS, ORDERS, Component, Origin, assemble

if TYPE_CHECKING:
    from rdkit.Chem import Mol

CONFORMER_SEED = 2024  # one conformer a component, whatever the run's seeds: features can be cached, frames never change
LARGEST_MOLECULE = 1_000  # heavy atoms
EMBED_ROUNDS = 50  # attempts before random start coordinates are tried
_BOND_STEREO = {"STEREOE": "E", "STEREOZ": "Z", "STEREOTRANS": "E", "STEREOCIS": "Z"}
FILE_KINDS = (".sdf", ".mol", ".mol2")


@lru_cache(maxsize=256)
def molecule_of_smiles(smiles: str, code: str) -> Component:
    """The molecule of a SMILES string, atoms named by element and number in its order, with a conformer of its stereochemistry.

    Raises `InputError` for text that RDKit cannot read (with RDKit's reason), several molecules, and one without a conformer.
    """
    if not smiles.strip():
        raise InputError("SMILES is empty", found=repr(smiles), expected="a molecule", remedy="write the molecule or leave the chain out")
    parsed = _read(lambda chem: chem.MolFromSmiles(smiles), f"SMILES {smiles!r}")
    return _component(_checked(parsed, f"SMILES {smiles!r}"), code, Origin.SMILES, smiles)


def molecule_of_file(path: Path, code: str) -> Component:
    """The one molecule of an SDF, MOL or MOL2 file with 3-D coordinates; these are the component's model coordinates."""
    if path.suffix.lower() not in FILE_KINDS:
        raise InputError("unknown kind of ligand file", where=str(path), found=path.suffix or "no suffix", expected=", ".join(FILE_KINDS))
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError("cannot read the ligand's file", where=str(path), found=error.strerror or str(error)) from error
    return molecule_of_text(text, path.suffix.lower(), code, str(path))


@lru_cache(maxsize=256)
def molecule_of_text(text: str, suffix: str, code: str, where: str) -> Component:
    """The same of the file's text."""
    count = _molecules_in(text, suffix)
    if count != 1:
        found, remedy = f"{count} molecules", "one file a molecule, one chain a molecule"
        raise InputError("ligand file must hold one molecule", where=where, found=found, expected="one", remedy=remedy)
    parsed = _read(lambda chem: (chem.MolFromMol2Block if suffix == ".mol2" else chem.MolFromMolBlock)(text), where)
    parsed = _checked(parsed, where)
    if not (parsed.GetNumConformers() and (parsed.GetConformer().Is3D() or parsed.GetNumAtoms() == 1)):
        remedy = "make 3-D coordinates first, or give the molecule as SMILES"
        raise InputError("ligand file has no 3-D coordinates", where=where, found="a flat drawing", expected="3-D", remedy=remedy)
    return _component(parsed, code, Origin.FILE, where)


def _molecules_in(text: str, suffix: str) -> int:
    if suffix == ".mol2":
        return text.count("@<TRIPOS>MOLECULE")
    return sum(bool(part.strip()) for part in text.split("$$$$"))


def _read(parse: Any, where: str) -> Mol:
    """The molecule, or an error that says what RDKit said."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        rdBase.LogToPythonStderr()
        with _Captured() as said:
            molecule = parse(Chem)
    if molecule is None or not molecule.GetNumAtoms():
        lines = [line.partition("] ")[2] or line for line in said.getvalue().splitlines() if line.strip() and "^" not in line]
        reason = " ".join(line.strip() for line in lines[:3]) or "no atoms"
        raise InputError("molecule cannot be read", where=where, found=f"RDKit says: {reason}", expected="a valid molecule")
    return molecule


class _Captured:
    """What RDKit writes to Python's standard error meanwhile."""

    def __enter__(self) -> io.StringIO:
        import sys

        self._stderr, said = sys.stderr, io.StringIO()
        sys.stderr = said
        return said

    def __exit__(self, *_: object) -> None:
        import sys

        sys.stderr = self._stderr


def _checked(molecule: Mol, where: str) -> Mol:
    from rdkit import Chem

    parts = Chem.GetMolFrags(molecule, asMols=True)
    if len(parts) > 1:
        found = " and ".join(Chem.MolToSmiles(part) for part in parts[:4])
        raise InputError("a molecule in several parts", where=where, found=found, expected="one molecule", remedy="give one chain each")
    if (heavy := molecule.GetNumHeavyAtoms()) > LARGEST_MOLECULE:
        raise InputError("molecule is too large", where=where, found=f"{heavy:,} heavy atoms", expected=f"at most {LARGEST_MOLECULE:,}")
    wild = [atom.GetIdx() + 1 for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    if wild:
        raise InputError("molecule has an atom of no element", where=where, found=f"atom {wild[0]} (*, R)", expected="elements")
    return molecule


def _component(molecule: Mol, code: str, origin: Origin, where: str) -> Component:
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    molecule = Chem.AddHs(molecule, addCoords=bool(molecule.GetNumConformers()))
    aromatic = [bond.GetIsAromatic() for bond in molecule.GetBonds()]
    stereo = _stereo_of_atoms(molecule)
    bond_stereo = [_BOND_STEREO.get(str(bond.GetStereo()), "N") for bond in molecule.GetBonds()]
    given = _coordinates(molecule) if molecule.GetNumConformers() else None
    embedded = embed(molecule)
    if embedded is None and given is None:
        found = f"none after {EMBED_ROUNDS} attempts and as many from random coordinates"
        raise InputError("molecule has no conformer", where=where, found=found, remedy="give it as a file with 3-D coordinates")
    kekule = Chem.Mol(molecule)
    Chem.Kekulize(kekule, clearAromaticFlags=True)
    elements = [atom.GetSymbol().upper() for atom in molecule.GetAtoms()]
    names, nowhere = _numbered(elements), np.full((len(elements), 3), np.nan)
    atoms = {
        "atom_names": np.array(names),
        "elements": np.array(elements),
        "charges": np.array([atom.GetFormalCharge() for atom in molecule.GetAtoms()]),
        "leaving": np.zeros(len(elements), bool),
        "stereo": np.array(stereo),
        "ideal": nowhere if embedded is None else embedded,
        "model": nowhere if given is None else given,
    }
    bonds: dict[str, Any] = {
        "first": [names[bond.GetBeginAtomIdx()] for bond in kekule.GetBonds()],
        "second": [names[bond.GetEndAtomIdx()] for bond in kekule.GetBonds()],
        "orders": [ORDERS[max(1, min(4, int(bond.GetBondTypeAsDouble())))] for bond in kekule.GetBonds()],
        "aromatic": aromatic,
        "stereo": bond_stereo,
    }
    identity = {"code": code, "name": Chem.MolToSmiles(Chem.RemoveHs(molecule)), "type": "NON-POLYMER", "letter": ""}
    return assemble({**identity, "formula": CalcMolFormula(molecule)}, origin, atoms, bonds, where)


def _stereo_of_atoms(molecule: Mol) -> list[str]:
    from rdkit import Chem

    Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)
    return [atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else "N" for atom in molecule.GetAtoms()]


def _numbered(elements: list[str]) -> list[str]:
    """Names by element and running number: C1, C2, N1, CL1."""
    count: Counter[str] = Counter()
    names = []
    for element in elements:
        count[element] += 1
        names.append(f"{element}{count[element]}")
    return names


def _coordinates(molecule: Mol) -> np.ndarray:
    return np.array(molecule.GetConformer().GetPositions(), np.float32)


def embed(molecule: Mol) -> np.ndarray | None:
    """[atoms, 3] coordinates by ETKDGv3 with the fixed seed, from random starts where eigenvectors fail; None where neither works."""
    from rdkit import rdBase
    from rdkit.Chem import rdDistGeom

    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = CONFORMER_SEED  # type: ignore[assignment]
    settings.numThreads = 1  # type: ignore[assignment]
    settings.maxIterations = EMBED_ROUNDS  # type: ignore[assignment]
    with rdBase.BlockLogs():
        for random_start in (False, True):
            settings.useRandomCoords = random_start  # type: ignore[assignment]
            try:
                if rdDistGeom.EmbedMolecule(molecule, settings) == 0:
                    return _coordinates(molecule)
            except (RuntimeError, ValueError):  # a violated precondition: no ring information, no bounds
                return None
    return None


@lru_cache(maxsize=1024)
def conformer(component: Component) -> np.ndarray:
    """[A, 3] reference coordinates in angstrom: RDKit's; where these fail the ideal, then the model coordinates of the component (SI 2.8).

    Atoms without coordinates are NaN in the last two. Raises `InputError` where a component has none of the three.
    """
    if component.origin is Origin.SMILES or len(component.atom_names) == 1:
        found: np.ndarray | None = np.nan_to_num(component.ideal)
    else:
        found = _embedded(component)
    heavy = component.heavy
    for given in (component.ideal, component.model):
        if found is None and np.isfinite(given[heavy]).all():
            found = given
    for given in (component.ideal, component.model):  # some atoms are better than none
        if found is None and np.isfinite(given[heavy]).any():
            found = given
    if found is None:
        remedy = "give coordinates in the component's definition"
        found_text = "none by RDKit, no ideal and no model coordinates"
        raise InputError(f"component {component.code} has no conformer", found=found_text, remedy=remedy)
    frozen = np.array(found, np.float32)
    frozen.flags.writeable = False
    return frozen


def _embedded(component: Component) -> np.ndarray | None:
    """RDKit's conformer with the stereochemistry of the component's own coordinates; None where RDKit cannot make sense of it."""
    molecule = to_rdkit(component)
    return None if molecule is None else embed(molecule)


def to_rdkit(component: Component) -> Mol | None:
    """The component as a molecule of RDKit, sanitised, its stereochemistry that of its ideal (or model) coordinates; None if impossible."""
    from rdkit import Chem, rdBase

    kinds = (
        Chem.BondType.UNSPECIFIED,
        Chem.BondType.SINGLE,
        Chem.BondType.DOUBLE,
        Chem.BondType.TRIPLE,
        Chem.BondType.QUADRUPLE,
        Chem.BondType.AROMATIC,
    )
    editable = Chem.RWMol()
    for element, charge in zip(component.elements.tolist(), component.charges.tolist(), strict=True):
        atom = Chem.Atom("H" if element == "D" else element.capitalize())
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(bool(np.isin(component.elements, ("H", "D")).any()))
        editable.AddAtom(atom)
    metal = np.isin(component.elements, list(METALS))
    for (i, j), order in zip(component.bonds.tolist(), component.orders.tolist(), strict=True):
        if metal[i] != metal[j]:  # the metal takes electrons, so that the valence of its ligands stays what it is
            editable.AddBond(*((j, i) if metal[i] else (i, j)), Chem.BondType.DATIVE)
        else:
            editable.AddBond(i, j, kinds[order])
    molecule = editable.GetMol()
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(molecule)
        except (ValueError, RuntimeError):
            return None
        for given in (component.ideal, component.model):
            if np.isfinite(given).all():
                _set_stereo(molecule, given)
                break
    return molecule


def _set_stereo(molecule: Mol, positions: np.ndarray) -> None:
    from rdkit import Chem

    points = Chem.Conformer(molecule.GetNumAtoms())
    points.SetPositions(np.asarray(positions, np.float64))
    molecule.AddConformer(points, assignId=True)
    Chem.AssignStereochemistryFrom3D(molecule)
    molecule.RemoveAllConformers()
