"""Every kind of entity: which atoms it has, what leaves where a bond is made, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import Structure, build_atoms
from structgen.features.dictionary import dictionary_component
from structgen.features.job import AtomName, Bond, Chain, Given, Job, Kind, Modification

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def protein(sequence: str, *modified: tuple[int, str], id: str = "A", cyclic: bool = False) -> Chain:
    return Chain(id, Kind.PROTEIN, sequence, tuple(Modification(*m) for m in modified), cyclic)


def ligand(id: str, *codes: str) -> Chain:
    return Chain(id, Kind.LIGAND, residues=codes)


def bond(first: str, second: str) -> Bond:
    """Of 'A 3 ND2' and 'B 1 C1'."""
    ends = (text.split() for text in (first, second))
    return Bond(*(AtomName(chain, int(residue), atom) for chain, residue, atom in ends))


def build(*chains: Chain, bonds: tuple[Bond, ...] = (), own: str = "") -> Structure:
    return build_atoms(Job("x", "x", chains, bonds=bonds, components=(Given(own),) if own else ()))


def names(s: Structure, residue: int) -> list[str]:
    return s.atom_names[s.atom_residue == residue].tolist()


def links(s: Structure) -> set[tuple[str, str]]:
    """Bonds between residues, as 'A3.ND2'."""
    where = [f"{s.chain_ids[s.residue_chain[r]]}{s.residue_numbers[r]}.{a}" for r, a in zip(s.atom_residue, s.atom_names, strict=True)]
    return {(where[i], where[j]) for i, j in s.bonds[s.links]}


@pytest.mark.parametrize(
    ("kind", "sequence", "codes"),
    [(Kind.RNA, "ACGUNX", ["A", "C", "G", "U", "N", "N"]), (Kind.DNA, "ACGTNX", ["DA", "DC", "DG", "DT", "DN", "DN"])],
)
def test_nucleic_acids_begin_with_a_phosphate(kind: Kind, sequence: str, codes: list[str]) -> None:
    """Codes by letter; the atoms are the dictionary's heavy atoms, without OP3 but in the first residue."""
    s = build(Chain("A", kind, sequence))
    assert s.residue_names.tolist() == codes and not s.atomised.any()
    for r, code in enumerate(codes):
        component = dictionary_component(code)
        heavy = component.atom_names[component.heavy].tolist()
        assert sorted(names(s, r)) == sorted(name for name in heavy if name != "OP3" or r == 0)
    assert len(s.bonds) == 0


@pytest.mark.parametrize("code", chemistry.CLASSES[: chemistry.GAP])
def test_only_oxt_and_op3_leave_standard_residues(code: str) -> None:
    """The heavy leaving atoms of the dictionary are the two that `links.LEAVING` names, on C and on P."""
    component = dictionary_component(code)
    heavy = component.heavy
    groups = {
        str(component.atom_names[i]): [component.atom_names[j] for j in group if heavy[j]]
        for i in np.flatnonzero(heavy)
        for group in component.leaving_groups(i)
        if heavy[group].any()
    }
    assert groups == ({"C": ["OXT"]} if chemistry.CLASSES.index(code) <= chemistry.UNKNOWN else {"P": ["OP3"]})


def test_a_modified_residue_is_its_component_without_what_left() -> None:
    """Phosphoserine inside, at the end and at the beginning of a chain: OXT at the end alone; bonds to the neighbours; class of serine."""
    s = build(protein("SKSKS", (1, "SEP"), (3, "SEP"), (5, "SEP")))
    inside = ["N", "CA", "CB", "OG", "C", "O", "P", "O1P", "O2P", "O3P"]
    assert names(s, 0) == names(s, 2) == inside and names(s, 4) == [*inside[:6], "OXT", *inside[6:]]
    assert links(s) == {("A1.C", "A2.N"), ("A2.C", "A3.N"), ("A3.C", "A4.N"), ("A4.C", "A5.N")}
    assert s.atomised.tolist() == [True, False, True, False, True]
    assert [chemistry.CLASSES[c] for c in s.residue_class] == ["SER", "LYS", "SER", "LYS", "SER"]
    assert s.notes == ()


