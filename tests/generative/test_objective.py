"""Regression, its errors and its weights."""

from __future__ import annotations

import pytest
import torch

from structgen.generative import (
    Denoiser,
    Endpoints,
    Independent,
    Linear,
    LogitNormal,
    LogNormal,
    Loss,
    Noised,
    Preconditioned,
    ReadVelocity,
    Regression,
    Uniform,
    VarianceExploding,
    VariancePreserving,
    data_error,
    generators,
    noise_error,
    normal_like,
    velocity_error,
)
from structgen.generative.weights import Constant, Edm, Flow, MinSnr, Snr
from tests.generative.mixture import PATHS, Gaussian, start_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
EACH_PATH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def example(path, rng, weight=Constant()) -> tuple[Endpoints, Noised]:  # noqa: B008
    """A state, its true ends and other ends on which the same state lies."""
    t = start_of(path) * torch.tensor([0.05, 0.3, 0.9], dtype=F64)
    truth = Endpoints(*(normal_like(torch.empty(3, 4, 2, dtype=F64), rng) for _ in range(2)))
    x = path.state(truth, t)
    guess = path.from_data(truth.data + 0.1 * normal_like(x, rng), x, t)
    return guess, Noised(path, truth, x, t, weight(path, t))


@EACH_PATH
def test_errors_differ_only_by_weights(path, rng):
    """Snr turns the data error into the noise error, Flow into the velocity error, whatever the guess."""
    guess, bare = example(path, rng)
    for error, weight in ((noise_error, Snr()), (velocity_error, Flow())):
        direct = error(guess, bare, None).total
        weighted = data_error(guess, Noised(path, bare.truth, bare.x, bare.t, weight(path, bare.t)), None).total
        assert_close(weighted / direct, torch.ones_like(direct), 1e-9)


def test_edm_weight_gives_the_raw_output_weight_one(rng):
    """Two raw outputs that differ by d have losses that differ as the mean square of d, at every level and on every path."""
    for path in PATHS.values():
        t = start_of(path) * torch.tensor([1e-3, 0.05, 0.4, 0.9], dtype=F64)
        reading, x = Preconditioned(16.0), normal_like(torch.empty(4, 3, dtype=F64), rng)
        raw, d = normal_like(x, rng), normal_like(x, rng)
        guess, truth = (reading.endpoints(path, r, x, t, t) for r in (raw + d, raw))
        loss = data_error(guess, Noised(path, truth, x, t, Edm(16.0)(path, t)), None)
        assert_close(loss.total, d.square().mean(1), 1e-9)


def test_weights_by_hand():
    """On sigma = t: EDM's (t^2 + sd^2) / (t sd)^2, SNR 1 / t^2 cut at gamma, and 1."""
    t, path = torch.tensor([0.1, 2.0], dtype=F64), VarianceExploding()
    assert_close(Edm(16.0)(path, t), torch.tensor([(0.01 + 256) / 2.56, (4 + 256) / 1024], dtype=F64), FLOAT64_IDENTITY)
    assert_close(Snr()(path, t), torch.tensor([100, 0.25], dtype=F64), FLOAT64_IDENTITY)
    assert_close(MinSnr(5.0)(path, t), torch.tensor([5, 0.25], dtype=F64), FLOAT64_IDENTITY)
    assert Constant(2.0)(path, t).tolist() == [2, 2]


def test_regression_trains_on_the_state_of_its_own_draws():
    """Noise, then time, are drawn from the generator; the denoiser sees their state; the error sees all of it and the condition."""
    path, data, cond = VariancePreserving(), torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=F64), object()
    seen = {}

    def network(x, times, given):
        seen.update(x=x, times=times, cond=given)
        return torch.zeros_like(x)

    def error(guess, noised, given):
        seen.update(noised=noised, guess=guess)
        assert given is cond
        return Loss(noised.weight * 2, {"two": torch.full((5,), 2.0)})

    objective = Regression(path, Uniform(0.01, 0.99), Snr(), error)
    loss = objective(Denoiser(network, path, ReadVelocity()), data, cond, torch.Generator().manual_seed(2))
    rng = torch.Generator().manual_seed(2)
    ends, t = Independent().pair(data, rng), Uniform(0.01, 0.99).draw(data, rng)
    noised = seen["noised"]
    assert seen["cond"] is cond and torch.equal(seen["times"][:, 0], t) and torch.equal(seen["x"], path.state(ends, t))
    assert torch.equal(noised.truth.data, data) and torch.equal(noised.truth.noise, ends.noise) and torch.equal(noised.t, t)
    assert_close(path.velocity(seen["guess"], t), torch.zeros_like(data), 1e-10)
    assert torch.equal(loss.total, 2 * Snr()(path, t)) and set(loss.parts) == {"two"}


def test_the_loss_of_an_example_does_not_depend_on_its_batch():
    """With a generator an example: alone and among others, bit for bit."""
    objective = Regression(VarianceExploding(), LogNormal(-1.2, 1.5, scale=16.0), Edm(16.0))
    denoiser = Denoiser(lambda x, times, cond: torch.tanh(x + times[..., None]), VarianceExploding(), Preconditioned(16.0))
    data = 16 * torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(3))
    together = objective(denoiser, data, None, generators(9, 4)).total
    for k in range(4):
        assert torch.equal(objective(denoiser, data[k : k + 1], None, generators(9, 1, first=k)).total, together[k : k + 1])


@EACH_PATH
def test_the_best_prediction_is_the_posterior_mean(path, rng):
    """Least squares over many draws at one time finds the closed-form denoiser of Gaussian data within 4 standard errors."""
    n, t = 10_000, 0.3 * start_of(path)
    ts = torch.full((n,), t, dtype=F64)
    data = 0.6 * normal_like(torch.empty(n, 1, dtype=F64), rng)
    truth = Independent().pair(data, rng)
    x = path.state(truth, ts)
    slope = (x * data).sum() / x.square().sum()
    expected = Gaussian().denoise(path, torch.ones(1, 1, dtype=F64), ts[:1]).data.item()
    noise = (data - expected * x).std() / x.square().sum().sqrt()
    assert abs(slope.item() - expected) < 4 * noise.item()


def test_a_linear_network_learns_the_velocity_of_gaussian_data(rng):
    """Flow matching with logit-normal times finds the coefficients 1 and 0 of the exact velocity and of x, by gradient descent."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(torch.zeros(2, dtype=F64))

        def forward(self, x, times, cond):
            return self.k[0] * (2 * times - 1) / ((1 - times) ** 2 + times**2) * x + self.k[1] * x

    net, path = Net(), Linear()
    denoiser = Denoiser(net, path, ReadVelocity())
    objective = Regression(path, LogitNormal(), Constant(), velocity_error)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        objective(denoiser, normal_like(torch.empty(512, 1, dtype=F64), rng), None, rng).total.mean().backward()
        optimiser.step()
    assert (net.k.detach() - torch.tensor([1.0, 0.0], dtype=F64)).abs().max() < 0.05


@pytest.mark.parametrize("error", [data_error, noise_error, velocity_error], ids=lambda e: e.__name__)
def test_total_is_the_weighted_part(error, rng):
    """The part is the mean square over the event, the total that times the weight, both [b]."""
    guess, noised = example(Linear(), rng, Snr())
    loss = error(guess, noised, None)
    (part,) = loss.parts.values()
    assert part.shape == loss.total.shape == (3,) and torch.equal(loss.total, noised.weight * part)
    assert error(noised.truth, noised, None).total.abs().max() == 0
