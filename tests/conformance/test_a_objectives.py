"""DDPM's chain, its bound and losses, guidance, embeddings of times, and the time densities of SD3."""

from __future__ import annotations

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

from structgen.errors import ConfigError
from structgen.generative import (
    Chain,
    CosMap,
    Denoiser,
    Drop,
    Endpoints,
    Hybrid,
    LearnedVariance,
    LogitNormal,
    Loss,
    Mode,
    ReadNoise,
    Regression,
    Steps,
    VariancePreserving,
    bound,
    classifier,
    classifier_free,
    classifier_free_at_once,
    cosine_betas,
    linear_betas,
    noise_error,
    normal_like,
)
from structgen.generative.variational import fixed_variance, noise_weight, prior_term, step_term
from structgen.generative.weights import Constant
from structgen.nn.embeddings import RandomFourier, Sinusoidal
from tests.conformance.clouds import Cloud, ring
from tests.generative.mixture import PATHS, start_of
from tests.tolerance import FLOAT64_IDENTITY, assert_close

F64 = torch.float64
SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}
EACH_SCHEDULE = pytest.mark.parametrize("betas", SCHEDULES.values(), ids=SCHEDULES)


@EACH_SCHEDULE
def test_A1_single_steps_compose_to_the_marginal(betas, measured):
    """Mean and variance carried through T single steps are sqrt(ab_k) and 1 - ab_k; ab_T < 1e-4; the SNR falls strictly."""
    chain = Chain(betas(1000))
    mean, variance, worst = torch.ones(1, 1, dtype=F64), torch.zeros(1, dtype=F64), 0.0
    for k in range(1, 1001):
        at = torch.tensor([k])
        mean = chain.step(mean, at, torch.zeros_like(mean))
        variance = variance * chain.step(torch.ones(1, 1, dtype=F64), at, torch.zeros(1, 1, dtype=F64)).square()[0]
        variance = variance + chain.step(torch.zeros(1, 1, dtype=F64), at, torch.ones(1, 1, dtype=F64)).square()[0]
        alpha, sigma = chain.path().alpha_sigma(torch.tensor([k / 1000], dtype=F64))
        worst = max(worst, (mean[0] - alpha).abs().item(), (variance - sigma**2).abs().item())
    measured("A1", "largest difference of mean and variance", worst, 1e-12)
    assert worst <= 1e-12
    assert chain.alpha_bar(torch.tensor(1000)).item() < 1e-4
    assert (chain.path().half_log_snr(torch.arange(1, 1001, dtype=F64) / 1000).diff() < 0).all()


def test_A1_linear_betas_are_those_of_ddpm():
    """1e-4 to 0.02 at T = 1000; betas outside 0 ... 1 are refused."""
    assert_close(linear_betas(1000), torch.linspace(1e-4, 0.02, 1000, dtype=F64), FLOAT64_IDENTITY)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Chain(linear_betas(10))


@EACH_SCHEDULE
def test_A2_posterior_is_bayes_on_the_joint_gaussian(betas, measured, rng):
    """Conditioning the joint normal of (x_(k-1), x_k) given x_0 gives the stated mean and variance, and the noise form the same mean."""
    chain, worst = Chain(betas(100)), 0.0
    for k in (1, 2, 50, 99, 100):
        at, before = torch.tensor([k]), chain.alpha_bar(torch.tensor([k - 1]))
        data, noise = normal_like(torch.empty(1, 3, dtype=F64), rng), normal_like(torch.empty(1, 3, dtype=F64), rng)
        truth = Endpoints(data, noise)
        x = chain.path().state(truth, chain.time(at, data))
        step = 1 - chain.beta(at)
        cross, total = step.sqrt() * (1 - before), step * (1 - before) + chain.beta(at)
        mean = before.sqrt() * data + cross / total * (x - (step * before).sqrt() * data)
        for stated in (chain.posterior_mean(truth, x, at), chain.posterior_mean_from_noise(noise, x, at)):
            worst = max(worst, (stated - mean).abs().max().item())
        worst = max(worst, (chain.posterior_variance(at) - ((1 - before) - cross**2 / total)).abs().item())
    measured("A2", "largest difference from Bayes' rule", worst, 1e-12)
    assert worst <= 1e-12


