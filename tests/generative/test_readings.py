"""Readings: what a network is fed and what its output stands for."""

from __future__ import annotations

import pytest
import torch

from structgen.generative import (
    Denoiser,
    Endpoints,
    Linear,
    Preconditioned,
    ReadData,
    Reading,
    ReadNoise,
    ReadVelocity,
    VarianceExploding,
    normal_like,
    over,
)
from tests.generative.mixture import PATHS, start_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
EACH_PATH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
SD = 1.7


def residual(path, ends, x, t):
    """EDM eq. 8 solved for the raw output, for x / alpha at level sigma / alpha."""
    alpha, sigma = (over(c, x) for c in path.alpha_sigma(t))
    level = sigma / alpha
    c_skip, c_out = SD**2 / (level**2 + SD**2), level * SD / (level**2 + SD**2).sqrt()
    return (ends.data - c_skip * x / alpha) / c_out


READINGS = {
    "data": (ReadData(), lambda path, ends, x, t: ends.data),
    "noise": (ReadNoise(), lambda path, ends, x, t: ends.noise),
    "velocity": (ReadVelocity(), lambda path, ends, x, t: path.velocity(ends, t)),
    "preconditioned": (Preconditioned(SD), residual),
}


@EACH_PATH
@pytest.mark.parametrize("reading, right_answer", READINGS.values(), ids=READINGS)
def test_the_right_answer_is_read_as_the_true_endpoints(path, reading, right_answer, rng):
    """A network that outputs what it should, alone or with other examples, predicts the endpoints the state was made from."""
    t = start_of(path) * torch.tensor([0.05, 0.3, 0.9], dtype=F64)
    ends = Endpoints(*(normal_like(torch.empty(3, 4, 2, dtype=F64), rng) for _ in range(2)))
    x = path.state(ends, t)
    denoiser = Denoiser(lambda x_in, times, cond: right_answer(path, ends, x, t), path, reading)
    found = denoiser(x, t, t, None)
    assert_close(found.data, ends.data, 1e-10)
    assert_close(found.noise, ends.noise, 1e-10)


@pytest.mark.parametrize("reading", [reading for reading, _ in READINGS.values()], ids=READINGS)
def test_the_network_is_given_state_times_and_condition(reading):
    """Times are [b, 1], the condition arrives as it is, and the event may have any rank."""
    seen = {}

    def network(x, times, cond):
        seen.update(x=x, times=times, cond=cond)
        return x

    cond, x, t = object(), torch.ones(3, 2, 5, 4), torch.tensor([0.2, 0.4, 0.6])
    ends = Denoiser(network, Linear(), reading)(x, t, t, cond)
    assert seen["times"].shape == (3, 1) and seen["cond"] is cond
    assert seen["x"].shape == x.shape == ends.data.shape == ends.noise.shape


def test_preconditioning_is_that_of_edm_and_algorithm_20(rng):
    """c_in, c_skip, c_out of EDM's table 1 and log(t / 16) / 4 of SI Algorithm 21, literally."""
    sd, t = 16.0, torch.tensor([0.0064, 1.0, 16.0, 2560.0], dtype=F64)
    x, raw = (normal_like(torch.empty(4, 5, 3, dtype=F64), rng) for _ in range(2))
    reading, path, c = Preconditioned(sd), VarianceExploding(), t[:, None, None]
    x_in, times = reading.inputs(path, x, t, t)
    assert_close(x_in, x / (c**2 + sd**2).sqrt(), FLOAT64_IDENTITY)
    assert_close(times[:, 0], torch.log(t / sd) / 4, FLOAT64_IDENTITY)
    expected = sd**2 / (sd**2 + c**2) * x + sd * c / (sd**2 + c**2).sqrt() * raw
    assert_close(reading.endpoints(path, raw, x, t, t).data, expected, FLOAT64_IDENTITY)


