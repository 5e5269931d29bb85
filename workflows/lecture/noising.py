"""Pictures of how data turns to noise, and of what a network is told about the time."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from structgen.generative import (
    Chain,
    Churn,
    CosMap,
    Endpoints,
    Heun,
    Linear,
    LogitNormal,
    Mode,
    Path,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    cosine_betas,
    linear_betas,
    normal_like,
)
from structgen.generative.times import TimeSampler, eased, karras, log_snr, quadratic, uniform
from structgen.generative.variational import fixed_variance, prior_term, step_term
from structgen.nn.embeddings import RandomFourier, Sinusoidal
from workflows.lecture.drawing import DATA, INK, NOISE, PALE, RANDOM, SERIES, logarithmic, page, plane
from workflows.lecture.sets import F64, Blobs, Effort, ring, spiral

CHAINS = {"linear": linear_betas, "cosine": cosine_betas}


def forward(effort: Effort, rng: Generator) -> Figure:
    """Data turns to noise: states, and the law of one coordinate (A1)."""
    figure, (above, below) = page(2, 5, height=4.4, title=r"Forward: $x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon$")
    path, cloud = VariancePreserving(), spiral()
    ends = Endpoints(cloud.draw(effort.points, rng), normal_like(torch.empty(effort.points, 2, dtype=F64), rng))
    place = ends.data.norm(dim=1)
    line = torch.linspace(-3.2, 3.2, 200, dtype=F64)
    for ax, low, t in zip(above, below, (0.0, 0.1, 0.25, 0.5, 1.0), strict=True):
        x = path.state(ends, torch.full((effort.points,), t, dtype=F64))
        plane(ax, f"t = {t:g}", reach=3.2).scatter(x[:, 0], x[:, 1], s=4, c=place.numpy(), cmap="viridis", linewidths=0)
        low.hist(x[:, 0].numpy(), bins=40, range=(-3.2, 3.2), density=True, color=PALE)
        low.plot(line, cloud.coordinate().log_prob(path, line[:, None], t).exp(), color=DATA)
        low.set(xlim=(-3.2, 3.2), ylim=(0, 0.55), xlabel="$x_t$, first coordinate")
        low.set_yticks([])
    below[0].set_ylabel("density")
    return figure


def schedules(effort: Effort, rng: Generator) -> Figure:
    """How fast the signal goes in a linear and a cosine schedule, and the two variances of a step back (A1, A6, A7)."""
    figure, ((left, middle, right),) = page(1, 3, height=3.4, title="Noise schedules")
    for (name, betas), colour in zip(CHAINS.items(), SERIES, strict=False):
        chain = Chain(betas(1000))
        k = torch.arange(1, 1001)
        left.plot(k / 1000, chain.alpha_bar(k), color=colour, label=name)
        middle.plot(k / 1000, 2 * chain.path().half_log_snr(k.double() / 1000), color=colour, label=name)
    for steps, colour in zip((25, 100, 1000), SERIES, strict=False):
        chain = Chain(cosine_betas(steps))
        k = torch.arange(2, steps + 1)
        right.plot(k / steps, chain.posterior_variance(k) / chain.beta(k), color=colour, label=f"T = {steps}")
    left.set(xlabel="k / T", ylabel=r"$\bar\alpha$", title="signal that is left")
    middle.set(xlabel="k / T", ylabel=r"$\log\ \bar\alpha/(1-\bar\alpha)$", title="log signal-to-noise", ylim=(-12, 12))
    right.set(xlabel="k / T", ylabel=r"$\tilde\beta/\beta$", title="smallest over largest variance", xlim=(0, 0.5))
    for ax in (left, middle, right):
        ax.legend()
    return figure


def posterior(effort: Effort, rng: Generator) -> Figure:
    """A step back given the data: the product of two normals (A2)."""
    figure, (axes,) = page(1, 3, height=3.2, title=r"Posterior  $q(x_{t-1}\,|\,x_t,x_0)\ \propto\ q(x_t\,|\,x_{t-1})\ q(x_{t-1}\,|\,x_0)$")
    chain, x, line = Chain(linear_betas(40)), torch.tensor([[0.4]], dtype=F64), torch.linspace(-2, 2.6, 400, dtype=F64)
    data = torch.tensor([[1.5]], dtype=F64)
    for ax, step in zip(axes, (3, 10, 25), strict=True):
        k = torch.tensor([step])
        before, beta = chain.alpha_bar(k - 1), chain.beta(k)
        ends = chain.path().from_data(data, x, chain.time(k, x))
        ax.plot(line, normal(line, before.sqrt() * data, 1 - before), color=NOISE, label="$q(x_{t-1}|x_0)$")
        ax.plot(line, normal(line, x / (1 - beta).sqrt(), beta / (1 - beta)), color=RANDOM, label="$q(x_t|x_{t-1})$")
        ax.plot(line, normal(line, chain.posterior_mean(ends, x, k), chain.posterior_variance(k)), color=DATA, lw=2.4, label="posterior")
        ax.axvline(x.item(), color=INK, lw=0.8, ls=":")
        ax.axvline(data.item(), color=DATA, lw=0.8, ls=":")
        ax.set(title=f"step {step} of 40", xlabel="$x_{t-1}$")
        ax.set_yticks([])
    axes[0].legend(loc="upper left")
    for name, at in (("$x_t$", x), ("$x_0$", data)):
        axes[2].annotate(name, (at.item(), 0.88), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points")
    return figure


def normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """The density of N(mean, variance) at x."""
    return (torch.exp(-((x - mean) ** 2) / variance / 2) / (2 * math.pi * variance).sqrt()).flatten()


def bound(effort: Effort, rng: Generator) -> Figure:
    """Where the bound on the likelihood is lost, and that it closes as the steps get many (A3)."""
    figure, ((left, right),) = page(1, 2, height=3.6, title=r"Variational bound:  $L_T+\sum_t L_{t-1}+L_0\ \geq\ -\log p(x)$")
    cloud = ring()
    counts = [count for count in (25, 50, 100, 200, 400) if count <= 2 * effort.steps] or [25]
    for steps, colour in zip(counts[::2], SERIES, strict=False):
        terms = bound_terms(cloud, Chain(linear_betas(steps)), effort.points, rng)[1:-1]
        left.plot(torch.arange(2, steps + 1) / steps, terms * steps, color=colour, label=f"T = {steps}")
    left.set(xlabel="t / T", ylabel="$L_{t-1}$ x T, nats", yscale="log", title="terms, with the exact noise")
    left.legend()
    gaps = [bound_gap(cloud, count, effort.points, rng) for count in counts]
    right.plot(counts, gaps, "o-", color=DATA)
    right.set(xlabel="steps T", ylabel="bound $+\\ \\log p(x)$, nats", title="gap")
    logarithmic(right, counts)
    return figure


def bound_terms(cloud: Blobs, chain: Chain, count: int, rng: Generator) -> Tensor:
    """L_0, ..., L_T, each a mean over draws of data and noise."""
    data = cloud.draw(count, rng)
    predict = fixed_variance(chain, cloud.denoiser(chain.path()), lambda k: chain.log_variances(k)[1])
    steps = [step_term(chain, predict, data, torch.full((count,), k), normal_like(data, rng)).mean() for k in range(1, len(chain) + 1)]
    return torch.stack([*steps, prior_term(chain, data).mean()])


def bound_gap(cloud: Blobs, steps: int, count: int, rng: Generator) -> float:
    """The bound less -E log p."""
    entropy = -cloud.log_prob(VariancePreserving(), cloud.draw(20 * count, rng), 0.0).mean()
    return (bound_terms(cloud, Chain(linear_betas(steps)), count, rng).sum() - entropy).item()


def embeddings(effort: Effort, rng: Generator) -> Figure:
    """What a network is told about the time, and which times look alike to it (A9)."""
    figure, ((left, middle, right),) = page(1, 3, height=3.4, title="Encodings of the time")
    t = torch.linspace(0, 1, 240, dtype=F64)
    waves = Sinusoidal(64, longest=1e3, scale=100.0)
    left.imshow(waves(t).T.numpy(), aspect="auto", cmap="RdBu", extent=(0, 1, 64, 0), interpolation="nearest")
    left.set(title="sinusoidal features", xlabel="t", ylabel="feature")
    for fixed, colour in zip((0.25, 0.5, 0.75), SERIES, strict=False):
        middle.plot(t, waves(t) @ waves(torch.tensor([fixed], dtype=F64))[0] / 32, color=colour, lw=1.2, label=f"t' = {fixed:g}")
    middle.set(title="their products: of t - t' alone", xlabel="t", ylabel="<e(t), e(t')>", ylim=(0, 1.4))
    for count, colour in zip((64, 4096), SERIES[1:], strict=False):
        features = RandomFourier(count, bandwidth=8.0, rng=rng)
        right.plot(t, features(t) @ features(torch.tensor([0.5], dtype=F64))[0], color=colour, lw=1.2, label=f"{count // 2:,} frequencies")
    right.plot(t, torch.exp(-((8 * (t - 0.5)) ** 2) / 2), color=INK, ls="--", lw=1.2, label="expectation")
    right.set(title="random Fourier features, t' = 1/2", xlabel="t", ylim=(-0.2, 1.5))
    for ax in (middle, right):
        ax.legend(fontsize=8)
    return figure


EQUATIONS: dict[str, tuple[Path, float]] = {
    "VP:  $dx=-\\frac{1}{2}\\beta x\\,dt+\\sqrt{\\beta}\\,dw$": (VariancePreserving(), 1.0),
    "VE:  $dx=\\sqrt{d\\sigma^2/dt}\\,dw$": (VarianceExploding(), 3.0),
    "sub-VP:  $dx=-\\frac{1}{2}\\beta x\\,dt+\\sqrt{\\beta(1-e^{-2\\int\\beta})}\\,dw$": (SubVariancePreserving(), 1.0),
}


def equations(effort: Effort, rng: Generator) -> Figure:
    """Paths of the three forward equations from two data, with two standard deviations (B1, B2, B3)."""
    figure, (axes,) = page(1, 3, height=3.4, title="Forward stochastic differential equations")
    for ax, (name, (path, end)) in zip(axes, EQUATIONS.items(), strict=True):
        times = torch.linspace(0, end, 201, dtype=F64)
        alpha, sigma = path.alpha_sigma(times)
        for start, colour in ((1.5, DATA), (-1.5, RANDOM)):
            ways = transitions(path, times, torch.full((max(effort.lines // 8, 1), 1), start, dtype=F64), rng)
            ax.plot(times, ways[..., 0], color=colour, lw=0.7, alpha=0.7)
            ax.fill_between(times, alpha * start - 2 * sigma, alpha * start + 2 * sigma, color=colour, alpha=0.12, lw=0)
            ax.plot(times, alpha * start, color=colour, lw=2)
        reach = 1.5 + 2.4 * sigma[-1].item()
        ax.set_title(name, fontsize=9)
        ax.set(xlabel="t", ylim=(-reach, reach))
    axes[0].set_ylabel("x")
    return figure


def transitions(path: Path, times: Tensor, x: Tensor, rng: Generator) -> Tensor:
    """Forward paths [times, n, d] from x at times[0] = 0, by the exact law of x_s given x_t."""
    alpha, sigma = path.alpha_sigma(times)
    states = [x]
    for i in range(1, len(times)):
        kept = alpha[i] / alpha[i - 1]
        spread = (sigma[i] ** 2 - (kept * sigma[i - 1]) ** 2).clamp_min(0).sqrt()
        states.append(kept * states[-1] + spread * normal_like(x, rng))
    return torch.stack(states)


def grids(effort: Effort, rng: Generator) -> Figure:
    """Where 18 steps are put, and how EDM's sampler raises the noise a little before each (C8)."""
    figure, ((left, right),) = page(1, 2, height=3.8, title="Grids of noise levels, and churn")
    path, steps = VarianceExploding(), 18
    levels = {
        "uniform": uniform(steps, 80.0, 0.002),
        "quadratic": quadratic(steps, 80.0, 0.002),
        "Karras, rho = 7": karras(steps, 80.0, 0.002),
        "even in log SNR": log_snr(path, steps, 80.0, 0.002),
        "eased, straight path": levels_of(Linear(), eased(steps, 80 / 81, 0.002)),
    }
    for row, ((name, grid), colour) in enumerate(zip(levels.items(), SERIES, strict=False)):
        left.plot(grid, torch.full_like(grid, -row), "|", color=colour, ms=14, mew=1.8)
        left.text(0.0022, -row + 0.28, name, color=colour)
    left.set(xscale="log", xlim=(0.0015, 150), ylim=(-4.6, 0.8), xlabel=r"noise level $\sigma/\alpha$", title="18 steps from 80 to 0.002")
    left.set_yticks([])
    teeth = churned_levels(karras(steps, 80.0, 0.002), gamma=0.35, above=0.05)
    right.plot(torch.arange(len(teeth)) / 2, teeth, color=RANDOM, label="with churn")
    right.plot(torch.arange(steps + 1), karras(steps, 80.0, 0.002), "o--", color=DATA, ms=3, lw=1, label="without")
    right.set(yscale="log", xlabel="step", ylabel=r"noise level $\sigma$", title="EDM's stochastic sampler, gamma = 0.35")
    right.legend()
    return figure