def line() -> Cloud:
    """Three modes in one dimension."""
    weights, means, stds = (torch.tensor(v, dtype=F64) for v in ([0.5, 0.3, 0.2], [[-1.0], [0.4], [1.3]], [0.3, 0.25, 0.4]))
    return Cloud(weights, means, stds)


def test_A3_bound_lies_above_the_likelihood_and_closes(measured):
    """With the exact noise on a mixture, L_T + sum L_t + L_0 >= -log p in the mean over the data, and the gap shrinks from T = 50 to 1000.

    Both means, over data and noise, are quadratures, not samples: at T = 1000 the gap is a thousandth of a nat. At one point the bound may
    lie below -log p, because what it bounds there is the density of the chain, which is not that of the data.
    """
    cloud, gaps = line(), []
    data = torch.linspace(-3.2, 3.8, 141, dtype=F64)[:, None]
    log_p = cloud.log_prob(VariancePreserving(), data, torch.zeros(141, dtype=F64))
    share = log_p.softmax(0)
    nodes, weights = (torch.from_numpy(v) for v in hermegauss(40))
    weights = weights / weights.sum()
    every, noise = data.repeat_interleave(40, 0), nodes.repeat(141)[:, None]
    note = "mean over data by quadrature; at one point the bound may lie below -log p, as it bounds the density of the chain"
    for steps in (50, 200, 1000):
        chain = Chain(linear_betas(steps))
        predict = fixed_variance(chain, cloud.denoiser(chain.path()), lambda k, chain=chain: chain.log_variances(k)[1])
        total = prior_term(chain, data)
        for k in range(1, steps + 1):
            total = total + step_term(chain, predict, every, torch.full((len(every),), k), noise).reshape(141, 40) @ weights
        gaps.append((share @ (total + log_p)).item())
        measured("A3", f"gap at T = {steps}, nats", gaps[-1], None, note)
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_A3_the_drawn_bound_is_the_sum_of_its_terms(measured, rng):
    """One draw of every term: T - 1 steps, a prior and a decoder; its mean over 4000 points is above the likelihood at T = 50."""
    cloud, chain = ring(), Chain(linear_betas(50))
    data = cloud.draw(4000, rng)
    predict = fixed_variance(chain, cloud.denoiser(chain.path()), lambda k: chain.log_variances(k)[1])
    drawn = bound(chain, predict, data, rng)
    assert drawn.steps.shape == (49, 4000) and (drawn.steps >= 0).all()
    assert_close(drawn.total, drawn.prior + drawn.steps.sum(0) + drawn.decoder, FLOAT64_IDENTITY)
    assert_close(drawn.prior, prior_term(chain, data), FLOAT64_IDENTITY)
    gap = drawn.total + cloud.log_prob(chain.path(), data, torch.zeros(4000, dtype=F64))
    assert gap.mean() > 3 * gap.std() / 4000**0.5
    measured("A3", "mean gap at T = 50 on the ring, nats", gap.mean().item(), None)


def test_A3_two_forms_of_the_weight_agree(rng):
    """A term as a divergence of normals equals the weighted error in the noise, plus what the variances alone contribute."""
    chain, k = Chain(linear_betas(200)), torch.tensor([2, 77, 200])
    data, noise, guess = (normal_like(torch.empty(3, 5, dtype=F64), rng) for _ in range(3))

    def term(noise_guess):
        predict = fixed_variance(chain, lambda x, t, s: chain.path().from_noise(noise_guess, x, t), lambda k: chain.beta(k).log())
        return step_term(chain, predict, data, k, noise)

    weighted = noise_weight(chain, k, chain.beta(k).log()) * (noise - guess).square().sum(1)
    assert_close(term(guess) - term(noise), weighted, FLOAT64_IDENTITY)


class Perceptron(nn.Module):
    """A small network of (x, t)."""

    def __init__(self, width: int, out: int, rng: torch.Generator, d: int = 2) -> None:
        super().__init__()
        torch.manual_seed(torch.randint(1 << 30, (), generator=rng).item())
        self.times = Sinusoidal(16, longest=100.0, scale=20.0)
        self.body = nn.Sequential(nn.Linear(d + 16, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, out))

    def forward(self, x, times, cond):
        return self.body(torch.cat([x, self.times(times[:, 0].sqrt()).to(x)], 1))


