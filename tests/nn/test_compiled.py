"""Compiled blocks: found by class, the same weights by name, one compilation for all copies, and the same numbers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from structgen import heads
from structgen.alphafold3.config import tiny
from structgen.alphafold3.training import LossTerms, StructureLoss
from structgen.features.conformers import pose_conformers
from structgen.features.examples import Example
from structgen.nn.compiled import compile_blocks
from tests.structures import batch_of, tokens_of
from tests.tolerance import FLOAT32_LAYER, assert_close


class Block(nn.Module):
    COMPILED = ("forward",)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(x))


def test_copies_share_a_compilation(rng: torch.Generator) -> None:
    """Three blocks at two shapes are compiled twice, not six times; names of weights and values stay; a second call adds nothing."""
    torch._dynamo.reset()
    network, x = nn.Sequential(Block(), Block(), Block()), torch.randn(5, 4, generator=rng, requires_grad=True)
    expected, names, counter = network(x), list(network.state_dict()), CompileCounter()
    for _ in range(2):
        assert compile_blocks(network, backend=counter) == 3
    assert_close(network(x), expected, FLOAT32_LAYER)
    network(x[:3])
    assert counter.frame_count == 2 and list(network.state_dict()) == names
    assert compile_blocks(nn.Linear(2, 2)) == 0


@pytest.mark.slow
def test_a_compiled_network_has_the_same_loss_and_gradients(rng: torch.Generator) -> None:
    """Every block of structure prediction is a whole graph; traced for half a minute, computed by torch's own kernels."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    config = tiny()
    network = heads.build(dataclasses.replace(config, msa=dataclasses.replace(config.msa, dropout=0.0)))
    batch = pose_conformers(batch_of(tokens_of("ADEFG", "ADEFGH")), rng)
    example = Example(batch, 5 * torch.randn(1, batch.atoms, 3, generator=rng), torch.ones(1, batch.atoms, dtype=torch.bool))
    loss = StructureLoss(network, LossTerms(noise_levels=2, cycles=1, frames=0.5))
    found = []
    for _ in range(2):
        network.zero_grad()
        value, _ = loss(example, torch.Generator().manual_seed(3))
        value.backward()
        found.append((value.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}))
        assert compile_blocks(network, backend="aot_eager") > 5
    assert_close(found[1][0], found[0][0], FLOAT32_LAYER)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        assert_close(found[1][1][name], gradient, FLOAT32_LAYER)
