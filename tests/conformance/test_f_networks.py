"""Rows F2, F3, F4, F13 and F17: what networks of pictures and clips are, before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from structgen.errors import ConfigError
from structgen.generative import Denoiser, Linear, ReadVelocity, Regression, Uniform, sample
from structgen.generative.solvers import Euler
from structgen.generative.times import uniform
from structgen.generative.weights import Constant
from structgen.train import Optimisation, TrainState, train_step
from structgen.vision.condition import NO_CLASS, Condition, empty_and_given
from structgen.vision.controlnet import ControlConfig, ControlNet
from structgen.vision.dit import BLOCKS, Conditioning, DiT, DiTConfig
from structgen.vision.mmdit import JointBlock, MMDiT, MMDiTConfig
from structgen.vision.patches import coordinates, patchify, places, unpatchify
from structgen.vision.resnet import ResnetBlock
from structgen.vision.steering import Steering
from structgen.vision.unet import UNet, UNetConfig
from structgen.vision.video_dit import VideoDiT, pack, packed_velocity_error, unpack
from structgen.vision.video_unet import TimeAttention, VideoUNet, VideoUNetConfig
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.test_parity import ANSWERS
from tests.vision.weights import drawn

FRAME = UNetConfig(c_in=2, c_out=2, widths=(8, 16), attend=(False, True), blocks=1, head_width=8, groups=4, steering=Steering(classes=3))
DIT = DiTConfig(channels=2, width=24, depth=2, heads=2, steering=Steering(classes=3))
CLIPS = replace(DIT, patch=(2, 2, 2), width=48)


def normal(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=rng)


def test_F2_space_and_time_are_apart(measured, rng):
    """Jacobians: a layer of space moves nothing between frames, a layer of time nothing between pixels."""
    clip = normal(rng, 3, 8, 2, 2)
    space, through_time = drawn(ResnetBlock(8, 8, c_vector=0, groups=4)), drawn(TimeAttention(8, 2))
    of_space = torch.autograd.functional.jacobian(space, clip).abs().sum((1, 2, 3, 5, 6, 7))
    of_time = torch.autograd.functional.jacobian(lambda x: through_time(x[None])[0], clip).abs().sum((0, 1, 4, 5)).flatten(2).flatten(0, 1)
    cross_frame, cross_pixel = (of_space - of_space.diag().diag()).max().item(), (of_time - of_time.diag().diag()).max().item()
    measured("F2", "Jacobian between frames of a layer of space", cross_frame, 0)
    measured("F2", "Jacobian between pixels of a layer of time", cross_pixel, 0)
    assert cross_frame == cross_pixel == 0 and of_space.diag().min() > 0 and of_time.diag().min() > 0
    between_frames = torch.autograd.functional.jacobian(lambda x: through_time(x[None])[0], clip).abs().sum((1, 2, 3, 5, 6, 7))
    assert between_frames.min() > 0


def test_F2_weights_of_pictures_give_the_same_frames(rng):
    """One frame is the picture, whatever the layers of time hold; in a new network every frame is."""
    image, clips = drawn(UNet(FRAME)), VideoUNet(VideoUNetConfig(FRAME))
    clips.frame.load_state_dict(image.state_dict())
    clip, times, cond = normal(rng, 2, 2, 3, 8, 8), torch.rand(2, 1, generator=rng), Condition(label=torch.tensor([0, 2]))
    made = clips(clip, times, cond)
    for n in range(3):
        assert_close(made[:, :, n], image(clip[:, :, n], times, cond), FLOAT32_LAYER)
    drawn(clips.through_time)
    assert (clips(clip[:, :, :1], times, cond)[:, :, 0] == image(clip[:, :, 0], times, cond)).all()
    assert (clips(clip, times, cond) - made).abs().max() > 0.01


@pytest.mark.parametrize("size", [(2, 4, 6), (4, 2, 2), (6, 8, 4)])
def test_F3_patches_are_undone_exactly(size, rng):
    """Any T, H, W that the patch tiles; others are refused."""
    x = normal(rng, 2, 3, *size)
    tokens = patchify(x, (2, 2, 2))
    assert tokens.shape == (2, size[0] * size[1] * size[2] // 8, 24)
    assert (unpatchify(tokens, (2, 2, 2), size) == x).all()
    with pytest.raises(ConfigError, match="do not tile"):
        patchify(x[:, :, :, :, 1:], (2, 2, 2))


@pytest.mark.parametrize("conditioning", Conditioning)
def test_F3_mixed_sizes_in_one_batch_equal_separate_runs(conditioning, measured, rng):
    """Lengths and aspects of any mix: whole sampling runs, and the loss, are those of each clip alone."""
    net = drawn(VideoDiT(replace(CLIPS, conditioning=conditioning)))
    path, labels = Linear(), torch.tensor([0, 2, 1])
    clips = [normal(rng, 2, *size) for size in ((4, 4, 4), (2, 8, 4), (2, 2, 6))]
    denoiser = Denoiser(net, path, ReadVelocity())

    def made(clips: list[torch.Tensor], labels: torch.Tensor) -> list[torch.Tensor]:
        tokens, packed = pack(clips, CLIPS.patch, Condition(label=labels))
        with torch.no_grad():
            out = sample(path, lambda x, t, s: denoiser(x, t, s, packed), Euler(), uniform(3, 1.0, 0.1), tokens, rng)
        return unpack(out, packed, CLIPS.patch)

    together = made(clips, labels)
    alone = [made([clip], labels[n : n + 1])[0] for n, clip in enumerate(clips)]
    off = max((a - b).abs().max().item() / max(1.0, b.abs().max().item()) for a, b in zip(together, alone, strict=True))
    measured("F3", f"{conditioning.value}: mixed batch against separate runs", off, 1e-5)
    assert [one.shape for one in together] == [clip.shape for clip in clips] and off < FLOAT32_LAYER


def test_F3_padding_costs_nothing_in_the_loss(rng):
    """The mean of an example is over its own patches."""
    clips = [normal(rng, 2, 4, 4, 4), normal(rng, 2, 2, 2, 2)]
    tokens, packed = pack(clips, CLIPS.patch, Condition(label=torch.tensor([0, 1])))
    net = drawn(VideoDiT(CLIPS))
    objective = Regression(Linear(), Uniform(0.5, 0.5 + 1e-6), Constant(), packed_velocity_error)
    denoiser = Denoiser(net, Linear(), ReadVelocity())
    loss = objective(denoiser, tokens, packed, torch.Generator().manual_seed(3)).total
    other = tokens.clone()
    other[1, 1:] = 100.0
    assert_close(objective(denoiser, other, packed, torch.Generator().manual_seed(3)).total, loss, FLOAT32_LAYER)


@pytest.mark.parametrize("conditioning", Conditioning)
def test_F4_a_new_network_is_silent_and_counts_tokens(conditioning, measured, rng):
    """(I / p)^2 tokens; the last layer begins at zero; every conditioning hears class and time once drawn."""
    config = replace(DIT, conditioning=conditioning)
    x, times, cond = normal(rng, 2, 2, 12, 8), torch.rand(2, 1, generator=rng), Condition(label=torch.tensor([0, NO_CLASS]))
    assert (DiT(config)(x, times, cond) == 0).all()
    tokens = patchify(x, config.patch).shape[1]
    measured("F4", f"{conditioning.value}: tokens of 12 x 8 pixels", tokens, 24)
    assert tokens == 24
    net = drawn(DiT(config))
    out = net(x, times, cond)
    assert (out - net(x, times, Condition(label=torch.tensor([1, NO_CLASS]))))[0].abs().max() > 1e-3
    assert (out - net(x, times / 2, cond)).abs().max() > 1e-3
    assert_close(net(x[:1], times[:1], cond.rows(slice(1))), out[:1], FLOAT32_LAYER)


def test_F4_adaln_zero_begins_as_the_identity(measured, rng):
    """Block output == input, bit for bit; the other three do not."""
    x, parts = normal(rng, 2, 5, 24), normal(rng, 2, 2, 24)
    changed = {kind: (block(DIT)(x, parts, None, None) - x).abs().max().item() for kind, block in BLOCKS.items()}
    measured("F4", "change by a new block of adaLN-Zero", changed.pop(Conditioning.ADALN_ZERO), 0, "bit-exact")
    assert torch.equal(BLOCKS[Conditioning.ADALN_ZERO](DIT)(x, parts, None, None), x)
    assert min(changed.values()) > 0


def test_F4_weights_of_a_reference_give_its_answer(measured):
    """diffusers' DiT, recorded."""
    from tests.vision.answers import CASES

    off = (CASES["dit"]().answer() - ANSWERS["dit"]).abs().max().item() / ANSWERS["dit"].abs().max().item()
    measured("F4", "largest difference to DiTTransformer2DModel, copied weights", off, 1e-5)
    assert off < FLOAT32_LAYER


