"""The loss of a crop: every term is there, labels are renamed to a roll-out, and the objectives agree on what they share."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from structgen import heads
from structgen.alphafold3.config import Equivariant, Head, tiny
from structgen.alphafold3.training import LossTerms, StructureLoss
from structgen.features.conformers import pose_conformers
from structgen.features.examples import Example
from structgen.generative import Linear
from structgen.generative.weights import Edm, Flow
from tests.structures import batch_of, tokens_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close

SIZES = Equivariant(layers=1, scalars=16, vectors=4, tensors=4, c_edge=8, radial=8, heads=2, nearest=4, window=1, c_fourier=8)
TERMS = LossTerms(noise_levels=3, cycles=1, frames=0.5, rollout_steps=2)
HEADS = [Head(network, objective, SIZES) for network in ("transformer", "equivariant") for objective in ("diffusion", "flow")]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.network}-{head.objective}")
def test_every_pair_of_head_and_objective_gives_a_loss_and_gradients(rng: torch.Generator, head: Head) -> None:
    """With frames and a roll-out: finite, named, the same twice, and the head gets gradients."""
    torch.manual_seed(0)
    network = heads.build(dataclasses.replace(tiny(), head=head))
    batch = pose_conformers(batch_of(tokens_of("ADEFG", "ADEFG")), rng)
    example = Example(batch, 5 * torch.randn(1, batch.atoms, 3, generator=rng), torch.ones(1, batch.atoms, dtype=torch.bool))
    loss = StructureLoss(network, TERMS)
    network.eval()  # no dropout: the same twice
    (value, parts), (again, _) = (loss(example, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(value, again) and value.isfinite()
    assert parts.keys() == {"distogram", "mse", "bonds", "smooth_lddt", "weighted_mse", "frames"} and parts["frames"] > 0
    value.backward()
    moved = [name for name, p in network.denoiser.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert moved and all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_flow_matching_weighs_velocities() -> None:
    """An error in data weighs as that in velocity in units of sigma_data does: 1 / t^2 on the straight path, near EDM's weight there."""
    t = torch.tensor([0.01, 0.3, 0.9, 1.0], dtype=torch.float64)
    path = Linear(scale=16.0)
    assert_close(Flow(16.0)(path, t), 1 / (16 * t) ** 2, FLOAT64_IDENTITY)
    assert_close(Edm(16.0)(path, t), (t**2 + (1 - t) ** 2) / (16 * t) ** 2, FLOAT64_IDENTITY)
