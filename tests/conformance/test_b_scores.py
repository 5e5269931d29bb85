"""Forward equations, score matching and likelihood."""

from __future__ import annotations

import math

import pytest
import torch

from structgen.generative import (
    Bins,
    Chain,
    Endpoints,
    Heun,
    Linear,
    Noised,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    bits_per_dimension,
    linear_betas,
    log_likelihood,
    normal_like,
    normal_probes,
    over,
    sign_probes,
)
from structgen.generative.score_matching import Explicit, Sliced, denoising, implicit
from structgen.generative.sde import coefficients
from structgen.generative.times import quadratic
from tests.conformance.clouds import Cloud, ring, scattered
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
SDES = {"B1": (VariancePreserving(), 1.0), "B2": (VarianceExploding(), 5.0), "B3": (SubVariancePreserving(), 1.0)}


def euler_moments(path, end: float, steps: int) -> tuple[float, float]:
    """Mean of a unit start and variance from a sure start at `end`, under Euler and Maruyama's steps of dx = f x dt + g dw: no sampling, as
    a linear equation's moments obey a recursion."""
    first, mean, variance = 1e-3, 1.0, 0.0
    t = torch.linspace(first, end, steps + 1, dtype=F64)
    f, g2 = coefficients(path, t[:-1])
    for a, b in zip((1 + f * t.diff()).tolist(), (g2 * t.diff()).tolist(), strict=True):
        mean, variance = a * mean, a**2 * variance + b
    return mean, variance


@pytest.mark.parametrize("row", SDES)
def test_B1_B2_B3_simulated_moments_are_of_weak_order_one(row, measured):
    """Moments of the simulated equation approach those of the path: the error halves with the step. (B1: VP, B2: VE, B3: sub-VP.)"""
    path, end = SDES[row]
    (alpha_0, alpha_1), (sigma_0, sigma_1) = (c.tolist() for c in path.alpha_sigma(torch.tensor([1e-3, end], dtype=F64)))
    mean, variance = alpha_1 / alpha_0, sigma_1**2 - (alpha_1 / alpha_0 * sigma_0) ** 2
    errors = [[abs(a - b) for a, b in zip(euler_moments(path, end, n), (mean, variance), strict=True)] for n in (1000, 2000, 4000)]
    for i, name in enumerate(("mean", "variance")):
        if errors[0][i] < 1e-12:
            continue  # the mean of VE does not move
        slope = math.log2(errors[1][i] / errors[2][i])
        measured(row, f"weak order of the {name}", slope, 1.0)
        assert slope == pytest.approx(1, abs=0.1)


def test_B1_coefficients_by_hand():
    """VP: -beta / 2 and beta; VE at t = sigma: 0 and 2 t; sub-VP: beta (1 - exp(-2 int beta))."""
    t = torch.tensor([0.01, 0.3, 0.9], dtype=F64)
    beta, integral = 0.1 + 19.9 * t, t * (0.1 + 19.9 * t / 2)
    expected = {"B1": (-beta / 2, beta), "B2": (0 * t, 2 * t), "B3": (-beta / 2, beta * -torch.expm1(-2 * integral))}
    for row, (path, _) in SDES.items():
        for found, wanted in zip(coefficients(path, t), expected[row], strict=True):
            assert_close(found, wanted, 1e-10)


def test_B1_the_chain_tends_to_the_path_at_rate_one_over_t(measured):
    """The largest difference of alpha-bar between DDPM's T steps and the continuous path, at T = 500, 1000, 2000, 4000."""
    errors = []
    for steps in (500, 1000, 2000, 4000):
        k = torch.arange(1, steps + 1)
        alpha, _ = VariancePreserving().alpha_sigma(k.double() / steps)
        errors.append((Chain(linear_betas(steps)).alpha_bar(k) - alpha**2).abs().max().item())
    slope = math.log2(errors[-2] / errors[-1])
    measured("B1", "rate of DDPM to the equation", slope, 1.0)
    assert slope == pytest.approx(1, abs=0.1)


