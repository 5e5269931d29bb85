"""SI Algorithms 12 to 15 and the five updates of z."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from structgen.alphafold3 import transition, triangle
from structgen.alphafold3.config import Pair
from structgen.alphafold3.triangle import (
    PairTrack,
    TriangleAttentionEnding,
    TriangleAttentionStarting,
    TriangleMultiplicationIncoming,
    TriangleMultiplicationOutgoing,
    planes,
    shared_dropout,
)
from tests.alphafold3.weights import randomise
from tests.oracles import triangle as oracle
from tests.tolerance import BFLOAT16, FLOAT32_LAYER, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

PAIR = Pair(c_z=6, tri_hidden=5, heads=2, c_head=3, transition=2, dropout=0.25)
UPDATES = [TriangleMultiplicationOutgoing, TriangleMultiplicationIncoming, TriangleAttentionStarting, TriangleAttentionEnding]
EVERY = [*UPDATES, PairTrack]
MASK = torch.tensor([[True, True, False, True, True], [True, False, True, True, False]])


def draw(rng, n=5, examples=2, dtype=torch.float64):
    return torch.randn(examples, n, n, PAIR.c_z, generator=rng, dtype=dtype)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two rows and groups of three channels at the sizes of a test."""
    monkeypatch.setattr(transition, "ROWS", 21)
    monkeypatch.setattr(triangle, "PLANES", 3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("incoming", [False, True])
def test_triangle_multiplication_is_its_algorithm(incoming, masked, rng):
    """Algorithms 12 and 13, loop by loop, with and without padding."""
    layer = randomise((TriangleMultiplicationIncoming if incoming else TriangleMultiplicationOutgoing)(PAIR).double(), rng)
    z, mask = draw(rng), MASK if masked else torch.ones_like(MASK)
    expected = torch.stack([oracle.multiplication(layer, *x, incoming=incoming) for x in zip(z, mask, strict=True)])
    assert_close(layer(z, mask if masked else None), expected, FLOAT64_ORACLE)


def test_incoming_with_a_and_b_exchanged_has_their_projections_exchanged(rng):
    """a_kj b_ki is a_ki b_kj with the two halves of the projections in the other order."""
    printed = randomise(TriangleMultiplicationIncoming(PAIR).double(), rng)
    exchanged = TriangleMultiplicationIncoming(replace(PAIR, incoming="a_kj")).double()
    exchanged.load_state_dict(printed.state_dict())
    z = draw(rng)
    assert (exchanged(z, None) - printed(z, None)).abs().max() > 1e-3
    for layer in (exchanged.projections, exchanged.gates):
        layer.weight.data = torch.cat(layer.weight.data.chunk(2)[::-1])
    assert_close(exchanged(z, None), printed(z, None), FLOAT64_IDENTITY)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("ending", "bias"), [(False, "ki"), (True, "ki"), (True, "ik")])
def test_triangle_attention_is_its_algorithm(ending, bias, masked, rng):
    """Algorithms 14 and 15 with both readings of the bias, loop by loop, with and without padding."""
    pair = replace(PAIR, end_node_bias=bias)
    layer = randomise((TriangleAttentionEnding if ending else TriangleAttentionStarting)(pair).double(), rng)
    z, mask = draw(rng), MASK if masked else torch.ones_like(MASK)
    expected = torch.stack([oracle.attention(layer, *x, ending=ending, bias=bias) for x in zip(z, mask, strict=True)])
    assert_close(layer(z, mask if masked else None), expected, FLOAT64_ORACLE)


def test_the_two_readings_of_the_ending_bias_differ(rng):
    """A wrong `end_node_bias` cannot pass unseen."""
    ki, ik = (randomise(TriangleAttentionEnding(replace(PAIR, end_node_bias=x)), torch.Generator().manual_seed(1)) for x in ("ki", "ik"))
    z = draw(rng, dtype=torch.float32)
    assert (ki(z, None) - ik(z, None)).abs().max() > 0.1


def test_ending_is_starting_on_z_transposed(rng):
    """With b_ki, Algorithm 15 is Algorithm 14 between two transpositions."""
    starting, ending = randomise(TriangleAttentionStarting(PAIR).double(), rng), TriangleAttentionEnding(PAIR).double()
    ending.load_state_dict(starting.state_dict())
    z = draw(rng)
    assert_close(ending(z, MASK), starting(z.transpose(1, 2), MASK).transpose(1, 2), FLOAT64_IDENTITY)


def test_incoming_is_outgoing_of_z_transposed(rng):
    """sum_k a_ki b_kj of z is sum_k a_ik b_jk of z transposed; only the output gate, held at one half here, sees z at i, j."""
    outgoing, incoming = randomise(TriangleMultiplicationOutgoing(PAIR).double(), rng), TriangleMultiplicationIncoming(PAIR).double()
    with torch.no_grad():
        outgoing.gate_out.weight.zero_()
    incoming.load_state_dict(outgoing.state_dict())
    z = draw(rng)
    assert_close(incoming(z, None), outgoing(z.transpose(1, 2), None), FLOAT64_IDENTITY)


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("mask", [None, MASK])
def test_blocks_and_overwriting_change_nothing(make, mask, rng, small_blocks):
    """Without gradients z is updated in place, in blocks; the values are those of the whole."""
    layer = randomise(make(PAIR).double(), rng).eval()
    z = draw(rng)
    step = layer.forward if make is PairTrack else layer.add_to
    kept = z.clone()
    expected = step(z, mask)
    assert torch.equal(z, kept)
    with torch.no_grad():
        if make is not PairTrack:
            assert_close(z + layer(z, mask), expected, FLOAT64_IDENTITY)
        given = step(z, mask)
    assert given.data_ptr() == z.data_ptr()
    assert_close(z, expected, FLOAT64_IDENTITY)


