"""SI Algorithm 11 and the attention that every track uses."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.alphafold3 import transition as transition_module
from structgen.alphafold3.transition import Transition
from structgen.nn.attention import MASKED, attention
from tests.alphafold3.weights import randomise
from tests.tolerance import BFLOAT16, FLOAT32_LAYER, FLOAT64_IDENTITY, assert_close


def dense(q, k, v, bias):
    """The definition, one query and one head at a time."""
    out = torch.empty_like(q)
    for index in torch.cartesian_prod(*(torch.arange(size) for size in q.shape[:-1])).tolist():
        *lead, i = index
        logits = k[tuple(lead)] @ q[(*lead, i)] / math.sqrt(q.shape[-1])
        if bias is not None:
            logits = logits + bias.expand(*q.shape[:-1], k.shape[-2])[(*lead, i)]
        weights = logits.exp() / logits.exp().sum()
        out[(*lead, i)] = weights @ v[tuple(lead)]
    return out


SHAPES = [((3, 5, 7), (1, 5, 7)), ((2, 3, 5, 7), (1, 3, 5, 7)), ((2, 5, 3, 5, 7), (2, 1, 3, 5, 7)), ((1, 5, 3, 5, 7), (1, 1, 1, 1, 7))]


@pytest.mark.parametrize(("lead", "bias_shape"), SHAPES)
@pytest.mark.parametrize("gradients", [False, True])
def test_attention_is_its_definition_for_every_broadcast_of_the_bias(lead, bias_shape, gradients, rng):
    """The fused and the explicit kernel both compute softmax(q k / sqrt(c) + bias) v; a bias is shared over leading dimensions."""
    *outer, h, i, j = *lead[:-1], lead[-1]
    q, k, v = (torch.randn(*outer, h, n, 4, generator=rng, dtype=torch.float64) for n in (i, j, j))
    bias = torch.randn(*bias_shape, generator=rng, dtype=torch.float64).requires_grad_(gradients)
    assert_close(attention(q, k, v, bias).detach(), dense(q, k, v, bias.detach()), FLOAT64_IDENTITY)
    assert_close(attention(q, k, v), dense(q, k, v, None), FLOAT64_IDENTITY)


def test_a_masked_key_has_no_weight_and_a_query_without_keys_stays_finite(rng):
    """MASKED hides a key to the last bit; if all keys are hidden the result is their mean."""
    q, k, v = (torch.randn(1, 2, 5, 4, generator=rng) for _ in range(3))
    bias = torch.zeros(1, 1, 1, 5)
    bias[..., 3:] = MASKED
    assert_close(attention(q, k, v, bias), attention(q, k[:, :, :3], v[:, :, :3]), FLOAT32_LAYER)
    everything = attention(q, k, v, torch.full((1, 1, 1, 5), MASKED))
    assert_close(everything, v.mean(2, keepdim=True).expand_as(v), FLOAT32_LAYER)


@pytest.mark.parametrize("gradients", [False, True])
def test_attention_keeps_the_softmax_of_bfloat16_inputs_in_float32(gradients, rng):
    """Logits near 200 differ by less than bfloat16 resolves; their weights must not."""
    q = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    k = torch.zeros(1, 1, 64, 1, dtype=torch.bfloat16)
    v = torch.randn(1, 1, 64, 1, generator=rng).to(torch.bfloat16)
    bias = torch.linspace(-1, 1, 64).to(torch.bfloat16).view(1, 1, 1, 64).requires_grad_(gradients)
    expected = attention(q.double(), k.double(), v.double(), bias.detach().double())
    assert_close(attention(q, k, v, bias), expected, 5e-3)


def test_transition_is_its_formula(rng):
    """The first matrix passes through swish; x = LN(x); out = W3 (swish(W1 x) * W2 x)."""
    layer = randomise(Transition(5, 3).double(), rng)
    x = torch.randn(2, 7, 5, generator=rng, dtype=torch.float64)
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * layer.norm.weight + layer.norm.bias
    first, second = layer.wide.weight[:15], layer.wide.weight[15:]
    hidden = normed @ first.T
    expected = (hidden * torch.sigmoid(hidden) * (normed @ second.T)) @ layer.out.weight.T
    assert_close(layer(x), expected, FLOAT64_IDENTITY)


def test_transition_in_blocks_is_transition_at_once(rng, monkeypatch):
    """Blocks are an order of evaluation, not another function, and x is overwritten only without gradients."""
    layer = randomise(Transition(6, 2), rng)
    x = torch.randn(2, 7, 5, 6, generator=rng)
    whole = x + layer(x)
    assert_close(layer.add_to(x), whole, FLOAT32_LAYER)
    monkeypatch.setattr(transition_module, "ROWS", 11)
    with torch.no_grad():
        assert_close(x + layer(x), whole, FLOAT32_LAYER)
        target = x.clone()
        assert layer.add_to(target) is target
        assert_close(target, whole, FLOAT32_LAYER)


def test_transition_starts_as_zero_and_counts_its_parameters():
    """The output matrix starts at zero; 2 c + 3 n c^2 parameters."""
    layer = Transition(128, 4)
    assert layer(torch.randn(3, 128)).abs().max() == 0
    assert sum(p.numel() for p in layer.parameters()) == 196_864


def test_transition_holds_in_bfloat16(rng):
    """Weights and activations in bfloat16 stay within its rounding."""
    layer = randomise(Transition(16, 2), rng)
    x = torch.randn(5, 16, generator=rng)
    assert_close(layer.to(torch.bfloat16)(x.to(torch.bfloat16)), layer.float()(x.to(torch.bfloat16).float()), BFLOAT16)