def test_B3_variance_is_below_vp_at_every_time():
    """(1 - exp(-int beta))^2 < 1 - exp(-int beta)."""
    t = torch.linspace(1e-4, 1, 500, dtype=F64)
    _, sub = SubVariancePreserving().alpha_sigma(t)
    _, full = VariancePreserving().alpha_sigma(t)
    assert (sub < full).all()
    assert_close(sub**2, (full**2) ** 2, FLOAT64_IDENTITY)


LEVEL = 0.3


def noised(cloud: Cloud, count: int, rng) -> Noised:
    """States at sigma = LEVEL on the path of growing variance."""
    path, data, t = VarianceExploding(), cloud.draw(count, rng), torch.full((count,), LEVEL, dtype=F64)
    truth = Endpoints(data, normal_like(data, rng))
    return Noised(path, truth, path.state(truth, t), t, torch.ones_like(t))


def true_score(cloud: Cloud):
    path = VarianceExploding()
    return lambda x, t: path.score(cloud.denoise(path, x, t), t)


def wrong_score(x):
    """A smooth field that is nobody's score."""
    return torch.tanh(x.flip(1)) - 0.7 * x + 0.2


def within_three_errors(sample) -> tuple[float, float]:
    """The mean and three of its standard errors."""
    return sample.mean().item(), 3 * sample.std().item() / math.sqrt(len(sample))


def fisher_information(cloud: Cloud) -> float:
    """E |grad log p|^2 at LEVEL, by the trapezoidal rule on a plane."""
    line = torch.linspace(-4, 4, 401, dtype=F64)
    x = torch.cartesian_prod(line, line)
    t = torch.full((len(x),), LEVEL, dtype=F64)
    p = cloud.log_prob(VarianceExploding(), x, t).exp()
    return ((p * true_score(cloud)(x, t).square().sum(1)).sum() * 0.02**2).item()


def test_B5_explicit_loss_is_half_the_fisher_information_plus_the_rearranged_form(measured, rng):
    """E|s - g|^2 / 2 - I / 2 = E[|s|^2 / 2 - s g], with I by quadrature; and it is 0 for the true score."""
    cloud = ring()
    example = noised(cloud, 40_000, rng)
    explicit = Explicit(true_score(cloud))
    loss = explicit(wrong_score, example, rng)
    s, g = wrong_score(example.x), true_score(cloud)(example.x, example.t)
    mean, bound = within_three_errors(loss - fisher_information(cloud) / 2 - (s.square() / 2 - s * g).sum(1))
    measured("B5", "difference of the two forms", abs(mean), bound, "3 standard errors")
    assert abs(mean) < bound
    assert (explicit(lambda x: true_score(cloud)(x, example.t), example, rng) == 0).all()


def test_B6_implicit_loss_is_the_explicit_one_less_a_constant(measured, rng):
    """E[|s|^2 / 2 + div s] = E|s - g|^2 / 2 - I / 2, within 3 standard errors."""
    cloud = ring()
    example = noised(cloud, 40_000, rng)
    apart = implicit(wrong_score, example, rng) - Explicit(true_score(cloud))(wrong_score, example, rng)
    mean, bound = within_three_errors(apart + fisher_information(cloud) / 2)
    measured("B6", "difference of implicit and explicit less the constant", abs(mean), bound, "3 standard errors")
    assert abs(mean) < bound


def test_B6_linear_model_is_fitted_in_closed_form(measured, rng):
    """The minimiser over s = W x + b is -covariance^-1 (x - mean) of the sample: one Newton step of the quadratic loss, to 1e-8."""
    example = noised(ring(), 500, rng)
    x = example.x

    def loss(theta):
        return implicit(lambda x: x @ theta[:4].reshape(2, 2).T + theta[4:], example, rng).mean()

    theta = torch.zeros(6, dtype=F64, requires_grad=True)
    hessian = torch.autograd.functional.hessian(loss, theta)
    (gradient,) = torch.autograd.grad(loss(theta), theta)
    found = -torch.linalg.solve(hessian, gradient)
    precision = torch.linalg.inv(torch.cov(x.T, correction=0))
    wanted = torch.cat([-precision.flatten(), precision @ x.mean(0)])
    measured("B6", "largest difference of the linear fit", (found - wanted).abs().max().item(), 1e-8)
    assert_close(found, wanted, 1e-8)


