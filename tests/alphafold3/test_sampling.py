"""SI Algorithms 18 and 19 as values of the generative core."""

from __future__ import annotations

import pytest
import torch

from structgen.alphafold3.config import Sampling
from structgen.alphafold3.sampling import CentreRandomAugmentation, random_rotations, sampling_schedule
from structgen.features.conformers import rotations
from structgen.generative import VarianceExploding, normal_like, sample
from tests.oracles import diffusion as oracle
from tests.tolerance import FLOAT64_IDENTITY, assert_close

SD = 16.0
SAMPLINGS = [
    Sampling(steps=6),
    Sampling(steps=5, gamma_0=0.3, step_scale=1.0, noise_scale=1.1, rho=3.0),
    Sampling(steps=4, gamma_min=0.1, last_sigma="zero"),
]


def test_noise_levels_are_those_of_the_si():
    """200 steps from 2560 to 0.0064 angstrom through the values of SI 3.7.1; 160 of them raise the noise level first."""
    times, step = sampling_schedule(Sampling(), SD)
    expected = {0: 2560.0, 1: 2485.5, 100: 56.0, 199: 0.00769, 200: 0.0064}
    for n, level in expected.items():
        assert times[n].item() == pytest.approx(level, rel=2e-3)
    plan = step.plan(VarianceExploding(), times[:-1], times[1:])
    assert int(plan.raised.sum()) == 160
    assert sampling_schedule(Sampling(last_sigma="zero"), SD)[0][-1] == 0
    assert torch.equal(sampling_schedule(Sampling(last_sigma="zero"), SD)[0][:-1], times[:-1])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_sampler_is_algorithm_18(sampling):
    """Times, solver and augmentation in the core's loop equal the literal algorithm on the same random numbers."""
    mask = torch.tensor([[True] * 5 + [False] * 2])
    augment = CentreRandomAugmentation(mask)
    target = torch.randn(7, 3, dtype=torch.float64)
    times, step = sampling_schedule(sampling, SD)
    start = times[0] * torch.randn(1, 7, 3, dtype=torch.float64)

    def data(x: torch.Tensor, t: float) -> torch.Tensor:
        return target + torch.tanh(x / 10) / (1 + t)

    path = VarianceExploding()
    actual = sample(
        path, lambda x, t, s: path.from_data(data(x, float(t[0])), x, t), step, times, start, torch.Generator().manual_seed(3), augment
    )
    rng = torch.Generator().manual_seed(3)
    expected = oracle.sample(
        data,
        lambda x: augment(x, rng),
        lambda: normal_like(start, rng),
        start,
        times.tolist(),
        gamma_0=sampling.gamma_0,
        gamma_min=sampling.gamma_min,
        noise_scale=sampling.noise_scale,
        step_scale=sampling.step_scale,
    )
    assert_close(actual, expected, FLOAT64_IDENTITY * 100)  # a few hundred operations on numbers of 2560


def test_augmentation_moves_samples_rigidly(rng):
    """Distances stay, the centre of existing atoms lands at s_trans times normal numbers, and atoms that do not exist at 0."""
    x = torch.randn(4, 9, 3, generator=rng, dtype=torch.float64) * 20 + 100
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    moved = CentreRandomAugmentation(mask)(x, rng)
    for k, real in ((0, 9), (1, 9), (2, 6), (3, 6)):
        assert_close(torch.cdist(moved[k, :real], moved[k, :real]), torch.cdist(x[k, :real], x[k, :real]), 1e-9)
        assert moved[k, real:].abs().sum() == 0
        assert torch.linalg.det(torch.linalg.lstsq(x[k, :4] - x[k, 4:5], moved[k, :4] - moved[k, 4:5]).solution) > 0
    still = CentreRandomAugmentation(mask, s_trans=0.0)(x, rng)
    assert still[0].mean(0).abs().max() < 1e-12 and still[2, :6].mean(0).abs().max() < 1e-12


def test_centres_have_the_spread_asked_for(rng):
    """Mean 0 and standard deviation s_trans of the new centres, within 3 standard errors."""
    x = torch.randn(1, 5, 3, generator=rng).expand(4000, 5, 3)
    centres = CentreRandomAugmentation(torch.ones(1, 5, dtype=torch.bool), s_trans=2.0)(x, rng).mean(1)
    assert centres.mean(0).abs().max() < 3 * 2 / 4000**0.5
    assert (centres.std(0) - 2).abs().max() < 3 * 2 / 8000**0.5


def test_rotations_are_proper_and_uniform(rng):
    """Orthonormal with determinant 1; the mean rotation is 0 within 3 standard errors, and the trace has variance 1 (Haar measure)."""
    r = random_rotations(torch.zeros(6000, 1, dtype=torch.float64), rng)
    assert_close(r @ r.mT, torch.eye(3, dtype=torch.float64).expand(6000, 3, 3), FLOAT64_IDENTITY)
    assert_close(torch.linalg.det(r), torch.ones(6000, dtype=torch.float64), FLOAT64_IDENTITY)
    assert r.mean(0).abs().max() < 3 * (1 / 3) ** 0.5 / 6000**0.5 * 1.1
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert trace.var().item() == pytest.approx(1.0, abs=0.1)


def test_a_quaternion_turns_about_its_axis():
    """A quarter turn about z takes x to y."""
    half = 0.5**0.5
    turned = rotations(torch.tensor([half, 0, 0, half], dtype=torch.float64)) @ torch.tensor([1.0, 0, 0], dtype=torch.float64)
    assert_close(turned, torch.tensor([0.0, 1, 0], dtype=torch.float64), FLOAT64_IDENTITY)


def test_a_sample_does_not_depend_on_its_batch(rng):
    """With one generator a sample, the same sample alone and among others is moved alike."""
    x = torch.randn(3, 4, 3, generator=rng)
    augment = CentreRandomAugmentation(torch.ones(1, 4, dtype=torch.bool))
    together = augment(x, [torch.Generator().manual_seed(k) for k in range(3)])
    assert_close(augment(x[1:2], [torch.Generator().manual_seed(1)]), together[1:2], 1e-6)