def levels_of(path: Path, times: Tensor) -> Tensor:
    """sigma / alpha."""
    alpha, sigma = path.alpha_sigma(times)
    return sigma / alpha


def churned_levels(grid: Tensor, gamma: float, above: float) -> Tensor:
    """The level before and after each step's rise, as `Churn` plans it: t, t-hat, t, t-hat, ..., the last."""
    plan = Churn(Heun(), gamma=gamma, above=above, noise_scale=1.0).plan(VarianceExploding(), grid[:-1], grid[1:])
    return torch.cat([torch.stack([grid[:-1], plan.inner.t], 1).flatten(), grid[-1:]])


DENSITIES: dict[str, TimeSampler] = {
    "logit-normal(0, 1)": LogitNormal(),
    "mode, s = 1.29": Mode(1.29),
    "mode, s = -1": Mode(-1.0),
    "cosmap": CosMap(),
}


def densities(effort: Effort, rng: Generator) -> Figure:
    """From which times a flow is trained: densities and draws (F15)."""
    figure, (axes,) = page(1, 4, height=3.0, title="Densities of training times")
    t = torch.linspace(1e-3, 1 - 1e-3, 300, dtype=F64)
    for ax, (name, density), colour in zip(axes, DENSITIES.items(), SERIES, strict=False):
        ax.hist(density.draw(torch.empty(20 * effort.points, 1), rng).numpy(), bins=50, range=(0, 1), density=True, color=PALE)
        ax.plot(t, density.log_density(t).exp(), color=colour, lw=2)
        ax.set(title=name, xlabel="t", xlim=(0, 1), ylim=(0, 3))
    axes[0].set_ylabel("density")
    return figure