@pytest.mark.parametrize("law", [normal_probes, sign_probes])
def test_B7_probes_are_unbiased_with_the_stated_variance(law, measured, rng):
    """On a linear field: mean = trace; variance 2 |A_sym|^2 for normal probes, less by 2 sum A_ii^2 for signs (both within 2 %)."""
    jacobian = torch.randn(6, 6, generator=rng, dtype=F64)
    x = torch.zeros(200_000, 6, dtype=F64)
    with torch.no_grad():
        _, found = law(x, 1, rng)(lambda x: x @ jacobian.T, x)
    mean, bound = within_three_errors(found - jacobian.trace())
    assert abs(mean) < bound
    symmetric = (jacobian + jacobian.T) / 2
    variance = 2 * symmetric.square().sum() - (2 * jacobian.diag().square().sum() if law is sign_probes else 0)
    measured("B7", f"variance of {law.__name__} over its formula", (found.var() / variance).item(), 1.0)
    assert (found.var() / variance).item() == pytest.approx(1, abs=0.02)


class Counted(torch.autograd.Function):
    """The identity, which counts its backward passes."""

    passes = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Counted.passes += 1
        return gradient


@pytest.mark.parametrize("d", [2, 50])
def test_B7_sliced_costs_one_backward_pass_whatever_the_dimension(d, rng):
    """One for `Sliced`, d for `implicit`."""
    example = Noised(VarianceExploding(), None, normal_like(torch.empty(4, d, dtype=F64), rng), None, None)
    for loss, passes in ((Sliced(), 1), (implicit, d)):
        Counted.passes = 0
        with torch.no_grad():
            loss(lambda x: torch.tanh(Counted.apply(x)), example, rng)
        assert Counted.passes == passes


def test_B7_fitted_score_is_near_the_true_one(measured, rng):
    """The score of a mixture with free weights, means and widths (12 parameters), fitted by the sliced loss alone to 20,000 states, from a
    start that is far off: relative L2 error under 5 %."""
    modes = [0, 3, 5]
    cloud = Cloud(torch.tensor([0.5, 0.3, 0.2], dtype=F64), ring().means[modes], ring().stds[modes])
    example = noised(cloud, 20_000, rng)
    means = cloud.means + 0.25 * torch.randn(3, 2, generator=rng, dtype=F64)
    theta = [torch.zeros(3, dtype=F64), means, torch.full((3,), -1.2, dtype=F64)]
    for parameter in theta:
        parameter.requires_grad_()

    def score(x, t):
        return true_score(Cloud(theta[0].softmax(0), theta[1], theta[2].exp()))(x, t)

    def closure():
        optimizer.zero_grad()
        probes = torch.Generator().manual_seed(1)  # the same in every evaluation: the line search needs one function
        loss = Sliced(4)(lambda x: score(x, example.t), example, probes).mean()
        loss.backward()
        return loss

    fresh = noised(cloud, 5000, rng)
    truth = true_score(cloud)(fresh.x, fresh.t)

    def error() -> float:
        with torch.no_grad():
            return ((score(fresh.x, fresh.t) - truth).norm() / truth.norm()).item()

    before = error()
    optimizer = torch.optim.LBFGS(theta, max_iter=50, line_search_fn="strong_wolfe")
    optimizer.step(closure)
    note = f"{before:.2f} at the start; 5 % is reached only by a model that contains the truth, here a mixture with free parameters"
    measured("B7", "relative L2 error of the sliced fit", error(), 0.05, note)
    assert before > 0.2 and error() < 0.05


def test_B8_gradients_of_denoising_and_explicit_agree(measured, rng):
    """At the same parameters, along 12 coordinates, within 3 standard errors of 200 paired batches (the largest of 12: 4)."""
    cloud = ring()
    theta = torch.randn(12, generator=rng, dtype=F64, requires_grad=True)

    def score(x):
        hidden = torch.tanh(x @ theta[:6].reshape(2, 3))
        return hidden @ theta[6:].reshape(3, 2)

    explicit, differences = Explicit(true_score(cloud)), []
    for _ in range(200):
        example = noised(cloud, 200, rng)
        apart = (denoising(score, example, rng) - explicit(score, example, rng)).mean()
        differences.append(torch.autograd.grad(apart, theta)[0])
    differences = torch.stack(differences)
    worst = (differences.mean(0) / (differences.std(0) / math.sqrt(200))).abs().max().item()
    measured("B8", "largest difference of 12 gradients, in standard errors", worst, 4.0, "3 for one gradient, 4 for the largest of 12")
    assert worst < 4


