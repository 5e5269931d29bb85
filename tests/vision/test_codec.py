"""Codecs: shapes, causality, the posterior, and latents of variance 1."""

from __future__ import annotations

import pytest
import torch

from structgen.errors import ConfigError
from structgen.vision.codec import CodecConfig, ImageCodec, Posterior, reconstruction_loss
from structgen.vision.video_codec import VideoCodec, VideoCodecConfig
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.weights import drawn

IMAGE = CodecConfig(channels=3, c_latent=4, patch=2, widths=(8, 16), groups=4)
VIDEO = VideoCodecConfig(CodecConfig(channels=1, c_latent=2, patch=2, widths=(8, 16), groups=4), halvings=2)


def test_a_picture_comes_back_in_its_size(rng):
    """A quarter of the side; sides that do not come back are refused."""
    codec, x = drawn(ImageCodec(IMAGE)), torch.randn(2, 3, 12, 8, generator=rng)
    law = codec.posterior(x)
    assert law.mean.shape == (2, 4, 3, 2) and codec.decode(law.mean).shape == x.shape
    with pytest.raises(ConfigError, match="multiples of 4"):
        codec.posterior(x[..., :6])


def test_the_divergence_is_that_of_two_normal_laws(rng):
    """Against torch.distributions, in nats an entry."""
    mean, log_variance = torch.randn(2, 3, 4, generator=rng), torch.randn(2, 3, 4, generator=rng)
    own = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).flatten(1).mean(1)
    assert_close(Posterior(mean, log_variance).divergence(), expected, FLOAT32_LAYER)
    draws = Posterior(mean[:1], log_variance[:1]).draw(torch.randn(20_000, 3, 4, generator=rng))
    assert (draws.mean(0) - mean[0]).abs().max() < 0.1 and (draws.std(0) / own.stddev[0] - 1).abs().max() < 0.05


def test_latents_have_variance_one_once_measured(rng):
    """Shift and scale are kept with the weights, and decoding undoes them."""
    codec, x = drawn(ImageCodec(IMAGE)), torch.rand(16, 3, 8, 8, generator=rng) * 2 - 1
    with torch.no_grad():
        codec.fit(x)
        z = codec.latent().encoded(x)
        assert z.mean().abs() < 1e-5 and z.std().item() == pytest.approx(1, abs=1e-5)
        assert_close(codec.latent().decoded(z), codec.decode(codec.posterior(x).mean), FLOAT32_LAYER)
        again = ImageCodec(IMAGE)
        again.load_state_dict(codec.state_dict())
        assert torch.equal(again.latent().encoded(x), z)


def test_the_loss_is_per_example_and_trains_all_weights(rng):
    """Errors and divergence of each picture alone."""
    codec, x = drawn(ImageCodec(IMAGE)), torch.rand(3, 3, 8, 8, generator=rng)
    noise = torch.randn(3, 4, 2, 2, generator=rng)
    total, parts = reconstruction_loss(codec, x, noise, 0.1)
    alone, _ = reconstruction_loss(codec, x[1:2], noise[1:2], 0.1)
    assert_close(total[1:2], alone, FLOAT32_LAYER)
    assert_close(total, parts["absolute"] + parts["square"] + 0.1 * parts["kl"], FLOAT32_LAYER)
    total.mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in codec.parameters())


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_a_clip_comes_back_with_its_frames(frames, rng):
    """1 + 4 k frames to 1 + k latents and back; other lengths are refused."""
    codec = drawn(VideoCodec(VIDEO))
    x = torch.randn(2, 1, frames, 8, 8, generator=rng)
    z = codec.posterior(x).mean
    assert z.shape == (2, 2, 1 + (frames - 1) // 4, 2, 2) and codec.decode(z).shape == x.shape
    with pytest.raises(ConfigError, match="1 \\+ a multiple of 4"):
        codec.posterior(torch.randn(1, 1, frames + 2, 8, 8, generator=rng))


def test_no_latent_knows_a_later_frame(rng):
    """Changing frame t changes latents from ceil(t / 4) on, bit for bit none before; decoded frames likewise. The first is a picture's."""
    codec = drawn(VideoCodec(VIDEO))
    x = torch.randn(1, 1, 9, 8, 8, generator=rng)
    with torch.no_grad():
        before = codec.posterior(x).mean
        for frame in range(9):
            other = x.clone()
            other[:, :, frame] += 1
            moved = (codec.posterior(other).mean - before).abs().amax((0, 1, 3, 4))
            first = -(-frame // 4)
            assert (moved[:first] == 0).all() and moved[first] > 1e-6
        assert_close(codec.posterior(x[:, :, :1]).mean, before[:, :, :1], FLOAT32_LAYER)
        clip = codec.decode(before)
        assert_close(codec.decode(before[:, :, :2]), clip[:, :, :5], FLOAT32_LAYER)