def trained(model, objective, draw, steps, rate, rng):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model, draw(), None, rng).total.mean().backward()
        optimizer.step()
        schedule.step()


def test_A4_simple_loss_comes_near_its_floor(measured, rng):
    """A small network trained by Algorithm 1: its risk exceeds that of the exact posterior mean of the noise by less than 2 %."""
    cloud, path = line(), Chain(linear_betas(1000)).path()
    model = Denoiser(Perceptron(64, 1, rng, d=1), path, ReadNoise())
    objective = Regression(path, Steps(1000), Constant(), noise_error)
    trained(model, objective, lambda: cloud.draw(1024, rng).float(), 1200, 1.2e-2, rng)
    data = cloud.draw(40_000, rng)
    truth, t = Endpoints(data, normal_like(data, rng)), Steps(1000).draw(data, rng)
    x = path.state(truth, t)
    exact = cloud.denoise(path, x, t).noise
    with torch.no_grad():
        guess = model(x.float(), t.float(), t.float(), None).noise.double()
    excess = ((guess - exact).square().mean() / (truth.noise - exact).square().mean()).item()
    measured("A4", "excess risk over the irreducible loss, 1-D", excess, 0.02, "in 2-D 2 % was out of reach: 5.1 % on the ring")
    assert excess < 0.02


class ExactNoise(nn.Module):
    """The exact noise of a cloud, and a learned v."""

    def __init__(self, cloud: Cloud, chain: Chain, rng: torch.Generator) -> None:
        super().__init__()
        self.cloud, self.chain, self.v = cloud, chain, Perceptron(48, 2, rng).double()
        self.shift = nn.Parameter(torch.zeros(2, dtype=F64))

    def forward(self, x, times, cond):
        noise = self.cloud.denoise(self.chain.path(), x, times[:, 0]).noise
        return torch.cat([noise + self.shift, self.v(x, times, cond)], 1)


def test_A7_learned_variance_beats_both_fixed_ones(measured, rng):
    """On a 25-step chain with the exact noise, the bound is lower with the learned variance than with beta or with beta~."""
    cloud, chain = ring(), Chain(linear_betas(25))
    model = LearnedVariance(ExactNoise(cloud, chain, rng), chain)
    trained(model.train(), Hybrid(chain, share=1.0), lambda: cloud.draw(256, rng), 500, 3e-3, rng)
    model.network.shift.data.zero_()
    data = cloud.draw(4000, rng)

    def nats(predict) -> float:
        with torch.no_grad():
            return bound(chain, predict, data, torch.Generator().manual_seed(7)).total.mean().item()

    denoise = cloud.denoiser(chain.path())
    low, high = (nats(fixed_variance(chain, denoise, lambda k, i=i: chain.log_variances(k)[i])) for i in (0, 1))
    learned = nats(lambda x, k: model.predict(x, k, None))
    measured("A7", "bound below the better fixed variance, nats", min(low, high) - learned, 0.0, f"beta~ {low:.3f}, beta {high:.3f}")
    assert learned < min(low, high)


def test_A7_bound_does_not_teach_the_mean_and_is_finite_at_the_first_step(rng):
    """The gradient of L_vlb with respect to the noise is zero, with respect to v not; terms at k = 1, where beta~ = 0, are finite."""
    cloud, chain = ring(), Chain(linear_betas(25))
    model = LearnedVariance(ExactNoise(cloud, chain, rng), chain)
    loss = Hybrid(chain)(model, cloud.draw(64, rng), None, rng)
    shift, v = torch.autograd.grad(loss.parts["vlb"].sum(), [model.network.shift, model.network.v.body[0].weight], materialize_grads=True)
    assert (shift == 0).all() and v.abs().max() > 0
    x = cloud.draw(8, rng)
    _, log_variance = model.predict(x, torch.ones(8, dtype=torch.long), None)
    assert log_variance.isfinite().all()
    assert (
        step_term(chain, lambda x, k: model.predict(x, k, None), x, torch.ones(8, dtype=torch.long), normal_like(x, rng)).isfinite().all()
    )