def test_B8_minimiser_on_an_empirical_set_is_the_posterior_mean(rng):
    """For data of n points, the loss at one x, averaged over the points that x may come from, is least at the closed-form score."""
    path, points = VariancePreserving(), torch.randn(7, 2, generator=rng, dtype=F64)
    t = torch.full((7,), 0.3, dtype=F64)
    alpha, sigma = path.alpha_sigma(t)
    x = torch.tensor([[0.3, -0.4]], dtype=F64)
    share = (-(x - over(alpha, points) * points).square().sum(1) / (2 * sigma**2)).softmax(0)
    example = Noised(path, path.from_data(points, x.expand(7, 2), t), x.expand(7, 2), t, torch.ones_like(t))
    empirical = Cloud(torch.full((7,), 1 / 7, dtype=F64), points, torch.zeros(7, dtype=F64))
    best = path.score(empirical.denoise(path, x, t[:1]), t[:1]).requires_grad_()
    loss = (share * denoising(lambda x: best.expand(7, 2), example, rng)).sum()
    assert_close(torch.autograd.grad(loss, best)[0], torch.zeros(1, 2, dtype=F64), 1e-10)


@pytest.mark.parametrize("cloud, steps", [(ring(), 100), (scattered(), 60)], ids=["2-D", "64-D"])
def test_B12_exact_likelihood(cloud, steps, measured, rng):
    """Heun on the straight path with the exact trace: mean error at most 1e-3 bits per dimension."""
    path, x = Linear(), cloud.draw(8, rng)
    times = quadratic(steps, 1.0, 1e-4).flip(0)
    with torch.no_grad():
        found = log_likelihood(path, cloud.denoiser(path), Heun(), times, x, rng)
    d = x.shape[1]
    error = bits_per_dimension(found - cloud.log_prob(path, x, torch.zeros(8, dtype=F64)), d).abs().mean().item()
    note = "straight path; on every path, VE and sub-VP among them, order 2 and below 0.02 nats (tests/generative/test_likelihood.py)"
    measured("B12", f"error in {d}-D with {2 * steps} evaluations, bits per dimension", error, 1e-3, note)
    assert error < 1e-3


def test_B12_skilling_hutchinson_is_unbiased(measured, rng):
    """The mean over 200 single probes of each of 4 points equals the exact trace's value within 3 standard errors."""
    cloud, path = ring(), Linear()
    x, times = cloud.draw(4, rng), quadratic(40, 1.0, 1e-3).flip(0)
    with torch.no_grad():
        exact = log_likelihood(path, cloud.denoiser(path), Heun(), times, x, rng)
        many = x.repeat(200, 1)
        found = log_likelihood(path, cloud.denoiser(path), Heun(), times, many, rng, divergence=sign_probes(many, 1, rng))
    mean, bound = within_three_errors((found.reshape(200, 4) - exact).mean(1))
    measured("B12", "Hutchinson's mean less the exact value, nats", abs(mean), bound, "3 standard errors")
    assert abs(mean) < bound
    assert (found.reshape(200, 4).std(0) > 0.01).all()


def test_B12_discrete_data_have_an_explicit_offset(rng):
    """A uniform density on -1 ... 1 gives 8 bits to each of 256 levels and 5 to each of 32; dequantised data stay in their bins."""
    for levels in (256, 32):
        bins = Bins(levels)
        bits = bits_per_dimension(torch.full((3,), -10 * math.log(2.0), dtype=F64), 10, bin_width=bins.width)
        assert_close(bits, torch.full((3,), math.log2(levels), dtype=F64), FLOAT64_IDENTITY)
        integers = torch.arange(levels)
        x = bins.dequantised(integers, torch.empty(1, dtype=F64), rng)
        assert torch.equal(((x + 1) / bins.width).floor().long(), integers)