@EACH_PATH
def test_preconditioned_input_and_target_have_unit_variance(path):
    """For data and noise that are independent with variances sigma_data^2 and 1; exact, from the coefficients."""
    t = start_of(path) * torch.tensor([0.05, 0.3, 0.9], dtype=F64)
    alpha, sigma = path.alpha_sigma(t)
    reading = Preconditioned(SD)
    c_in = reading.inputs(path, torch.ones(3, 1, dtype=F64), t, t)[0][:, 0]
    assert_close(c_in**2 * ((alpha * SD) ** 2 + sigma**2), torch.ones_like(t), FLOAT64_IDENTITY)
    zero, one = torch.zeros(3, 1, dtype=F64), torch.ones(3, 1, dtype=F64)
    of_data = residual(path, Endpoints(one, zero), over(alpha, one) * one, t)[:, 0]
    of_noise = residual(path, Endpoints(zero, one), over(sigma, one) * one, t)[:, 0]
    assert_close(of_data**2 * SD**2 + of_noise**2, torch.ones_like(t), 1e-10)


def test_preconditioned_data_is_defined_where_no_signal_is_left():
    """At alpha = 0 the prediction is the scaled raw output; only the network's time is infinite there."""
    t, raw = torch.ones(1, dtype=F64), torch.full((1, 2), 0.5, dtype=F64)
    ends = Preconditioned(SD).endpoints(Linear(), raw, torch.full((1, 2), 0.3, dtype=F64), t, t)
    assert_close(ends.data, SD * raw, FLOAT64_IDENTITY)


def test_output_of_a_low_precision_network_is_read_in_the_precision_of_the_state():
    """A bfloat16 network gives float32 endpoints that lie on the line through x."""
    path, t, x = VarianceExploding(), torch.tensor([3.0, 40.0]), torch.full((2, 3), 10.0)
    network = torch.nn.Linear(3, 3, dtype=torch.bfloat16)
    ends = Denoiser(lambda x, times, cond: network(x.bfloat16()), path, Preconditioned(16.0))(x, t, t, None)
    assert ends.data.dtype == ends.noise.dtype == torch.float32
    assert_close(path.state(ends, t), x, 1e-5)


def test_weights_belong_to_the_denoiser():
    """Its parameters are those of its network, and it is differentiable in them."""
    network = torch.nn.Linear(3, 3)
    denoiser = Denoiser(lambda x, times, cond: x, Linear(), ReadData())
    assert not list(denoiser.parameters())

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x, times, cond):
            return self.inner(x) * times

    denoiser = Denoiser(Net(), Linear(), ReadVelocity())
    t = torch.full((2,), 0.5)
    denoiser(torch.ones(2, 3), t, t, None).data.sum().backward()
    assert {name for name, _ in denoiser.named_parameters()} == {"network.inner.weight", "network.inner.bias"}
    assert network.weight.grad is not None and network.weight.grad.abs().sum() > 0


def test_a_reading_that_looks_at_s_makes_ddim_an_average_velocity_step(rng):
    """A network that knows the mean velocity from t to s takes one exact step: Ddim needs no change for MeanFlow."""
    from structgen.generative import Ddim, sample

    class ReadAverage(Reading):
        def inputs(self, path, x, t, s):
            return x, torch.stack([t, s], dim=1)

        def endpoints(self, path, raw, x, t, s):
            return path.through(x, t, x + over(s - t, x) * raw, s)

    def network(x, times, cond):  # the average velocity of x_t = t^2 c along its own flow
        t, s = times.unbind(1)
        return over((t + s) / t**2, x) * x

    x = normal_like(torch.empty(3, 2, dtype=F64), rng)
    denoiser = Denoiser(network, Linear(), ReadAverage())
    end = sample(Linear(), lambda x, t, s: denoiser(x, t, s, None), Ddim(), [0.9, 0.5, 0.3], x, rng)
    assert_close(end, x * (0.3 / 0.9) ** 2, FLOAT64_IDENTITY)
