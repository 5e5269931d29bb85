"""Entries of any molecule: what is kept of them is enough to make their features again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from structgen.data.assemble import assemble
from structgen.data.entry import entry_of_tokens
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind, Modification
from structgen.features.tokens import Tokens, tokenise


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    """Protein with a phosphoserine, RNA, DNA, a haem, an ion, and a second copy of the protein."""
    protein = {"kind": Kind.PROTEIN, "sequence": "MASGXW", "modifications": (Modification(3, "SEP"),)}
    chains = (
        Chain("A", **protein),
        Chain("R", Kind.RNA, "GACU"),
        Chain("D", Kind.DNA, "ACGT"),
        Chain("L", Kind.LIGAND, residues=("HEM",)),
        Chain("M", Kind.LIGAND, residues=("ZN",)),
        Chain("B", **protein),
    )
    return tokenise(build_atoms(Job(name="x", slug="x", chains=chains, source="x")))


def test_every_molecule_is_assembled_as_it_is_featurised(tokens: Tokens):
    """All arrays, bonds among them, equal those that a prediction of the same job has."""
    rng = np.random.default_rng(0)
    positions, resolved = rng.normal(size=(len(tokens.atom_token), 3)) * 20, rng.random(len(tokens.atom_token)) < 0.8
    found = assemble(entry_of_tokens(tokens, positions, resolved), np.arange(len(tokens.residue)))
    batch = featurise(tokens, [None] * 6)
    for name, value in found.features.items():
        assert np.array_equal(value, getattr(batch, name)[0].numpy()), name
    bonds = torch.zeros_like(batch.token_bonds[0])
    first, second = torch.from_numpy(found.bonds.astype(np.int64)).T
    bonds[first, second] = bonds[second, first] = 1
    assert torch.equal(bonds, batch.token_bonds[0])
    assert np.array_equal(found.resolved, resolved)
    assert np.allclose(found.positions[resolved], positions[resolved], atol=0.0051) and not found.positions[~resolved].any()


def test_a_frame_that_the_crop_cuts_is_masked(tokens: Tokens):
    """An atom of the haem without its neighbours has no frame; with the whole residue it keeps its own."""
    entry = entry_of_tokens(tokens, np.zeros((len(tokens.atom_token), 3)), np.ones(len(tokens.atom_token), bool))
    haem = np.flatnonzero(tokens.chain == 3)
    assert not assemble(entry, haem[:1]).features["frame_mask"].any()
    whole = assemble(entry, haem).features
    assert np.array_equal(whole["frame_mask"], tokens.frame_mask[haem])
    first = tokens.centre_atom[haem[0]]
    assert np.array_equal(whole["frame_atoms"] + first, np.where(whole["frame_mask"][:, None], tokens.frame_atoms[haem], first))


def test_atoms_too_far_from_the_centre_are_refused(tokens: Tokens):
    """Sixteen bits hold 327 angstrom, and nothing wraps round in silence."""
    far = np.zeros((len(tokens.atom_token), 3))
    far[5, 1] = 400
    with pytest.raises(ValueError, match="reach 400 angstrom"):
        entry_of_tokens(tokens, far, np.ones(len(far), bool))
