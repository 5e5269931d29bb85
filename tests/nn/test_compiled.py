"""Compiled blocks: found by class, the same weights by name, one compilation for all copies, and the same numbers."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

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

REPOSITORY = Path(__file__).parents[2]


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
def test_a_compiled_network_has_the_same_loss_and_gradients() -> None:
    """Every block of structure prediction is a whole graph; traced for half a minute, computed by torch's own kernels.

    In a process of its own: the checks of shapes, which only tests make, cannot be traced.
    """
    environment = os.environ | {"STRUCTGEN_TYPED": "0", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.nn.test_compiled"], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 0 and ended.stdout.startswith("compared "), ended.stderr[-2000:]
    assert int(ended.stdout.split()[1]) > 100


def compare() -> None:
    """Loss and gradients of a small network before and after its blocks are compiled."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    config = tiny()
    network = heads.build(dataclasses.replace(config, msa=dataclasses.replace(config.msa, dropout=0.0)))
    network.eval()  # no dropout: the same twice
    with torch.no_grad():  # zeros at the start would hide most gradients
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    batch = pose_conformers(batch_of(tokens_of("ADEFG", "ADEFGH")), rng)
    example = Example(batch, 5 * torch.randn(1, batch.atoms, 3, generator=rng), torch.ones(1, batch.atoms, dtype=torch.bool))
    loss = StructureLoss(network, LossTerms(noise_levels=2, cycles=1, frames=0.5))
    found = []
    for _ in range(2):
        network.zero_grad()
        value, _ = loss(example, torch.Generator().manual_seed(3))
        value.backward()
        given = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.named_parameters()}  # none is none or 0
        found.append((value.detach(), given))
        assert compile_blocks(network, backend="aot_eager") > 5
    assert_close(found[1][0], found[0][0], FLOAT32_LAYER)
    for name, gradient in found[0][1].items():
        assert_close(found[1][1][name], gradient, FLOAT32_LAYER)
    print("compared", sum(bool(gradient.any()) for gradient in found[0][1].values()))


if __name__ == "__main__":
    compare()