def test_selenomethionine_is_methionine() -> None:
    """FORMATS 2.1: MET in everything that follows, and a note."""
    s = build(protein("AMA", (2, "MSE")))
    assert s.residue_names[1] == "MET" and names(s, 1) == names(build(protein("AMA")), 1)
    assert s.notes == ("chain A: MSE at 2 is built as MET",)


def test_caps_are_residues_of_the_chain() -> None:
    """ACE and NME at the ends are joined to their neighbours by peptide bonds and keep no OXT."""
    s = build(protein("XGX", (1, "ACE"), (3, "NME")))
    assert [names(s, r) for r in range(3)] == [["C", "O", "CH3"], ["N", "CA", "C", "O"], ["N", "C"]]
    assert links(s) == {("A1.C", "A2.N"), ("A2.C", "A3.N")}


def test_a_modified_nucleotide_is_in_its_chain() -> None:
    """2-methylguanosine in the middle: no OP3, bonds O3'-P on both sides, class of G."""
    s = build(Chain("A", Kind.RNA, "AGC", (Modification(2, "2MG"),)))
    assert "OP3" not in names(s, 1) and "CM2" in names(s, 1) and chemistry.CLASSES[s.residue_class[1]] == "G"
    assert links(s) == {("A1.O3'", "A2.P"), ("A2.O3'", "A3.P")}


def test_a_glycan_loses_the_oxygen_of_every_bonded_sugar() -> None:
    """N-glycan: each C1 that is bonded loses its O1; all other heavy atoms stay; three bonds between residues."""
    bonds = (bond("A 2 ND2", "B 1 C1"), bond("B 1 O4", "B 2 C1"), bond("B 2 O4", "B 3 C1"))
    s = build(protein("SNT"), ligand("B", "NAG", "NAG", "BMA"), bonds=bonds)
    for r, code in zip((3, 4, 5), ("NAG", "NAG", "BMA"), strict=True):
        component = dictionary_component(code)
        assert names(s, r) == [name for name in component.atom_names[component.heavy] if name != "O1"]
    assert names(build(ligand("B", "NAG")), 0).count("O1") == 1
    assert links(s) == {("A2.ND2", "B1.C1"), ("B1.O4", "B2.C1"), ("B2.O4", "B3.C1")}
    assert "ND2" in names(s, 1)


def test_a_bonded_leaving_atom_stays() -> None:
    """A bond to O1 itself keeps it."""
    s = build(ligand("A", "NAG", "NAG"), bonds=(bond("A 1 O1", "A 2 C4"),))
    assert "O1" in names(s, 0) and "O1" in names(s, 1)


def test_a_ring_is_closed() -> None:
    """Head to tail: no OXT, one bond of the last C to the first N; nucleic rings by O3' and P without OP3."""
    s = build(protein("GAG", cyclic=True), Chain("B", Kind.DNA, "AC", cyclic=True))
    assert links(s) == {("A1.N", "A3.C"), ("B1.P", "B2.O3'")}
    assert not np.isin(s.atom_names, ["OXT", "OP3"]).any()


def test_a_disulfide_is_a_bond_of_two_sulphurs() -> None:
    """Nothing heavy leaves a cysteine."""
    s = build(protein("CGC"), bonds=(bond("A 1 SG", "A 3 SG"),))
    assert links(s) == {("A1.SG", "A3.SG")} and s.atom_names.tolist() == build(protein("CGC")).atom_names.tolist()