def test_F4_cost_grows_with_the_tokens(measured, rng):
    """A quarter of the tokens by a patch of twice the side: a quarter of the operations, but for those of the condition."""
    x, times, cond = normal(rng, 1, 2, 16, 16), torch.rand(1, 1, generator=rng), Condition(label=torch.tensor([0]))

    def operations(side: int) -> int:
        with FlopCounterMode(display=False) as counter:
            DiT(replace(DIT, width=96, depth=3, patch=(side, side)))(x, times, cond)
        return counter.get_total_flops()

    ratio = operations(2) / operations(1)
    measured("F4", "operations of 64 tokens over those of 256", ratio, 0.26)
    assert 0.2 < ratio < 0.26


def test_F4_tokens_are_heard_in_context_and_by_attention_only(rng):
    """adaLN hears a vector: a text of tokens is refused and not dropped in silence."""
    x, times = normal(rng, 2, 2, 4, 4), torch.rand(2, 1, generator=rng)
    words, mask = normal(rng, 2, 3, 5), torch.tensor([[1, 1, 0]] * 2, dtype=torch.bool)
    for kind in (Conditioning.IN_CONTEXT, Conditioning.CROSS_ATTENTION):
        net = drawn(DiT(replace(DIT, conditioning=kind, c_tokens=5, steering=Steering())))
        out = net(x, times, Condition(tokens=words, mask=mask))
        assert_close(net(x, times, Condition(tokens=words[:, :2])), out, FLOAT32_LAYER)
        assert (net(x, times, Condition(tokens=words)) - out).abs().max() > 1e-4
    with pytest.raises(ConfigError, match="hears a vector and no tokens"):
        DiT(replace(DIT, c_tokens=5))
    with pytest.raises(ConfigError, match="needs the condition 'label'"):
        DiT(DIT)(x, times, Condition())


