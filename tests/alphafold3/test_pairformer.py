"""SI Algorithm 17 and the unconditioned Algorithm 24."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from structgen.alphafold3.config import Pair
from structgen.alphafold3.pairformer import AttentionPairBias, PairformerBlock, PairformerStack
from tests.alphafold3.weights import randomise
from tests.oracles import pairformer as oracle
from tests.tolerance import BFLOAT16, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

PAIR = Pair(c_z=6, tri_hidden=5, heads=2, c_head=3, transition=2)
MASK = torch.tensor([[True, True, False, True, True], [True, False, True, True, False]])


def make(rng, *, single=True):
    stack = PairformerStack(2, c_s=9 if single else None, heads=3, transition=2, pair=PAIR)
    return randomise(stack.double(), rng, scale=0.3).eval()


def draw(rng, n=5):
    return torch.randn(2, n, 9, generator=rng, dtype=torch.float64), torch.randn(2, n, n, 6, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_pair_bias_is_its_algorithm(masked, rng):
    """Algorithm 24 without conditioning, loop by loop: a bias on the queries alone, the gate from the normalised s."""
    layer = randomise(AttentionPairBias(9, 6, 3).double(), rng)
    s, z = draw(rng)
    mask = MASK if masked else torch.ones_like(MASK)
    expected = torch.stack([oracle.attention_pair_bias(layer, *x) for x in zip(s, z, mask, strict=True)])
    assert_close(layer(s, z, mask if masked else None), expected, FLOAT64_ORACLE)


@pytest.mark.parametrize("single", [False, True])
def test_stack_is_its_composition(single, rng):
    """Two blocks of Algorithm 17, with and without the single track."""
    stack = make(rng, single=single)
    s, z = draw(rng)
    expected = [oracle.stack(stack, x if single else None, y, m) for x, y, m in zip(s, z, MASK, strict=True)]
    got_s, got_z = stack(s if single else None, z, MASK)
    assert_close(got_z, torch.stack([e[1] for e in expected]), FLOAT64_ORACLE)
    if single:
        assert_close(got_s, torch.stack([e[0] for e in expected]), FLOAT64_ORACLE)
    else:
        assert got_s is None


@pytest.mark.parametrize("masked", [False, True])
def test_without_triangle_attention_the_multiplications_and_the_transition_are_left(masked, rng):
    """`Pair.attention` false: the block of Algorithm 17 without its lines 4 and 5, and no weights for them."""
    pair = dataclasses.replace(PAIR, attention=False)
    lean = randomise(PairformerStack(2, c_s=None, heads=3, transition=2, pair=pair).double(), rng, scale=0.3).eval()
    z, mask = draw(rng)[1], MASK if masked else None
    expected = z
    for block in lean.blocks:
        for update in (block.pair.outgoing, block.pair.incoming):
            expected = expected + update(expected, mask)
        expected = expected + block.pair.transition(expected)
    assert_close(lean(None, z, mask)[1], expected, FLOAT64_IDENTITY)
    assert not any("starting" in name or "ending" in name for name in lean.state_dict())


def test_the_single_track_does_not_reach_z(rng):
    """z is the same bit for bit whatever s holds."""
    stack = make(rng)
    s, z = draw(rng)
    assert torch.equal(stack(s, z, None)[1], stack(s + 1, z, None)[1])


@pytest.mark.parametrize("gradients", [False, True])
def test_forward_leaves_its_arguments_alone(gradients, rng):
    """Only `overwrite` writes into the caller's z, and only without gradients."""
    stack = make(rng)
    s, z = draw(rng)
    kept_s, kept_z = s.clone(), z.clone()
    with torch.set_grad_enabled(gradients):
        expected = stack(s, z, MASK)
        assert torch.equal(s, kept_s) and torch.equal(z, kept_z)
        got = stack.overwrite(s, z, MASK)
    assert torch.equal(s, kept_s)
    assert (got[1].data_ptr() == z.data_ptr()) is not gradients
    assert_close(got[0], expected[0], FLOAT64_IDENTITY)
    assert_close(got[1], expected[1], FLOAT64_IDENTITY)


def test_padding_and_order_change_nothing(rng):
    """Padded tokens leave the others as they were; permuted tokens give permuted s and z."""
    stack = make(rng)
    s, z = draw(rng, 7)
    mask = (torch.arange(7) < 5).expand(2, 7)
    order = torch.tensor([4, 2, 0, 1, 3])
    with torch.no_grad():
        want_s, want_z = stack(s[:, :5], z[:, :5, :5], None)
        got_s, got_z = stack(s, z, mask)
        turned_s, turned_z = stack(s[:, order], z[:, order][:, :, order], None)
    assert_close(got_s[:, :5], want_s, FLOAT64_IDENTITY)
    assert_close(got_z[:, :5, :5], want_z, FLOAT64_IDENTITY)
    assert_close(turned_s, want_s[:, order], FLOAT64_IDENTITY)
    assert_close(turned_z, want_z[:, order][:, :, order], FLOAT64_IDENTITY)


def test_a_batch_is_its_examples(rng):
    """Examples do not see each other."""
    stack = make(rng)
    s, z = draw(rng)
    with torch.no_grad():
        together = stack(s, z, MASK)
        apart = [stack(s[x : x + 1], z[x : x + 1], MASK[x : x + 1]) for x in range(2)]
    assert_close(together[0], torch.cat([a[0] for a in apart]), FLOAT64_IDENTITY)
    assert_close(together[1], torch.cat([a[1] for a in apart]), FLOAT64_IDENTITY)


def test_bfloat16_stays_within_its_rounding(rng):
    """A block with weights and activations in bfloat16."""
    block = PairformerBlock(c_s=48, heads=4, transition=2, pair=Pair(c_z=32, tri_hidden=32, heads=2, c_head=16, transition=2))
    block = randomise(block, rng, scale=0.1).to(torch.bfloat16).eval()
    s = torch.randn(1, 11, 48, generator=rng).to(torch.bfloat16)
    z = torch.randn(1, 11, 11, 32, generator=rng).to(torch.bfloat16)
    with torch.no_grad():
        low = block(s, z.clone(), None)
        high = block.float()(s.float(), z.float(), None)
    for x, y in zip(low, high, strict=True):
        assert x.dtype == torch.bfloat16
        assert_close(x, y, BFLOAT16)


def test_nothing_of_cubic_size_is_held():
    """The largest tensor that a block makes without gradients is no larger than z."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (out if isinstance(out, tuple | list) else (out,)) if isinstance(x, torch.Tensor))
            return out

    n, pair = 160, Pair(c_z=32, tri_hidden=32, heads=4, c_head=8, transition=4)
    block = PairformerBlock(c_s=32, heads=4, transition=4, pair=pair).eval()
    with torch.no_grad(), Sizes():
        block(torch.randn(1, n, 32), torch.randn(1, n, n, 32), None)
    assert max(sizes) <= 2 * 32 * n * n < 4 * n**3


def test_parameters_are_as_many_as_the_supplement_says():
    """3,070,848 a block, 740,736 of them in Algorithm 24."""
    block = PairformerBlock(c_s=384, heads=16, transition=4, pair=Pair())
    assert sum(p.numel() for p in block.parameters()) == 3_070_848
    assert sum(p.numel() for p in block.single.attention.parameters()) == 740_736