def test_a_smiles_ligand_has_its_heavy_atoms_named_by_element() -> None:
    """Copies share a code, orders are those of a Kekule form, the code is none of the dictionary's."""
    s = build(Chain("C", Kind.LIGAND, smiles=ASPIRIN), Chain("D", Kind.LIGAND, smiles=ASPIRIN), Chain("E", Kind.LIGAND, smiles="CCO"))
    assert s.residue_names.tolist() == ["LIG-C", "LIG-C", "LIG-E"] and s.chain_entity.tolist() == [1, 1, 2]
    assert names(s, 0) == ["C1", "C2", "O1", "O2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "O3", "O4"]
    own = s.atom_residue[s.bonds[:, 0]] == 0
    assert own.sum() == 13 and np.bincount(s.bond_orders[own]).tolist() == [0, 8, 5]


def test_ions_and_codes_are_read_as_users_write_them() -> None:
    """Blanks and small letters with a note; charges are the dictionary's."""
    s = build(ligand("A", "mg"), ligand("B", " atp"))
    assert s.residue_names.tolist() == ["MG", "ATP"] and s.charges[0] == 2 and len(names(s, 1)) == 31
    assert s.notes == ("chain A: code 'mg' is read as MG", "chain B: code ' atp' is read as ATP")


REFUSED = [
    ([protein("MK", (2, "ATP"))], (), r"chain A: modification is no residue of such a chain; found ATP .* expected a peptide residue"),
    ([protein("MK", (2, "006"))], (), "found 006 .* of type peptide-like"),
    ([protein("MK", (2, "XYZQ"))], (), r"chain A: unknown component 'XYZQ'; .* .nearest: .*XYZ.* the job's own components"),
    ([protein("MK", (3, "SEP"))], (), "has no residue 3; found SEP there; expected a position from 1 to 2"),
    ([ligand("B", "Mg2+")], (), "unknown component 'MG2\\+'; .* remedy: use MG"),
    ([ligand("B", "ZN2")], (), "component ZN2 is obsolete; .* use ZN"),
    *(([ligand("B", code)], (), f"{code} is not a defined molecule") for code in ("HOH", "UNL", "UNX", "DUM")),
    ([ligand("B", "NAG", "NAG")], (), "not held together; found NAG 2 without a bond"),
    ([Chain("B", Kind.RNA, "ACT")], (), "not an RNA sequence; found 'T' at position 3; .* is this DNA"),
    ([Chain("B", Kind.DNA, "ACU")], (), "not a DNA sequence; found 'U' at position 3; .* is this RNA"),
    ([Chain("B", Kind.LIGAND, smiles="C1CC")], (), "chain B: SMILES 'C1CC': molecule cannot be read; found RDKit says: .*unclosed ring"),
    ([Chain("B", Kind.LIGAND, smiles="[Na+].[Cl-]")], (), r"several parts; found \[Na\+\] and \[Cl-\]; .* one chain each"),
    ([Chain("B", Kind.LIGAND, smiles=" ")], (), "SMILES is empty"),
    ([Chain("B", Kind.LIGAND, smiles="C" * 1001)], (), "too large; found 1,001 heavy atoms"),
    ([Chain("B", Kind.LIGAND, smiles="CC", residues=("MG",))], (), "not defined once; found several"),
    ([Chain("B", Kind.LIGAND)], (), "not defined once; found none"),
    ([protein("M", cyclic=True)], (), "cannot be cyclic; found 1 residue"),
    ([protein("CM")], (bond("A 1 SG", "C 1 SG"),), "bond 1: bond to an unknown chain; found C; expected one of A"),
    ([protein("CM")], (bond("A 1 SG", "A 3 SG"),), "unknown residue; found chain A residue 3; expected a number from 1 to 2"),
    ([protein("CM")], (bond("A 1 SG", "A 2 SG"),), "unknown atom; found SG in MET, .* expected one of N, CA, C, O, CB, CG, SD, CE, OXT"),
    ([protein("CM")], (bond("A 1 OXT", "A 2 CE"),), "unknown atom; found OXT in CYS"),
    ([protein("CM")], (bond("A 1 SG", "A 1 SG"),), "bond of an atom to itself"),
    ([protein("CM")], (bond("A 1 SG", "A 1 CA"),), "bond inside one residue"),
    ([protein("CC")], (bond("A 1 SG", "A 2 SG"), bond("A 2 SG", "A 1 SG")), "bond 2: bond is given twice"),
]


@pytest.mark.parametrize(("chains", "bonds", "message"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_cannot_be_built_is_one_clear_error(chains: list[Chain], bonds: tuple[Bond, ...], message: str) -> None:
    """The error names the chain or bond, what was found and what helps (FORMATS 6, rows 36 to 53)."""
    with pytest.raises(InputError, match=message):
        build(*chains, bonds=bonds)


def test_a_parent_other_than_the_letter_is_noted() -> None:
    """FORMATS 6, row 41: a warning, not an error."""
    assert build(protein("MK", (2, "SEP"))).notes == ("chain A: SEP at 2 derives from S, the sequence says K",)
