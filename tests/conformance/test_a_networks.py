"""Rows A8 and A10: the U-Net and how it hears a text."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.generative import Denoiser, Linear, ReadVelocity, Regression, Uniform, velocity_error
from structgen.generative.weights import Constant
from structgen.train import Optimisation, TrainState, train_step
from structgen.vision.attention import Attention
from structgen.vision.condition import Condition
from structgen.vision.steering import Steering
from structgen.vision.unet import Descent, UNet, UNetConfig
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.weights import drawn

SMALL = UNetConfig(c_in=2, c_out=2, widths=(8, 16, 16), attend=(False, True, True), blocks=2, head_width=8, groups=4, c_tokens=6)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 13), (1, 1), (16, 3)])
def test_A8_any_size_keeps_its_shape(size, rng):
    """Odd sizes too, without padding: halves are rounded up and enlarged to what was there."""
    x = torch.randn(2, 2, *size, generator=rng)
    cond = Condition(tokens=torch.randn(2, 3, 6, generator=rng))
    assert drawn(UNet(SMALL))(x, torch.rand(2, 1), cond).shape == x.shape


def test_A8_every_kept_feature_is_used_and_time_is_heard(measured, rng):
    """What is kept on the way down: one for the first convolution, for each block and for each halving; all have a gradient."""
    net, x = drawn(UNet(SMALL)), torch.randn(1, 2, 8, 8, generator=rng)
    cond, times = Condition(tokens=torch.randn(1, 3, 6, generator=rng)), torch.tensor([[0.3]])
    vector = net.steer(times, cond).sum(1)
    middle, kept = net.descent(net.descent.entered(x, cond), vector, cond, lambda _, h: h)
    leaves = [one.detach().requires_grad_() for one in kept]
    net.ascend(middle, leaves, vector, cond, lambda _, h: h).sum().backward()
    measured("A8", "features kept for the way up, 3 levels of 2 blocks", len(kept), 9)
    assert len(kept) == 1 + 3 * 2 + 2 and all(leaf.grad is not None and leaf.grad.abs().max() > 0 for leaf in leaves)
    assert (net(x, times, cond) - net(x, times + 0.5, cond)).abs().max() > 0.01


def test_A8_a_new_network_says_nothing(rng):
    """The last convolution begins at zero."""
    net = UNet(SMALL)
    out = net(torch.randn(1, 2, 6, 6, generator=rng), torch.rand(1, 1), Condition(tokens=torch.randn(1, 3, 6, generator=rng)))
    assert (out == 0).all() and isinstance(net.descent, Descent)


@pytest.mark.slow
def test_A8_eight_pictures_are_learned_by_heart(measured, rng):
    """Overfitting: the noise of eight pictures at fixed noise and times is found to a loss below 0.01."""
    torch.manual_seed(0)
    net = UNet(UNetConfig(c_in=1, c_out=1, widths=(32, 64), attend=(False, True), blocks=1, steering=Steering(frequencies=32)))
    data, noise, t = torch.rand(8, 1, 16, 16, generator=rng) * 2 - 1, torch.randn(8, 1, 16, 16, generator=rng), torch.linspace(0.1, 0.9, 8)
    path = Linear()
    state = (1 - t)[:, None, None, None] * data + t[:, None, None, None] * noise
    denoiser = Denoiser(net, path, ReadVelocity())

    def loss(_: int, __: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        ends = denoiser(state, t, t, Condition())
        return (path.velocity(ends, t) - (noise - data)).square().mean(), {}

    optimisation = Optimisation(learning_rate=2e-3, warmup_steps=20, clip_norm=1.0)
    made, last = TrainState.start(net, optimisation), math.inf
    for _ in range(400):
        made, metrics = train_step(made, [0], loss, optimisation, rng)
        last = metrics["loss"]
        if last < 0.01:
            break
    measured("A8", f"loss on 8 pictures after {made.step} steps", last, 0.01)
    assert last < 0.01


def test_A8_loss_of_the_core_trains_it(rng):
    """A `Network` of the core: its regression gives every weight but those behind the zeros a gradient."""
    net = drawn(UNet(SMALL))
    cond = Condition(tokens=torch.randn(4, 3, 6, generator=rng))
    objective = Regression(Linear(), Uniform(0.01, 0.99), Constant(), velocity_error)
    objective(Denoiser(net, Linear(), ReadVelocity()), torch.randn(4, 2, 8, 8, generator=rng), cond, rng).total.mean().backward()
    silent = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.abs().max() > 0]
    assert silent == []


def reference(net: Attention, x: torch.Tensor, context: torch.Tensor, seen: list[int]) -> torch.Tensor:
    """Attention as loops over examples, heads and queries, in float64; `seen` tokens of the context alone exist."""
    width = net.q.weight.shape[0] // net.heads
    q, k, v = ((layer.weight @ y.mT).mT + layer.bias for layer, y in ((net.q, x), (net.k, context), (net.v, context)))
    out = torch.zeros_like(q)
    for b in range(len(x)):
        for head in range(net.heads):
            part = slice(head * width, (head + 1) * width)
            for i in range(x.shape[1]):
                logits = torch.stack([q[b, i, part] @ k[b, j, part] / width**0.5 for j in seen])
                out[b, i, part] = sum(w * v[b, j, part] for w, j in zip(logits.softmax(0), seen, strict=True))
    return (net.out.weight @ out.mT).mT + net.out.bias


def test_A10_attention_equals_a_loop(measured, rng):
    """softmax(Q K^T / sqrt d) V over the tokens that are there; padding, and what stands in it, changes nothing."""
    net = drawn(Attention(12, c_context=5, heads=3, qk_norm=False)).double()
    x, context = (torch.randn(2, n, c, generator=rng, dtype=torch.float64) for n, c in ((4, 12), (6, 5)))
    mask = torch.tensor([[1, 0, 1, 1, 0, 1]] * 2, dtype=torch.bool)
    out = net(x, context, mask)
    off = (out - reference(net, x, context, [0, 2, 3, 5])).abs().max().item()
    measured("A10", "largest difference to loops", off, 1e-6)
    assert off < 1e-12
    assert_close(net(x, context[:, [0, 2, 3, 5]], None), out, 1e-12)
    swapped = context[:, [0, 4, 2, 3, 1, 5]]  # the two that are hidden
    assert (net(x, swapped, mask) == out).all()
    turned = torch.randperm(6, generator=rng)
    assert_close(net(x, context[:, turned], mask[:, turned]), out, 1e-12)


def test_A10_the_unet_hears_its_text_and_no_padding(rng):
    """Other words, another picture; other padding, the same."""
    net, x, times = drawn(UNet(SMALL)), torch.randn(2, 2, 8, 8, generator=rng), torch.rand(2, 1, generator=rng)
    tokens, mask = torch.randn(2, 4, 6, generator=rng), torch.tensor([[1, 1, 1, 0]] * 2, dtype=torch.bool)
    out = net(x, times, Condition(tokens=tokens, mask=mask))
    other = tokens.clone()
    other[:, 3] = 9.0
    assert (net(x, times, Condition(tokens=other, mask=mask)) == out).all()
    assert_close(net(x, times, Condition(tokens=tokens[:, :3])), out, FLOAT32_LAYER)
    other[:, 0] = 9.0
    assert (net(x, times, Condition(tokens=other, mask=mask)) - out).abs().max() > 0.01