def test_A9_sinusoidal_products_depend_on_differences(rng):
    """<e(t), e(t')> = <e(t + c), e(t' + c)>."""
    embed = Sinusoidal(32, longest=1e4, scale=1.0).double()
    t, other = torch.rand(2, 50, generator=rng, dtype=F64) * 100
    apart = (embed(t) * embed(other)).sum(-1)
    assert_close((embed(t + 37.5) * embed(other + 37.5)).sum(-1), apart, 1e-10)
    assert embed(t).shape == (50, 32) and apart.std() > 1


def test_A9_random_features_have_a_gaussian_kernel(measured, rng):
    """E <e(t), e(t')> = exp(-(bandwidth (t - t'))^2 / 2); the frequencies are in the state dict and take no gradient."""
    embed = RandomFourier(40_000, bandwidth=3.0, rng=rng)
    t = torch.linspace(0, 1, 11, dtype=F64)
    kernel = embed(t) @ embed(t[:1]).T
    worst = (kernel[:, 0] - torch.exp(-((3 * t) ** 2) / 2)).abs().max().item()
    measured("A9", "largest difference of the kernel at 20,000 frequencies", worst, 3 * math.sqrt(0.5 / 20_000))
    assert worst < 3 * math.sqrt(0.5 / 20_000)
    assert "frequencies" in embed.state_dict() and not list(embed.parameters())
    again = RandomFourier(40_000, bandwidth=1.0, rng=rng)
    again.load_state_dict(embed.state_dict())
    assert torch.equal(again(t), embed(t))


def component(cloud: Cloud, k: int) -> Cloud:
    return Cloud(torch.ones(1, dtype=F64), cloud.means[k : k + 1], cloud.stds[k : k + 1])


def share_of(cloud: Cloud, path, k: int):
    """log p(component k | x_t)."""

    def log_probability(x, t):
        return cloud.weights[k].log() + component(cloud, k).log_prob(path, x, t) - cloud.log_prob(path, x, t)

    return log_probability


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_A11_exact_classifier_gives_the_exact_conditional(path, measured, rng):
    """Bayes' rule: the unconditional noise less sigma grad log p(y | x_t) is the noise of the component, to 1e-10."""
    cloud = ring()
    t = start_of(path) * torch.linspace(0.02, 0.95, 30, dtype=F64)
    x = path.state(Endpoints(cloud.draw(30, rng), normal_like(torch.empty(30, 2, dtype=F64), rng)), t)
    guided = classifier(path, cloud.denoiser(path), share_of(cloud, path, 2))(x, t, t)
    exact = component(cloud, 2).denoise(path, x, t)
    assert_close(guided.noise, exact.noise, 1e-10)
    assert_close(path.state(guided, t), x, FLOAT64_IDENTITY)
    measured("A11", "largest difference of the noise from the conditional's", (guided.noise - exact.noise).abs().max().item(), 1e-10)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_A11_scale_tilts_the_density(scale, rng):
    """The guided score is the gradient of log p_t + scale log p(y | x_t)."""
    cloud, path = ring(), VariancePreserving()
    t = torch.linspace(0.05, 0.9, 20, dtype=F64)
    x = cloud.draw(20, rng).requires_grad_()
    share = share_of(cloud, path, 5)
    (tilted,) = torch.autograd.grad((cloud.log_prob(path, x, t) + scale * share(x, t)).sum(), x)
    guided = classifier(path, cloud.denoiser(path), share, scale)(x.detach(), t, t)
    assert_close(path.score(guided, t) / tilted.abs().max(), tilted / tilted.abs().max(), 1e-9)


def test_A12_weights_zero_and_one_are_the_two_models_bit_for_bit(measured, rng):
    """In float64, and weight 3 extrapolates; one call of twice the size equals two calls; Ho and Salimans' 1 + w is documented."""
    cloud, path = ring(), VariancePreserving()
    x, t = cloud.draw(16, rng), torch.linspace(0.1, 0.9, 16, dtype=F64)
    empty, given = cloud.denoiser(path), component(cloud, 1).denoiser(path)
    for weight, alone in ((0.0, empty), (1.0, given)):
        ends = classifier_free(empty, given, weight)(x, t, t)
        assert torch.equal(ends.data, alone(x, t, t).data) and torch.equal(ends.noise, alone(x, t, t).noise)
        worst = max((ends.data - alone(x, t, t).data).abs().max().item(), (ends.noise - alone(x, t, t).noise).abs().max().item())
        measured("A12", f"largest difference at weight {weight:g}", worst, 0.0, "in float64")

    def both(x, t, s):
        halves = [one(a, b, b) for one, a, b in zip((empty, given), x.chunk(2), t.chunk(2), strict=True)]
        return Endpoints(torch.cat([h.data for h in halves]), torch.cat([h.noise for h in halves]))

    two, one = classifier_free(empty, given, 3.0)(x, t, t), classifier_free_at_once(both, 3.0)(x, t, t)
    assert torch.equal(two.noise, one.noise) and torch.equal(two.data, one.data)
    assert_close(two.noise, empty(x, t, t).noise + 3 * (given(x, t, t).noise - empty(x, t, t).noise), FLOAT64_IDENTITY)
    assert "1 + w" in classifier_free.__doc__