def test_F13_a_new_controlnet_is_its_base(measured, rng):
    """Output bit-identical at step 0; gradients of the zero convolutions are not zero there."""
    base = drawn(UNet(FRAME))
    net = ControlNet(base, ControlConfig(c_control=1))
    x, times = normal(rng, 2, 2, 9, 8), torch.rand(2, 1, generator=rng)
    cond = Condition(label=torch.tensor([0, 1]), control=normal(rng, 2, 1, 9, 8))
    out = net(x, times, cond)
    measured("F13", "difference to the base before training", (out - base(x, times, cond)).abs().max().item(), 0, "bit-identical")
    assert torch.equal(out, base(x, times, cond))
    (out - x).square().mean().backward()
    least = min(layer.weight.grad.abs().max().item() for layer in [*net.kept, net.middle])
    measured("F13", "least gradient of a zero convolution at step 0, its largest entry", least, None, "above 0")
    assert least > 0 and all(parameter.grad is None for parameter in base.parameters())


def test_F13_training_leaves_the_base_and_hears_the_control(rng):
    """After steps of the one trainer the base's weights are what they were, bit for bit, and the control matters."""
    base = drawn(UNet(FRAME))
    before = {name: value.clone() for name, value in base.state_dict().items()}
    net = ControlNet(base, ControlConfig(c_control=1))
    x, times = normal(rng, 4, 2, 8, 8), torch.rand(4, 1, generator=rng)
    cond = Condition(label=torch.tensor([0, 1, 2, 0]), control=normal(rng, 4, 1, 8, 8))

    def loss(_: int, __: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        return (net(x, times, cond) - cond.control).square().mean(), {}

    optimisation = Optimisation(learning_rate=1e-2, warmup_steps=1)
    state = TrainState.start(net, optimisation)
    for _ in range(3):
        state, _ = train_step(state, [0], loss, optimisation, rng)
    assert all(torch.equal(value, net.base.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(value, state.average[f"base.{name}"]) for name, value in before.items())
    other = replace(cond, control=-cond.control)
    assert (net(x, times, cond) - net(x, times, other)).abs().max() > 1e-3
    with pytest.raises(ConfigError, match="give a control 1 times the size"):
        net(x, times, replace(cond, control=cond.control[..., :4]))


def test_F17_equal_weights_are_one_stream(measured, rng):
    """A joint block whose two streams have the same weights is a block of adaLN-Zero over all tokens."""
    config = replace(DIT, qk_norm=True)
    single, joint = drawn(BLOCKS[Conditioning.ADALN_ZERO](config)), JointBlock(24, 2, True, last=False)
    for stream in (joint.picture, joint.text):
        stream.load_state_dict(single.state_dict())
    x, words, vector = normal(rng, 2, 6, 24), normal(rng, 2, 4, 24), normal(rng, 2, 24)
    both = torch.cat(joint(x, words, vector, None), 1)
    expected = single(torch.cat([x, words], 1), vector[:, None], None, None)
    off = (both - expected).abs().max().item() / expected.abs().max().item()
    measured("F17", "tied weights against a single stream", off, 1e-5)
    assert off < FLOAT32_LAYER


def test_F17_queries_and_keys_have_unit_rms(rng):
    """Whatever the size of the activations: the logits cannot grow."""
    block = JointBlock(24, 2, True, last=False)
    for scale in (1.0, 1e4):
        q, k, _ = block.picture.attention.heads_of(*(scale * normal(rng, 2, 5, 24),) * 2)
        assert_close(q.square().mean(-1), torch.ones(2, 2, 5), 1e-2 if scale == 1.0 else 1e-4)
        assert_close(k.square().mean(-1), torch.ones(2, 2, 5), 1e-2 if scale == 1.0 else 1e-4)


def test_F17_weights_of_a_reference_give_its_answer(measured):
    """diffusers' SD3 transformer, recorded."""
    from tests.vision.answers import CASES

    off = (CASES["mmdit"]().answer() - ANSWERS["mmdit"]).abs().max().item() / ANSWERS["mmdit"].abs().max().item()
    measured("F17", "largest difference to SD3Transformer2DModel, copied weights", off, 1e-5)
    assert off < FLOAT32_LAYER


def test_F17_padding_of_the_text_changes_nothing(rng):
    """Both streams ignore hidden words, and a network for clips is the same network."""
    net = drawn(MMDiT(MMDiTConfig(channels=2, c_tokens=5, patch=(1, 2, 2), width=24, depth=3, heads=2, steering=Steering(c_vector=3))))
    x, times, words = normal(rng, 2, 2, 3, 4, 4), torch.rand(2, 1, generator=rng), normal(rng, 2, 4, 5)
    pooled, mask = normal(rng, 2, 3), torch.tensor([[1, 1, 0, 0]] * 2, dtype=torch.bool)
    out = net(x, times, Condition(tokens=words, mask=mask, vector=pooled))
    assert_close(net(x, times, Condition(tokens=words[:, :2], vector=pooled)), out, FLOAT32_LAYER)
    assert (net(x, times, Condition(tokens=words, vector=pooled)) - out).abs().max() > 1e-4
    both = empty_and_given(Condition(tokens=words, mask=mask, vector=pooled), 2)
    assert (both.vector[:2] == 0).all() and (both.tokens[:2] == 0).all() and both.mask[:2].all() and (both.mask[2:] == mask).all()


def test_F17_places_do_not_depend_on_the_size():
    """A patch has the same place in a picture of any size: networks run at sizes that they were not trained at."""
    small, large = places(coordinates([2, 3]), 24).reshape(2, 3, 24), places(coordinates([5, 7]), 24).reshape(5, 7, 24)
    assert_close(large[:2, :3], small, 1e-6)
    assert places(coordinates([2, 3, 4]), 32).unique(dim=0).shape[0] == 24
