"""Tokens of every entity: how many there are, what stands for each, and what the network is told of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from structgen.errors import InputError
from structgen.features import chemistry
from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.featurise import featurise
from structgen.features.fingerprint import fingerprint
from structgen.features.job import AtomName, Bond, Chain, Given, Job, Kind, Modification
from structgen.features.msa import query_only
from structgen.features.tokens import Tokens, check_size, tokenise

CHAINS = {
    "protein": Chain("A", Kind.PROTEIN, "GSK", (Modification(2, "SEP"),)),
    "dna": Chain("B", Kind.DNA, "ACGTN"),
    "rna": Chain("C", Kind.RNA, "AGCUN"),
    "atp": Chain("D", Kind.LIGAND, residues=("ATP",)),
    "mg": Chain("E", Kind.LIGAND, residues=("MG",)),
    "smiles": Chain("F", Kind.LIGAND, smiles="CC(=O)Oc1ccccc1C(=O)O"),
}
COUNTS = {"protein": 2 + 10, "dna": 5, "rna": 5, "atp": 31, "mg": 1, "smiles": 13}


def made(*names: str, bonds: tuple[Bond, ...] = ()) -> Tokens:
    return tokenise(build_atoms(Job("x", "x", tuple(CHAINS[name] for name in names), bonds=bonds)))


def features(*names: str) -> Batch:
    return featurise(made(*names), [None] * len(names))


def atom_names(tokens: Tokens, atoms: np.ndarray) -> list[str]:
    return tokens.structure.atom_names[atoms].tolist()


@pytest.mark.parametrize("name", CHAINS)
def test_numbers_of_tokens(name: str) -> None:
    """One a standard residue, one a heavy atom of all else (SI 2.6)."""
    tokens = made(name)
    assert len(tokens.residue) == COUNTS[name]
    assert np.array_equal(np.unique(tokens.atom_token), np.arange(COUNTS[name]))
    assert np.array_equal(tokens.structure.atom_residue, tokens.residue[tokens.atom_token])


def test_nucleotides_by_hand() -> None:
    """Centre C1', representative C4 of purines, C2 of pyrimidines, C1' of N; frame C1', C3', C4'; slots count OP3 where it is absent."""
    for name, unknown in (("dna", "DN"), ("rna", "N")):
        tokens = made(name)
        assert atom_names(tokens, tokens.centre_atom) == ["C1'"] * 5
        wanted = {"A": "C4", "G": "C4", "C": "C2", "T": "C2", "U": "C2", "N": "C1'"}
        codes = tokens.structure.residue_names.tolist()
        assert atom_names(tokens, tokens.representative_atom) == [wanted[code[-1]] for code in codes] and codes[-1] == unknown
        assert [atom_names(tokens, row) for row in tokens.frame_atoms] == [["C1'", "C3'", "C4'"]] * 5 and tokens.frame_mask.all()
        first, second = (tokens.atom_slot[tokens.atom_token == t][:2].tolist() for t in (0, 1))
        assert (first, second) == ([0, 1], [1, 2])


def test_atoms_that_are_tokens() -> None:
    """Class of the parent inside a polymer, UNK of a ligand; every atom its own centre and representative, slot 0."""
    tokens = made("protein", "atp", "mg")
    single = tokens.structure.atomised[tokens.residue]
    assert single.sum() == 10 + 31 + 1
    own = np.flatnonzero(single[tokens.atom_token])
    assert np.array_equal(tokens.centre_atom[single], own) and np.array_equal(tokens.representative_atom[single], own)
    assert not tokens.atom_slot[own].any()
    assert [chemistry.CLASSES[c] for c in np.unique(tokens.restype[single][:10])] == ["SER"]
    assert set(tokens.restype[single][10:]) == {chemistry.UNKNOWN}


def test_frames_of_atoms_are_the_two_nearest_of_the_residue() -> None:
    """Against a loop over the reference: nearest first, the same residue, masked near a line; an ion has none."""
    tokens = made("protein", "atp", "mg", "smiles")
    s, x = tokens.structure, tokens.reference.astype(np.float64)
    seen = 0
    for token in np.flatnonzero(s.atomised[tokens.residue]):
        atom = tokens.centre_atom[token]
        others = [i for i in np.flatnonzero(s.atom_residue == s.atom_residue[atom]) if i != atom]
        if len(others) < 2:
            assert not tokens.frame_mask[token]
            continue
        near = sorted(others, key=lambda i, atom=atom: np.linalg.norm(x[i] - x[atom]))[:2]
        a, c = x[near[0]] - x[atom], x[near[1]] - x[atom]
        cosine = a @ c / np.linalg.norm(a) / np.linalg.norm(c)
        assert tokens.frame_mask[token] == (abs(cosine) < np.cos(np.radians(25)))
        if tokens.frame_mask[token]:
            assert tokens.frame_atoms[token].tolist() == [near[0], atom, near[1]]
            seen += 1
    assert seen > 40 and not tokens.frame_mask[tokens.residue == np.flatnonzero(s.residue_names == "MG")[0]].any()