@pytest.mark.parametrize("make", EVERY)
def test_padding_changes_no_real_pair(make, rng, small_blocks):
    """Tokens behind the mask, whatever they hold, leave the others as they were."""
    layer = randomise(make(PAIR).double(), rng).eval()
    z = draw(rng)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, 5:] = False
    padded = 3 * draw(rng, n=8)
    padded[:, :5, :5] = z
    with torch.no_grad():
        assert_close(layer(padded, mask)[:, :5, :5], layer(z, None), FLOAT64_IDENTITY)


@pytest.mark.parametrize("make", EVERY)
def test_permuting_the_tokens_permutes_the_pairs(make, rng):
    """No part of the pair track knows the order of the tokens."""
    layer = randomise(make(PAIR).double(), rng).eval()
    z, order = draw(rng), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        expected = layer(z.clone(), None)[:, order][:, :, order]
        assert_close(layer(z[:, order][:, :, order], None), expected, FLOAT64_IDENTITY)


def test_pair_track_is_its_composition(rng):
    """The five updates in the order of Algorithm 17."""
    layer = randomise(PairTrack(PAIR).double(), rng).eval()
    z = draw(rng)
    expected = torch.stack([oracle.pair_track(layer, *x) for x in zip(z, MASK, strict=True)])
    assert_close(layer(z, MASK), expected, FLOAT64_ORACLE)


@pytest.mark.parametrize("make", UPDATES)
def test_dropout_takes_whole_columns_of_the_rows_that_share_it(make, rng):
    """One mask for all rows i (Algorithms 12 to 14) or all columns j (15); kept values are scaled by 1 / (1 - rate); none in evaluation."""
    layer = randomise(make(PAIR).double(), rng)
    z = draw(rng, n=7)
    update = layer(z, None)
    torch.manual_seed(5)
    dropped = layer.train().add_to(z.clone(), None) - z
    ratio = (dropped / update * 0.75).round(decimals=6)
    if make is TriangleAttentionEnding:
        ratio = ratio.transpose(1, 2)
    assert ratio.abs().unique().tolist() == [0.0, 1.0]
    assert torch.equal(ratio, ratio[:, :1].expand_as(ratio))
    torch.manual_seed(5)
    with torch.no_grad():
        assert_close(layer.add_to(z.clone(), None) - z, dropped, FLOAT32_LAYER)
    assert_close(layer.eval().add_to(z, None) - z, update, FLOAT32_LAYER)


def test_dropout_keeps_its_share():
    """3 standard errors around 1 - rate, drawn apart for every example."""
    torch.manual_seed(0)
    factor = shared_dropout(torch.empty(4, 2, 100, 50), 0.25)
    assert factor.shape == (4, 1, 100, 50)
    assert abs((factor > 0).float().mean() - 0.75) < 3 * (0.75 * 0.25 / factor.numel()) ** 0.5
    assert not torch.equal(factor[0], factor[1])


@pytest.mark.parametrize("make", EVERY)
def test_the_pair_track_starts_as_the_identity(make):
    """Output matrices start at zero."""
    layer = make(PAIR).eval()
    z = torch.randn(1, 5, 5, PAIR.c_z)
    step = layer.forward if make is PairTrack else layer.add_to
    assert torch.equal(step(z, None), z)


@pytest.mark.parametrize("make", EVERY)
def test_gradients_reach_every_parameter(make, rng):
    """Once no weight is zero."""
    layer = randomise(make(PAIR), rng).eval()
    layer(draw(rng, dtype=torch.float32), MASK).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())


def test_gradients_are_the_differences_quotient(rng):
    """Autograd of the pair track in float64 against finite differences."""
    layer = randomise(PairTrack(PAIR).double(), rng, scale=0.3).eval()
    z = draw(rng, n=3, examples=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, None), (z,), eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("make", EVERY)
def test_bfloat16_stays_within_its_rounding(make, rng):
    """Weights and activations in bfloat16, against the same numbers in float32."""
    pair = Pair(c_z=32, tri_hidden=32, heads=2, c_head=16, transition=2)
    layer = randomise(make(pair), rng, scale=0.1).to(torch.bfloat16).eval()
    z = torch.randn(1, 11, 11, 32, generator=rng).to(torch.bfloat16)
    with torch.no_grad():
        low = layer(z.clone(), None)
        assert low.dtype == torch.bfloat16
        assert_close(low.float(), layer.float()(z.float(), None), BFLOAT16)


def test_parameters_are_as_many_as_the_supplement_says():
    """2c + 4ch + c^2 + 2h + hc and 2c + cH + 5cHd."""
    count = {make: sum(p.numel() for p in make(Pair()).parameters()) for make in EVERY}
    assert [count[make] for make in EVERY] == [98_816, 98_816, 82_688, 82_688, 559_872]


def test_dense_planes_have_the_gradients_of_the_product(rng):
    """W x_ij with the channels first, with gradients kept: dense values of the product, and the gradients of finite differences."""
    weight, x = torch.randn(3, 4, generator=rng).double(), torch.randn(2, 5, 6, 4, generator=rng).double()
    weight.requires_grad_(), x.requires_grad_()
    assert planes(weight, x).is_contiguous()
    assert_close(planes(weight, x), torch.einsum("oc,bijc->boij", weight, x), FLOAT64_IDENTITY)
    assert torch.autograd.gradcheck(planes, (weight, x))
