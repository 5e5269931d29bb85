"""Crops: which tokens, how many, and around what."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.data.assemble import centres
from structgen.data.backbones import backbone_rows, chain_tokens
from structgen.data.crops import CropWeights, contiguous, crop, spatial
from structgen.data.entry import Entry, entry_of_tokens
from structgen.data.simulated import Simulation, simulate
from structgen.features.atoms import build_atoms
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import tokenise
from structgen.search.library import implied_beta


@pytest.fixture(scope="module")
def two_chains() -> Entry:
    """Two helices of 60 residues that cross, and a ligand far away."""
    chains = (Chain("A", Kind.PROTEIN, "AG" * 30), Chain("B", Kind.PROTEIN, "LS" * 30), Chain("C", Kind.LIGAND, residues=("HEM",)))
    tokens = tokenise(build_atoms(Job(name="x", slug="x", chains=chains, source="x")))
    rng = np.random.default_rng(1)
    line = np.zeros((len(tokens.residue), 3))
    chain, number = tokens.chain, tokens.structure.residue_numbers[tokens.residue]
    line[chain == 0, 0] = 1.5 * (number[chain == 0] - 30)
    line[chain == 1, 1] = 1.5 * (number[chain == 1] - 30)
    line[chain == 2] = 100
    positions = line[tokens.atom_token] + rng.normal(size=(len(tokens.atom_token), 3))
    return entry_of_tokens(tokens, positions, np.ones(len(positions), bool))


def test_contiguous_crops_are_stretches_that_spend_the_budget(two_chains: Entry):
    """Each chain contributes one stretch; together they are the budget."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        chosen = contiguous(two_chains.chain, 70, rng)
        assert len(chosen) == 70
        for c in range(3):
            assert (np.diff(chosen[two_chains.chain[chosen] == c]) == 1).all()


def test_spatial_crops_are_the_nearest_tokens(two_chains: Entry):
    """Nothing outside is nearer to the reference than what is inside."""
    positions, known = centres(two_chains)
    chosen = spatial(positions, known, 30, 25)
    apart = np.linalg.norm(positions - positions[30], axis=1)
    assert len(chosen) == 25 and apart[chosen].max() <= np.delete(apart, chosen).min()


def test_interface_crops_hold_both_chains(two_chains: Entry):
    """Around a contact of the two helices, whichever chain was asked for; the ligand far away is never in it."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = crop(two_chains, 40, (0,), CropWeights(0, 0, 1), rng)
        assert {0, 1} == set(two_chains.chain[chosen].tolist())


def test_an_entry_within_the_budget_is_whole(two_chains: Entry):
    """Nothing is drawn where everything fits."""
    chosen = crop(two_chains, 1000, (0,), CropWeights(), np.random.default_rng(0))
    assert np.array_equal(chosen, np.arange(two_chains.tokens))


def test_a_crop_without_coordinates_is_contiguous(two_chains: Entry):
    """A chain of which nothing is resolved can only be cut along its sequence."""
    blind = Entry(**two_chains.arrays() | {"resolved": np.zeros_like(two_chains.resolved), "xyz": two_chains.xyz[:0]})
    assert len(crop(blind, 40, (1,), CropWeights(0.2, 0.4, 0.4), np.random.default_rng(0))) == 40


def test_implied_beta_is_where_ideal_alanine_has_it():
    """Within 0.1 angstrom of the dictionary's alanine."""
    from structgen.features import chemistry

    names = chemistry.ATOM_NAMES[0].tolist()
    frame, beta = chemistry.IDEAL[0][[names.index(n) for n in ("N", "CA", "C")]], chemistry.IDEAL[0][names.index("CB")]
    assert np.linalg.norm(implied_beta(frame[None])[0] - beta) < 0.1


def test_a_simulation_without_distortion_is_the_native(two_chains: Entry):
    """Every way of distorting can be switched off; then frames and classes are those of the chain."""
    native = backbone_rows(two_chains, chain_tokens(two_chains, 1))
    still = Simulation(bend=(0, 0), noise=(0, 0), identity=(1, 1), gaps=(0, 0), shifted=0)
    found = simulate(native, still, np.random.default_rng(0))
    assert np.array_equal(found.restype, native.restype) and np.allclose(found.frame, native.frame)


def test_simulated_templates_are_as_far_from_the_native_as_they_say(two_chains: Entry):
    """Displacement, identity and gaps have the wanted size on average; masked rows are empty."""
    native, rng = backbone_rows(two_chains, chain_tokens(two_chains, 0)), np.random.default_rng(2)
    simulation = Simulation(bend=(2, 2), noise=(0.5, 0.5), identity=(0.5, 0.5), gaps=(0.3, 0.3), shifted=0)
    drawn = [simulate(native, simulation, rng) for _ in range(200)]
    apart = np.concatenate([np.linalg.norm(d.frame[d.frame_mask] - native.frame[d.frame_mask], axis=-1)[:, 1] for d in drawn])
    same = np.concatenate([d.restype[d.frame_mask] == native.restype[d.frame_mask] for d in drawn])
    assert np.sqrt((apart**2).mean()) == pytest.approx(np.sqrt(2**2 + 0.5**2), rel=0.1)
    assert same.mean() == pytest.approx(0.5 + 0.5 / 20, abs=0.05)
    assert 0.3 <= np.mean([1 - d.frame_mask.mean() for d in drawn]) < 0.5
    assert all(not d.frame[~d.frame_mask].any() and (d.restype[~d.frame_mask] == 31).all() for d in drawn)
