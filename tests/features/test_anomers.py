"""Sugars with the wrong anomer's code are told; right ones are not."""

from __future__ import annotations

import pytest

from structgen.features.atoms import build_atoms
from structgen.features.job import AtomName, Bond, Chain, Given, Job, Kind

NO_LEAVING_ATOM = """data_SUG
_chem_comp.id SUG
_chem_comp.name 'a sugar that keeps its O1'
_chem_comp.type 'D-saccharide, beta linking'
_chem_comp.formula ?
_chem_comp.mon_nstd_parent_comp_id ?
_chem_comp.pdbx_synonyms ?
_chem_comp.formula_weight ?
loop_
_chem_comp_atom.comp_id
_chem_comp_atom.atom_id
_chem_comp_atom.type_symbol
_chem_comp_atom.charge
_chem_comp_atom.pdbx_leaving_atom_flag
_chem_comp_atom.pdbx_model_Cartn_x_ideal
_chem_comp_atom.pdbx_model_Cartn_y_ideal
_chem_comp_atom.pdbx_model_Cartn_z_ideal
SUG C1 C 0 N 0.0 0.0 0.0
SUG O1 O 0 N 1.4 0.0 0.0
SUG O5 O 0 N -0.5 1.3 0.0
SUG C2 C 0 N -0.5 -1.4 0.0
loop_
_chem_comp_bond.comp_id
_chem_comp_bond.atom_id_1
_chem_comp_bond.atom_id_2
_chem_comp_bond.value_order
_chem_comp_bond.pdbx_aromatic_flag
SUG C1 O1 SING N
SUG C1 O5 SING N
SUG C1 C2 SING N
"""


def notes(*sugars: str, carrier: str = "N", atom: str = "ND2", link: str = "O4", components: tuple[Given, ...] = ()) -> tuple[str, ...]:
    """Notes on a residue of a protein that carries a chain of sugars."""
    chains = (Chain("A", Kind.PROTEIN, f"G{carrier}G"), Chain("B", Kind.LIGAND, residues=sugars))
    first = Bond(AtomName("A", 2, atom), AtomName("B", 1, "C1"))
    others = tuple(Bond(AtomName("B", n, link), AtomName("B", n + 1, "C1")) for n in range(1, len(sugars)))
    return build_atoms(Job("x", "x", chains, bonds=(first, *others), components=components)).notes


def test_an_alpha_sugar_on_asparagine_is_told_with_the_right_code() -> None:
    """NDG where NAG belongs."""
    (note,) = notes("NDG")
    assert note == (
        "chain B NDG 1 C1, bonded to chain A ASN 2 ND2: "
        "NDG is an alpha sugar, sugars on asparagine are beta in N-glycans; NAG is the beta form"
    )


def test_an_alpha_sugar_in_the_core_is_told() -> None:
    """MAN on O4 of NAG, where BMA belongs; each wrong bond has its note."""
    (note,) = notes("NAG", "NAG", "MAN")
    assert note.startswith("chain B MAN 3 C1, bonded to chain B NAG 2 O4: MAN is an alpha sugar") and note.endswith("BMA is the beta form")
    assert len(notes("NDG", "NAG", "MAN")) == 2


@pytest.mark.parametrize("sugars", [("NAG",), ("NAG", "NAG", "BMA"), ("NAG", "FUC")])
def test_what_is_found_in_nature_has_no_note(sugars: tuple[str, ...]) -> None:
    """The core of N-glycans; fucose, an L sugar, is alpha."""
    assert notes(*sugars) == ()


def test_alpha_sugars_elsewhere_have_no_note() -> None:
    """Mannose on serine, mannose on O6 of mannose."""
    assert notes("MAN", carrier="S", atom="OG") == ()
    assert notes("NAG", "BMA", "MAN", link="O3") == ()


def test_a_sugar_that_loses_nothing_is_told() -> None:
    """A component of the user's without a leaving atom at C1 would have a carbon of five bonds."""
    (note,) = notes("SUG", components=(Given(text=NO_LEAVING_ATOM),))
    assert "chain B SUG 1 C1, bonded to chain A ASN 2 ND2: no atom leaves C1 of SUG" in note
