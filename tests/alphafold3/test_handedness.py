"""Proteins wind to the right, whatever else a sample is."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from structgen.alphafold3.handedness import dihedrals, left_handed, off_templates, right_handed, stretches
from structgen.features.batch import Batch
from structgen.features.job import Kind
from tests.alphafold3.crop import random_rotation
from tests.structures import batch_of, tokens_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close


def helix(batch: Batch, *, rng: torch.Generator) -> torch.Tensor:
    """[l, 3]: centre atoms of all tokens on a right-handed alpha helix (100 degrees and 1.5 angstrom a residue), the others anywhere."""
    step = torch.arange(batch.tokens, dtype=torch.float64)
    angle = torch.deg2rad(100 * step)
    atoms = torch.randn(batch.atoms, 3, generator=rng, dtype=torch.float64)
    atoms[batch.centre_atom[0]] = torch.stack([2.3 * torch.cos(angle), 2.3 * torch.sin(angle), 1.5 * step], -1)
    return atoms


def test_dihedral_angles_are_the_iupac_ones(rng: torch.Generator) -> None:
    """A quarter turn clockwise, seen along the middle bond, is +90 degrees; a mirror image changes the sign, a rotation nothing."""
    points = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]], dtype=torch.float64)[None, None]
    assert_close(dihedrals(points), torch.tensor([[90.0]], dtype=torch.float64), FLOAT64_IDENTITY)
    assert_close(dihedrals(-points), torch.tensor([[-90.0]], dtype=torch.float64), FLOAT64_IDENTITY)
    assert_close(dihedrals(points @ random_rotation(rng)), torch.tensor([[90.0]], dtype=torch.float64), FLOAT64_IDENTITY)


def test_mirrored_samples_are_mirrored_back(rng: torch.Generator) -> None:
    """Of a helix and its mirror image, the one stays bit for bit and the other becomes it."""
    batch = batch_of(tokens_of("A" * 12, "GC" * 4))
    atoms = helix(batch, rng=rng)
    both = torch.stack([atoms, atoms * torch.tensor([-1.0, 1.0, 1.0])])
    assert left_handed(both, batch).tolist() == [False, True]
    assert torch.equal(right_handed(both, batch), torch.stack([atoms, atoms]))


@pytest.mark.parametrize("turned", [1.0, -1.0])
def test_a_template_tells_the_hand(rng: torch.Generator, turned: float) -> None:
    """Of a chain and its mirror image the one stays that a template is of, noise and rotation aside, even one that winds to the left; a
    template of a few residues says nothing."""
    batch = batch_of(tokens_of("A" * 20, "GC" * 4))
    atoms = helix(batch, rng=rng) * torch.tensor([turned, 1.0, 1.0])
    frame, mask = torch.zeros(1, 2, 28, 3, 3), torch.zeros(1, 2, 28, dtype=torch.bool)
    place = atoms[batch.centre_atom[0]] @ random_rotation(rng).mT + 0.5 * torch.randn(28, 3, generator=rng, dtype=torch.float64)
    frame[0, :, :, 1] = place.float()
    mask[0, 0, :5], mask[0, 1, 2:18] = True, True  # the first one is too short
    both = torch.stack([atoms, atoms * torch.tensor([-1.0, 1.0, 1.0])])
    shown = dataclasses.replace(batch, template_frame=frame, template_frame_mask=mask)
    off = off_templates(both, shown)
    assert off is not None and off[0] < 16 * 3 < off[1]
    assert torch.equal(right_handed(both, shown), torch.stack([atoms, atoms]))
    few = dataclasses.replace(shown, template_frame_mask=mask & (torch.arange(28) < 5))
    assert off_templates(both, few) is None and not left_handed(right_handed(both, few), few).any()


def test_only_unbroken_stretches_of_proteins_count(rng: torch.Generator) -> None:
    """Four residues of one chain; nothing of a nucleic acid, and nothing across the end of a chain."""
    batch = batch_of(tokens_of("A" * 6, "A" * 3, (Kind.DNA, "ACGTACGT"), "A" * 5))
    assert stretches(batch).tolist() == [[k, k + 1, k + 2, k + 3] for k in (0, 1, 2, 17, 18)]
    nucleic = batch_of(tokens_of((Kind.DNA, "ACGTACGT")))
    mirrored = -helix(nucleic, rng=rng)[None]
    assert not left_handed(mirrored, nucleic).any() and torch.equal(right_handed(mirrored, nucleic), mirrored)