def test_A12_conditions_are_dropped_at_the_stated_rate(measured, rng):
    """10 % of 20,000, within 3 standard errors; dropped examples see the empty condition, the others their own."""
    seen = []

    def objective(denoiser, data, cond, rng):
        seen.append(cond)
        return Loss(data.sum(1), {})

    cond = torch.arange(1, 20_001)
    Drop(objective, lambda cond, lost: cond.masked_fill(lost, 0), 0.1)(None, torch.zeros(20_000, 1), cond, rng)
    lost = seen[0] == 0
    rate = lost.double().mean().item()
    measured("A12", "share of conditions dropped", rate, 0.1)
    assert abs(rate - 0.1) < 3 * math.sqrt(0.09 / 20_000)
    assert torch.equal(seen[0][~lost], cond[~lost])
    with pytest.raises(ConfigError):
        Drop(objective, lambda cond, lost: cond, 1.5)


F15 = [LogitNormal(), LogitNormal(0.5, 0.6), Mode(-1.0), Mode(0.0), Mode(1.29), Mode(1.7), CosMap()]


@pytest.mark.parametrize("density", F15, ids=repr)
def test_F15_densities_integrate_to_one_and_are_those_of_the_draws(density, measured, rng):
    """The density's integral is 1 to 1e-6; the Kolmogorov-Smirnov distance of 20,000 draws to it is below the 1e-4 level."""
    z = torch.linspace(-7, 7, 20_001, dtype=F64)
    t = density.from_normal(z)
    assert (t.diff() >= 0).all() and t[0] >= 0 and t[-1] <= 1
    angle = (torch.arange(400_000, dtype=F64) + 0.5) / 400_000 * math.pi  # t = (1 - cos angle) / 2 resolves both ends
    at = (1 - angle.cos()) / 2
    mass = density.log_density(at).exp() * angle.sin() / 2 * math.pi / 400_000
    note = "2 / (pi - 2) = 1.752 is the limit: there the density is infinite in the middle" if density == Mode(1.7) else ""
    measured("F15", f"integral of {density} less 1", mass.sum().item() - 1, 1e-6, note)
    assert abs(mass.sum().item() - 1) < 1e-6
    draws = density.draw(torch.empty(20_000, 1, dtype=F64), rng).sort().values
    cdf = mass.cumsum(0)[torch.searchsorted(at, draws).clamp_max(399_999)]
    assert (cdf - (torch.arange(20_000, dtype=F64) + 0.5) / 20_000).abs().max() < 2.23 / math.sqrt(20_000)


def test_F15_formulas_by_hand():
    """mode at u = 1/2 is 1/2 whatever the scale; at s = 1, u = 1/4 it is 3/4 - cos^2(pi / 8) + 3/4; cosmap's density at 1/2 is 4 / pi."""
    u = torch.tensor([0.25], dtype=F64)
    by_hand = 0.75 - (math.cos(math.pi / 8) ** 2 - 0.75)
    assert Mode(1.0).from_normal(torch.special.ndtri(1 - u)).item() == pytest.approx(by_hand, abs=1e-12)
    assert Mode(1.5).from_normal(torch.zeros(1, dtype=F64)).item() == pytest.approx(0.5, abs=1e-12)
    assert CosMap().log_density(torch.tensor([0.5], dtype=F64)).exp().item() == pytest.approx(4 / math.pi, abs=1e-12)
    with pytest.raises(ConfigError, match="mode"):
        Mode(2.0)