def test_atoms_on_a_line_have_no_frame() -> None:
    """Carbon dioxide and acetylene."""
    for smiles in ("O=C=O", "C#CC#C"):
        tokens = tokenise(build_atoms(Job("x", "x", (Chain("A", Kind.LIGAND, smiles=smiles),))))
        assert not tokens.frame_mask.any()


def test_token_bonds_by_hand() -> None:
    """Inside ligands and modified residues, and what a job names; not along a polymer, not inside a standard residue; symmetric."""
    protein, glycan = Chain("A", Kind.PROTEIN, "CSNC", (Modification(2, "SEP"),)), Chain("B", Kind.LIGAND, residues=("NAG",))
    bonds = (Bond(AtomName("A", 3, "ND2"), AtomName("B", 1, "C1")), Bond(AtomName("A", 1, "SG"), AtomName("A", 4, "SG")))
    tokens = tokenise(build_atoms(Job("x", "x", (protein, glycan), bonds=bonds)))
    matrix = featurise(tokens, [None, None]).token_bonds[0].numpy()
    assert np.array_equal(matrix, matrix.T) and not matrix.diagonal().any()
    labels = [
        f"{tokens.structure.residue_names[r]}.{tokens.structure.atom_names[a]}"
        for r, a in zip(tokens.residue, tokens.centre_atom, strict=True)
    ]
    pairs = {(labels[i], labels[j]) for i, j in zip(*np.nonzero(np.triu(matrix)), strict=True)}
    assert ("ASN.CA", "NAG.C1") in pairs and ("CYS.CA", "CYS.CA") in pairs
    assert {pair for pair in pairs if "SEP" in pair[0] + pair[1]} == {
        ("SEP.N", "SEP.CA"), ("SEP.CA", "SEP.CB"), ("SEP.CA", "SEP.C"), ("SEP.CB", "SEP.OG"), ("SEP.C", "SEP.O"),
        ("SEP.OG", "SEP.P"), ("SEP.P", "SEP.O1P"), ("SEP.P", "SEP.O2P"), ("SEP.P", "SEP.O3P"),
    }  # fmt: skip
    assert len(pairs) == 9 + 14 + 2  # NAG: 14 bonds of its ring and branches are left without O1


def test_features_of_atoms() -> None:
    """Elements by number, charges, names, one conformer a residue; the conformer has bond lengths of its molecule."""
    batch = features("mg", "atp")
    assert batch.ref_element[0, 0] == 12 and batch.ref_charge[0, 0] == 2
    assert set(batch.ref_element[0].tolist()) == {12, 6, 7, 8, 15}
    assert batch.ref_space_uid[0].tolist() == [0] + [1] * 31
    tokens = made("mg", "atp")
    ends = tokens.structure.bonds
    lengths = np.linalg.norm(tokens.reference[ends[:, 0]] - tokens.reference[ends[:, 1]], axis=1)
    assert len(ends) == 33 and lengths.min() > 1.15 and lengths.max() < 1.75
    assert batch.kind[0].unique().tolist() == [3] and (batch.residue_index == 1).all()


def test_columns_of_alignments() -> None:
    """RNA has letters of its own; tokens of a modified residue share its column; DNA and ligands have the query alone."""
    chains = (replace(CHAINS["rna"], sequence="AGCU"), CHAINS["protein"], CHAINS["mg"])
    tokens = tokenise(build_atoms(Job("x", "x", chains)))
    rna, other = query_only("AGCU", Kind.RNA), query_only("UUTX", Kind.RNA)
    rna = replace(rna, rows=np.vstack([rna.rows, other.rows]), deletions=np.zeros((2, 4), np.int32), descriptions=("query", "x"))
    batch = featurise(tokens, [rna, None, None])
    assert batch.msa[0, :, :4].tolist() == [[21, 22, 23, 24], [24, 24, 24, 25]]
    assert batch.msa[0, 0, 4:].tolist() == tokens.restype[4:].tolist() and (batch.msa[0, 1, 4:] == chemistry.GAP).all()
    assert batch.profile[0, 0, [21, 24]].tolist() == [0.5, 0.5] and batch.profile[0, 4:].argmax(-1).tolist() == tokens.restype[4:].tolist()


