"""Scores by pair of chains and by residue, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.features.atoms import build_atoms
from structgen.features.job import Chain, Job, Kind, Modification
from structgen.features.tokens import Tokens, tokenise
from structgen.metrics.interfaces import chain_pair_pde, interface_scores, residue_plddt


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    chains = (
        Chain("A", Kind.PROTEIN, "MSK", (Modification(2, "SEP"),)),
        Chain("B", Kind.RNA, "GU"),
        Chain("C", Kind.LIGAND, smiles="CCO"),
        Chain("D", Kind.LIGAND, residues=("MG",)),
    )
    return tokenise(build_atoms(Job("x", "x", chains)))


def test_an_interface_is_scored_by_both_chains_or_by_the_ligand(tokens: Tokens) -> None:
    """Two polymers, and two ligands, share alike; of a polymer and a ligand the ligand alone counts. Symmetric."""
    scores = interface_scores(tokens.structure, np.array([0.9, 0.5, 0.3, 0.1]))
    expected = {("A", "B"): 0.7, ("A", "C"): 0.3, ("A", "D"): 0.1, ("B", "C"): 0.3, ("B", "D"): 0.1, ("C", "D"): 0.2}
    for (a, b), value in expected.items():
        i, j = ("ABCD".index(id) for id in (a, b))
        assert scores[i, j] == scores[j, i] == pytest.approx(value)
    assert np.isnan(np.diagonal(scores)).all()


def test_an_undefined_polymer_does_not_hide_the_ligands_score(tokens: Tokens) -> None:
    """NaN stays where it counts, and only there."""
    scores = interface_scores(tokens.structure, np.array([np.nan, 0.5, 0.3, 0.1]))
    assert np.isnan(scores[0, 1]) and scores[0, 2] == 0.3 and scores[1, 2] == 0.3


def test_pde_of_chains_is_that_of_their_tokens(tokens: Tokens) -> None:
    """Mean and minimum over every pair of tokens of two chains."""
    n = len(tokens.residue)
    pde = np.random.default_rng(0).random((n, n)).astype(np.float32) * 32
    mean, least = chain_pair_pde(tokens, pde)
    for c in range(4):
        for d in range(4):
            values = [pde[i, j] for i in range(n) for j in range(n) if tokens.chain[i] == c and tokens.chain[j] == d]
            assert mean[c, d] == pytest.approx(np.mean(values, dtype=np.float64)) and least[c, d] == min(values)


def test_a_residue_has_the_mean_of_its_atoms(tokens: Tokens) -> None:
    """Standard, modified and ligand residues alike."""
    structure = tokens.structure
    plddt = np.random.default_rng(0).random(len(structure.atom_names)) * 100
    expected = [plddt[structure.atom_residue == r].mean() for r in range(len(structure.residue_names))]
    np.testing.assert_allclose(residue_plddt(structure, plddt), expected)
