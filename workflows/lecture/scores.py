"""Pictures of scores and of the equations that follow them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor

from structgen.generative import (
    RK4,
    AnnealedLangevin,
    Corrected,
    Ddim,
    Denoiser,
    Endpoints,
    EulerMaruyama,
    Heun,
    Linear,
    Path,
    ReadNoise,
    RungeKutta,
    ScoreMatching,
    Solver,
    Uniform,
    VarianceExploding,
    VariancePreserving,
    langevin,
    log_likelihood,
    normal_like,
    sample,
    sign_probes,
)
from structgen.generative.score_matching import Explicit, ScoreLoss, Sliced, denoising, implicit
from structgen.generative.times import log_snr, quadratic
from structgen.generative.weights import Constant
from workflows.lecture.drawing import (
    DATA,
    INK,
    NOISE,
    PALE,
    RANDOM,
    RIGHT,
    SERIES,
    SHADES,
    SURE,
    WRONG,
    arrows,
    contours,
    dots,
    mesh,
    page,
    plane,
    shade,
    strands,
)
from workflows.lecture.learning import Perceptron, trained
from workflows.lecture.sets import F64, Blobs, Effort, moons, ring, three, walk

LEVEL = 0.35  # of the noise at which scores are fitted


def field(effort: Effort, rng: Generator) -> Figure:
    """The score at three noise levels: arrows to where data becomes likelier (B5)."""
    figure, (axes,) = page(1, 3, height=3.7, title=r"Score  $\nabla_x\log p_\sigma(x)$")
    path, cloud = VarianceExploding(), three()
    for ax, sigma in zip(axes, (0.1, 0.5, 1.5), strict=True):
        shade(plane(ax, rf"$\sigma$ = {sigma:g}"), partial(cloud.density_at, path, t=sigma))
        arrows(ax, partial(cloud.score, path, t=sigma))
    return figure


def matching(effort: Effort, rng: Generator) -> Figure:
    """Four ways to fit a score, each by a small network; the error is relative, where data is (B5, B6, B7, B8)."""
    figure, (axes,) = page(1, 4, height=3.2, title=rf"Score matching at $\sigma$ = {LEVEL:g}")
    cloud = three()
    ways: dict[str, ScoreLoss] = {
        "explicit": Explicit(partial(truth, cloud)),
        "implicit": implicit,
        "sliced": Sliced(),
        "denoising": denoising,
    }
    for ax, (name, loss) in zip(axes, ways.items(), strict=True):
        score = fitted(cloud, loss, effort.updates // 2, rng)
        x = cloud.state(VarianceExploding(), LEVEL, 2000, rng)
        exact = cloud.score(VarianceExploding(), x, LEVEL)
        error = ((score(x) - exact).norm() / exact.norm()).item()
        shade(plane(ax, name, below=f"error {error:.0%}"), partial(cloud.density_at, VarianceExploding(), t=LEVEL))
        arrows(ax, score)
    return figure


def truth(cloud: Blobs, x: Tensor, t: Tensor) -> Tensor:
    """The true score, in the type of x."""
    path = VarianceExploding()
    return path.score(cloud.denoise(path, x.double(), t.double()), t.double()).to(x)


def fitted(cloud: Blobs, loss: ScoreLoss, updates: int, rng: Generator) -> Callable[[Tensor], Tensor]:
    """A score at LEVEL, learned from draws alone (but for the explicit loss)."""
    path = VarianceExploding()
    objective = ScoreMatching(path, Uniform(0.999 * LEVEL, LEVEL), Constant(), loss)
    network = Denoiser(Perceptron(2, 1, rng, width=64), path, ReadNoise())
    denoise = trained(network, objective, lambda count: cloud.draw(count, rng), updates, rng, rate=4e-3)

    def score(x: Tensor) -> Tensor:
        at = x.new_full((len(x),), LEVEL)
        return path.score(denoise(x, at, at), at)

    return score


def chains(effort: Effort, rng: Generator) -> Figure:
    """Langevin chains on two modes of weight 0.8 and 0.2: plain ones stay where they start, annealed ones find the weights (B9, B10)."""
    figure, (axes,) = page(1, 4, height=3.2, title="Langevin dynamics, from uniform starts")
    path, reach = VarianceExploding(), 4.5
    centre = torch.tensor([2.2, 2.2], dtype=F64)
    cloud = Blobs(torch.tensor([0.8, 0.2], dtype=F64), torch.stack([-centre, centre]), torch.full((2,), 0.6, dtype=F64))
    start = 2 * reach * (torch.rand(effort.points, 2, generator=rng, dtype=F64) - 0.5)
    plain = langevin(partial(cloud.score, path, t=1e-3), start, step=0.02, count=2 * effort.steps, rng=rng)
    levels = [*torch.logspace(1.0, math.log10(0.3), 20, dtype=F64).tolist(), 0.0]
    annealed = sample(path, cloud.denoiser(path), AnnealedLangevin(size=0.03, count=effort.steps // 4 + 1), levels, start, rng)
    shown = {"data": cloud.draw(effort.points, rng), "starts": start, "plain Langevin": plain, "annealed Langevin": annealed}
    for ax, (name, x), colour in zip(axes, shown.items(), (DATA, NOISE, WRONG, RIGHT), strict=True):
        share = (x.sum(1) < 0).double().mean().item()
        dots(plane(ax, name, reach, f"heavy mode: {share:.0%}"), x, colour)
    return figure


def reverse(effort: Effort, rng: Generator) -> Figure:
    """The reverse equation wanders, the probability flow does not, and at every time both have the law of the forward process (B4, B11)."""
    figure, ((left, right), (below, beside)) = page(2, 2, height=6.6, title="One coordinate over time, and in the plane")
    path, line, cloud = VariancePreserving(), three().coordinate(0), three()
    grid, late = log_snr(path, effort.steps, 0.999, 1e-3), log_snr(path, effort.steps, 0.4, 1e-3)
    starts = cloud.state(path, 0.4, 5, rng)
    for top, low, name, solver, colour in (
        (left, below, "reverse SDE", EulerMaruyama(), RANDOM),
        (right, beside, "probability flow ODE", RungeKutta(RK4), SURE),
    ):
        over_time(top, line, path)
        x = torch.linspace(-1.8, 1.8, max(effort.lines // 4, 2), dtype=F64)[:, None]
        top.plot(grid, walk(path, line.denoiser(path), solver, grid, x, rng)[..., 0], color=colour, lw=1)
        top.set(title=name, xlabel="t  (0: data, 1: noise)", ylabel="x")
        contours(plane(low, below="the same five starts, from t = 0.4"), cloud.density)
        strands(low, walk(path, cloud.denoiser(path), solver, late, starts, rng), SERIES[:5], 1.0)
    return figure


def over_time(ax: Axes, line: Blobs, path: Path, reach: float = 2.6) -> None:
    """The density of one coordinate at every time, as shades."""
    x = torch.linspace(-reach, reach, 120, dtype=F64)
    columns = [line.log_prob(path, x[:, None], t).exp().sqrt() for t in torch.linspace(0, 1, 120).tolist()]
    shades = torch.stack(columns, 1).numpy()
    ax.imshow(shades, origin="lower", extent=(0, 1, -reach, reach), cmap=SHADES, aspect="auto", interpolation="bilinear")
    ax.set(xlim=(0, 1), ylim=(-reach, reach))


def family(effort: Effort, rng: Generator) -> Figure:
    """Equations with a share 1 - lambda of the noise: other ways, the same law (B13)."""
    shares = (0.0, 0.5, 0.9, 1.0)
    title = r"$dx=[f-(1-\lambda/2)\,g^2 s]\,dt+\sqrt{1-\lambda}\,g\,d\bar w$:  four ways from one state at t = 0.3, and samples"
    figure, (above, below) = page(2, len(shares), height=5.2, title=title)
    path, cloud = VariancePreserving(), ring()
    whole, late = log_snr(path, effort.steps, 0.999, 1e-3), log_snr(path, effort.steps, 0.3, 1e-3)
    start, many = torch.full((4, 2), 0.35, dtype=F64), normal_like(torch.empty(effort.points, 2, dtype=F64), rng)
    for top, low, lam in zip(above, below, shares, strict=True):
        contours(plane(top, rf"$\lambda$ = {lam:g}"), cloud.density)
        strands(top, walk(path, cloud.denoiser(path), EulerMaruyama(lam), late, start, rng), SERIES[:4], 1.0)
        dots(plane(low), sample(path, cloud.denoiser(path), EulerMaruyama(lam), whole, many, rng), SURE if lam == 1 else RANDOM, size=4)
    return figure


def corrector(effort: Effort, rng: Generator) -> Figure:
    """A score that is 10 % wrong: Langevin steps after each step of the probability flow repair part of it (B14)."""
    figure, (axes,) = page(1, 4, height=3.2, title="Predictor and corrector, 60 evaluations each; the score is 10 % too weak or too strong")
    cloud = ring()
    cases = [(factor, corrected) for factor in (0.9, 1.1) for corrected in (False, True)]
    for ax, (factor, corrected) in zip(axes, cases, strict=True):
        x = from_wrong_score(cloud, factor, corrected, effort.points, rng)
        name = f"score x {factor:g}, " + ("corrected" if corrected else "alone")
        dots(plane(ax, name, below=f"modes off by {cloud.misfit(x):.3f}"), x, RIGHT if corrected else WRONG)
    return figure


def from_wrong_score(cloud: Blobs, factor: float, corrected: bool, count: int, rng: Generator) -> Tensor:
    """Samples of 60 evaluations from a score that is `factor` times the true one."""
    path = VarianceExploding()

    def wrong(x: Tensor, t: Tensor, s: Tensor) -> Endpoints:
        return path.from_noise(factor * cloud.denoise(path, x, t).noise, x, t)

    solver: Solver = Corrected(Ddim(), count=1, snr=0.25) if corrected else Ddim()
    x = 50 * normal_like(torch.empty(count, 2, dtype=F64), rng)
    return sample(path, wrong, solver, log_snr(path, 30 if corrected else 60, 50.0, 0.02), x, rng)


def likelihood(effort: Effort, rng: Generator) -> Figure:
    """The density by the change of variables along the flow, with the exact trace and with one random probe (B12)."""
    figure, ((left, middle, right, last),) = page(1, 4, height=3.2, title=r"Likelihood:  $\log p_0(x)=\log p_T(x_T)+\int\nabla\cdot v\,dt$")
    path, cloud, count, reach = Linear(), moons(), 12 + effort.lines, 2.4
    x = mesh(reach, count)
    times = quadratic(max(effort.steps // 4, 4), 1.0, 2e-3).flip(0)
    known = cloud.log_prob(path, x, 0.0)
    probes = sign_probes(x, 1, rng)
    with torch.no_grad():
        exact = log_likelihood(path, cloud.denoiser(path), Heun(), times, x, rng)
        guess = log_likelihood(path, cloud.denoiser(path), Heun(), times, x, rng, divergence=probes)
    for ax, values, name in ((left, known, "known density"), (middle, exact, "exact trace"), (right, guess, "one random probe")):
        drawn = (values.exp().clamp_max(1.2 * known.exp().max().item()).sqrt()).reshape(count, count)
        plane(ax, name).imshow(drawn.numpy(), origin="lower", extent=(-reach, reach, -reach, reach), cmap=SHADES, interpolation="bilinear")
    near = known > known.max() - 6
    last.scatter(known[near], guess[near], s=3, color=PALE, linewidths=0, label="one probe")
    last.scatter(known[near], exact[near], s=3, color=DATA, linewidths=0, label="exact trace")
    last.plot(*[[known[near].min(), known[near].max()]] * 2, color=INK, lw=0.8, ls=":")
    last.set(title="nats", xlabel="known log p", ylabel="of the flow")
    last.legend(markerscale=2)
    return figure