def test_an_alignment_of_the_sequence_as_written_is_taken() -> None:
    """The letter under a modification may be any; the query row says the parent, the other rows stay."""
    chain = Chain("A", Kind.PROTEIN, "GXKAA", (Modification(2, "SEP"),))
    tokens = tokenise(build_atoms(Job("x", "x", (chain,))))
    one = query_only("GXKAA")
    given = replace(
        one, rows=np.vstack([one.rows, query_only("GTKAV").rows]), deletions=np.zeros((2, 5), np.int32), descriptions=("q", "h")
    )
    rows = featurise(tokens, [given]).msa[0, :, np.searchsorted(tokens.residue, np.arange(5))]
    assert ["".join((chemistry.AMINO_ACIDS + "X")[c] for c in row) for row in rows.tolist()] == ["GSKAA", "GTKAV"]


def test_permuted_chains_permute_the_features() -> None:
    """The same arrays by chain, wherever the chain stands; ids count anew."""
    names = list(CHAINS)
    straight, turned = features(*names), features(*reversed(names))
    for position, name in enumerate(names):
        other = len(names) - 1 - position
        tokens, tokens_turned = straight.asym_id[0] == position + 1, turned.asym_id[0] == other + 1
        for field in ("restype", "residue_index", "kind", "profile", "frame_mask", "sym_id"):
            assert torch.equal(getattr(straight, field)[0][tokens], getattr(turned, field)[0][tokens_turned]), (name, field)
        atoms, atoms_turned = tokens[straight.atom_to_token[0]], tokens_turned[turned.atom_to_token[0]]
        for field in ("ref_pos", "ref_element", "ref_charge", "ref_atom_name_chars", "atom_slot"):
            assert torch.equal(getattr(straight, field)[0][atoms], getattr(turned, field)[0][atoms_turned]), (name, field)
        own, own_turned = straight.token_bonds[0][tokens][:, tokens], turned.token_bonds[0][tokens_turned][:, tokens_turned]
        assert torch.equal(own, own_turned)


def test_copies_are_one_entity() -> None:
    """A3B2 of ligands and polymers: entity and copy numbers; equal conformers."""
    chains = [replace(CHAINS["atp"], id=id) for id in "AB"] + [replace(CHAINS["protein"], id=id) for id in "CDE"]
    s = build_atoms(Job("x", "x", tuple(chains)))
    assert s.chain_entity.tolist() == [1, 1, 2, 2, 2] and s.chain_copy.tolist() == [1, 2, 1, 2, 3]
    tokens = tokenise(s)
    assert np.array_equal(tokens.reference[:31], tokens.reference[31:62])


def test_the_fingerprint_holds_all_chemistry_and_no_names(tmp_path) -> None:
    """Bonds, own components and the content of files change it; ids, names, notes and paths do not."""
    path = tmp_path / "x.sdf"
    path.write_text("one")
    job = Job("a", "a", (CHAINS["protein"], CHAINS["atp"], Chain("F", Kind.LIGAND, file=str(path))))
    base = fingerprint(job)
    renamed = replace(
        job, name="b", slug="c", source="d", notes=("e",), seeds=(3,), chains=tuple(replace(c, id=c.id * 2) for c in job.chains)
    )
    assert fingerprint(renamed) == base
    (tmp_path / "moved.sdf").write_text("one")
    assert fingerprint(replace(job, chains=(*job.chains[:2], Chain("F", Kind.LIGAND, file=str(tmp_path / "moved.sdf"))))) == base
    bond = Bond(AtomName("A", 3, "NZ"), AtomName("D", 1, "PG"))
    changed = [replace(job, bonds=(bond,)), replace(job, components=(Given("x"),)), replace(job, chains=job.chains[::-1])]
    changed.append(replace(job, bonds=(replace(bond, first=AtomName("A", 1, "N")),)))
    seen = [base, *(fingerprint(other) for other in changed)]
    path.write_text("two")
    seen.append(fingerprint(job))
    assert all(seen[i] != seen[j] for i in range(len(seen)) for j in range(i))


def test_jobs_over_the_limit_are_refused_by_tokens() -> None:
    """A ligand counts by its atoms."""
    tokens = made("atp", "dna")
    check_size(tokens, 36)
    with pytest.raises(
        InputError, match=r"in.json: job is too large; found 36 tokens in 2 chain\(s\), the largest D with 31; expected at most 35"
    ):
        check_size(tokens, 35, "in.json")


def test_neighbours_that_nothing_joins_are_noted() -> None:
    """Dideoxyadenosine, without O3', ends a strand: said, not bonded in silence; a named bond is enough."""
    chain = Chain("A", Kind.DNA, "CAG", (Modification(2, "2DA"),))
    (note,) = build_atoms(Job("x", "x", (chain,))).notes
    assert note.startswith("chain A: 2DA 2 and DG 3 are not bonded: there is no O3' in the first")
    named = Bond(AtomName("A", 2, "C3'"), AtomName("A", 3, "P"))
    assert build_atoms(Job("x", "x", (chain,), bonds=(named,))).notes == ()
