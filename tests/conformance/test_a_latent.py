"""Row A13: diffusion in the space of codes."""

from __future__ import annotations

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import Heun, Latent, VariancePreserving, normal_like, sample
from structgen.generative.times import log_snr, then_data
from tests.conformance.clouds import Cloud, ring, sliced_w2

F64 = torch.float64
LEFT = 0.02  # standard deviation of the data off the plane of their codes


def frame(rng: torch.Generator) -> torch.Tensor:
    """Eight orthonormal rows in eight dimensions."""
    return torch.linalg.qr(torch.randn(8, 8, generator=rng, dtype=F64))[0]


def embedded(cloud: Cloud, rows: torch.Tensor, count: int, rng: torch.Generator) -> torch.Tensor:
    """Data [count, 8] near a plane: the ring on the first two rows, little noise on the others."""
    rest = LEFT * torch.randn(count, 6, generator=rng, dtype=F64)
    return torch.cat([3 * cloud.draw(count, rng) + 0.5, rest], 1) @ rows


def scaled(cloud: Cloud, latent: Latent) -> Cloud:
    """The law of the codes, in closed form."""
    return Cloud(cloud.weights, (3 * cloud.means + 0.5 - latent.mean) / latent.std, 3 * cloud.stds / latent.std)


def test_A13_samples_of_codes_are_samples_of_data(measured, rng):
    """Codes of an encoder that was fitted before have variance 1 on fresh data; samples of their exact denoiser, decoded, have the law of
    data; the encoder's own loss is reported in dB and is what its residual says."""
    cloud, rows, path = ring(), frame(rng), VariancePreserving()
    latent = Latent.fitted(lambda x: x @ rows[:2].T, lambda z: z @ rows[:2], embedded(cloud, rows, 4000, rng))
    data = embedded(cloud, rows, 2000, rng)
    variance = latent.encoded(data).var().item()
    measured("A13", "variance of the codes of fresh data", variance, 1.0, "within 5 %")
    assert variance == pytest.approx(1, abs=0.05)
    noise, grid = normal_like(torch.empty(2000, 2, dtype=F64), rng), then_data(log_snr(path, 60, 1.0, 1e-3))
    made = latent.decoded(sample(path, scaled(cloud, latent).denoiser(path), Heun(), grid, noise, rng))
    found, least = sliced_w2(made, data), sliced_w2(embedded(cloud, rows, 2000, rng), data)
    measured("A13", "sliced W2 of decoded samples to data / of data to data", found / least, 2.0)
    assert made.shape == data.shape and found < 2 * least
    ratio, expected = latent.signal_to_noise(data, peak=8.0).mean().item(), 10 * torch.tensor(8.0**2 / (LEFT**2 * 6 / 8)).log10().item()
    measured("A13", "peak signal-to-noise ratio of decode(encode), dB", ratio, expected, "the best that samples can do; by the residual")
    assert ratio == pytest.approx(expected, abs=1.0)


def test_A13_likelihoods_of_codes_are_not_those_of_data(measured, rng):
    """Fewer entries, or a decoder that does not undo the encoder: refused. A change of variables: exact."""
    cloud, rows, path = ring(), frame(rng), VariancePreserving()
    plane = Latent.fitted(lambda x: x @ rows[:2].T, lambda z: z @ rows[:2], embedded(cloud, rows, 500, rng))
    with pytest.raises(ConfigError, match="codes of 2 entries have no density over data of 8"):
        plane.log_density(embedded(cloud, rows, 3, rng), lambda z: z.sum(1))
    data, turn = cloud.draw(6, rng), rows[:2, :2] + 2 * torch.eye(2, dtype=F64)
    lossy = Latent.fitted(lambda x: (10 * x).round(), lambda z: z / 10, data)
    with pytest.raises(ConfigError, match="does not undo"):
        lossy.log_density(data, lambda z: z.sum(1))
    with pytest.raises(ConfigError, match="nothing to model"):
        Latent.fitted(lambda x: 0 * x, lambda z: z, data)
    bent = Latent.fitted(lambda x: torch.asinh(x @ turn), lambda z: torch.sinh(z) @ torch.linalg.inv(turn), cloud.draw(500, rng))

    def of_codes(z: torch.Tensor) -> torch.Tensor:
        """By the change of variables, written out."""
        raw = z * bent.std + bent.mean
        x, zero = torch.sinh(raw) @ torch.linalg.inv(turn), torch.zeros(len(z), dtype=F64)
        return cloud.log_prob(path, x, zero) + raw.cosh().log().sum(1) - torch.linalg.slogdet(turn)[1] + 2 * bent.std.log()

    worst = (bent.log_density(data, of_codes) - cloud.log_prob(path, data, torch.zeros(6, dtype=F64))).abs().max().item()
    measured("A13", "log density of data through an invertible encoder, largest error, nats", worst, 1e-9)
    assert worst <= 1e-9
