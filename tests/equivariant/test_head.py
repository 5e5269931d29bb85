"""The equivariant head turns with its input, tells mirror images apart, and looks at what exists alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from structgen import heads
from structgen.alphafold3.config import Config, Equivariant, Head, tiny
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.equivariant.graph import along_chain, connect
from structgen.errors import ConfigError
from structgen.features.batch import Batch
from structgen.features.chains import AMINO_ACIDS
from structgen.features.conformers import rotations
from structgen.features.examples import labelled
from structgen.features.featurise import collate
from structgen.generative import Linear, UnitVelocity, VarianceExploding
from structgen.predict import fold
from tests.structures import record, tokens_of
from tests.tolerance import FLOAT32_LAYER, FLOAT64_IDENTITY, assert_close

SIZES = Equivariant(layers=2, scalars=16, vectors=8, tensors=4, c_edge=8, radial=8, heads=2, nearest=5, window=2, c_fourier=8)
HEADS = [Head(network, objective, SIZES) for network in ("transformer", "equivariant") for objective in ("diffusion", "flow")]


def config(head: Head) -> Config:
    return dataclasses.replace(tiny(), head=head)


def network(head: Head, rng: torch.Generator) -> AlphaFold3:
    """Weights as they are drawn, and a little more, so that none is zero: e3nn's are flat and know their own scale."""
    torch.manual_seed(0)
    model = heads.build(config(head))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    return model.eval()


def batch(*sequences: str) -> Batch:
    return collate([labelled(record(sequence))[0] for sequence in sequences])


def update(model: AlphaFold3, batch: Batch, r: Tensor, times: Tensor) -> Tensor:
    with torch.no_grad():
        trunk = model.trunk(batch, cycles=1, rng=torch.Generator().manual_seed(0))
        return model.diffusion(r, times, model.diffusion.condition(batch, trunk))


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_updates_turn_with_the_atoms(rng: torch.Generator, scale: float) -> None:
    """A rotation and a shift of each of four samples, at noise of any size: the same rotation of the update to 1e-5, no shift.

    Reflecting instead changes the update: the head knows its hand.
    """
    model, given = network(HEADS[2], rng), batch("ARNDCQEGHI", "WYFK")
    r, times = scale * torch.randn(4, given.atoms, 3, generator=rng), torch.randn(4, 1, generator=rng)
    turn, shift = rotations(torch.randn(4, 4, generator=rng)), torch.randn(4, 1, 3, generator=rng)
    straight, turned = update(model, given, r, times), update(model, given, r @ turn.mT + shift, times)
    assert straight.abs().max() > 0.01
    assert_close(turned / straight.abs().max(), straight @ turn.mT / straight.abs().max(), FLOAT32_LAYER)
    assert (update(model, given, -r, times) + straight).abs().max() > 0.01 * straight.abs().max()


def test_padding_and_neighbours_in_the_batch_change_nothing(rng: torch.Generator) -> None:
    """A short chain alone, and padded beside a longer one, gets the same update; what does not exist gets none."""
    model, short, both = network(HEADS[3], rng), batch("WYFK"), batch("ARNDCQEGHI", "WYFK")
    r, times = torch.randn(4, both.atoms, 3, generator=rng), torch.randn(4, 1, generator=rng)
    alone, together = update(model, short, r[2:, : short.atoms], times[2:]), update(model, both, r, times)
    assert_close(together[2:, : short.atoms], alone, FLOAT32_LAYER)
    assert (together[2:, short.atoms :] == 0).all() and (together[:2] != 0).any()


def test_a_graph_holds_the_chain_and_then_the_nearest(rng: torch.Generator) -> None:
    """Neighbours equal a sorted list made by hand: tokens of the chain within the window, then others by distance, masked ones never."""
    x, mask = torch.randn(1, 9, 3, generator=rng), torch.ones(1, 9, dtype=torch.bool)
    mask[0, 4] = False
    residue, chain = torch.tensor([[1, 2, 3, 4, 5, 6, 1, 2, 3]]), torch.tensor([[1, 1, 1, 1, 1, 1, 2, 2, 2]])
    graph = connect(x, mask, along_chain(residue, chain, 1), nearest=3, window=1)
    for i in range(9):
        others = [j for j in range(9) if j != i and mask[0, j] and mask[0, i]]
        bound = [j for j in others if chain[0, j] == chain[0, i] and abs(int(residue[0, j] - residue[0, i])) <= 1]
        rest = sorted(set(others) - set(bound), key=lambda j: (x[0, i] - x[0, j]).norm().item())
        found = graph.neighbours[0, i][graph.mask[0, i]].tolist()
        assert set(found) == set(bound + rest[: 5 - len(bound)])
    feature = torch.randn(1, 9, 2, generator=rng)
    assert torch.equal(graph.of(feature)[0, 3, 1], feature[0, graph.neighbours[0, 3, 1]])
    pairs = torch.randn(1, 9, 9, 2, generator=rng)
    assert torch.equal(graph.of_pairs(pairs)[0, 3, 1], pairs[0, 3, graph.neighbours[0, 3, 1]])


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.network}-{head.objective}")
def test_every_head_and_objective_is_saved_and_folds(head: Head, rng: torch.Generator, tmp_path: Path) -> None:
    """The four combinations differ in their configuration alone: the file brings the same network back, which folds in any of them."""
    model = network(head, rng)
    save_model(model, tmp_path / "model.safetensors")
    loaded = heads.load(str(tmp_path / "model.safetensors"))
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.network.state_dict().values(), strict=True))
    path = loaded.network.denoiser.path
    assert path == (Linear(scale=16.0) if head.objective == "flow" else VarianceExploding())
    tokens = tokens_of(AMINO_ACIDS[:12])
    samples = fold(tokens, batch(AMINO_ACIDS[:12]), loaded, loaded.config.sampling, seed=1)
    again = fold(tokens, batch(AMINO_ACIDS[:12]), loaded, loaded.config.sampling, seed=1)
    assert len(samples) == 2 and all(np.array_equal(a.positions, b.positions) for a, b in zip(samples, again, strict=True))
    if head.network == "equivariant":
        with pytest.raises(ConfigError, match=r"heads\.load"):
            AlphaFold3(model.config)


def test_unit_velocity_is_read_back(rng: torch.Generator) -> None:
    """The velocity of a line, in units of the data's width, gives the line's ends; inputs have unit variance and times are finite."""
    path, reading = Linear(scale=16.0), UnitVelocity(16.0)
    data, noise = (torch.randn(5, 4000, generator=rng, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.0, 1e-3, 0.3, 0.9, 1.0], dtype=torch.float64)
    x = (1 - t)[:, None] * 16 * data + 16 * t[:, None] * noise
    inputs, times = reading.inputs(path, x, t, t)
    assert ((inputs.std(1) - 1).abs() < 0.05).all() and times.isfinite().all() and (times.diff(dim=0) > 0).all()
    ends = reading.endpoints(path, noise - data, x, t, t)
    assert_close(ends.data, 16 * data, FLOAT64_IDENTITY)
    assert_close(ends.noise, noise, FLOAT64_IDENTITY)
