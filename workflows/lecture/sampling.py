"""Pictures of sampling: DDPM, DDIM, guidance, and what can be done with noise. All with the exact denoiser of a mixture."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from structgen.generative import (
    RK4,
    Ancestral,
    Chain,
    Ddim,
    Denoise,
    Heun,
    Linear,
    Path,
    RungeKutta,
    VarianceExploding,
    VariancePreserving,
    classifier,
    linear_betas,
    normal_like,
    sample,
    slerp,
)
from structgen.generative.times import log_snr, then_data, uniform
from workflows.lecture.drawing import (
    DATA,
    INK,
    RANDOM,
    RIGHT,
    SURE,
    WRONG,
    circle,
    coloured,
    contours,
    dots,
    logarithmic,
    page,
    plane,
    shade,
)
from workflows.lecture.sets import F64, Blobs, Effort, moons, ring, sliced_w2, spiral, three, walk


def noise(count: int, rng: Generator) -> Tensor:
    """Standard normal states [count, 2]."""
    return normal_like(torch.empty(count, 2, dtype=F64), rng)


def to_data(path: Path, steps: int) -> Tensor:
    """A grid from the noisy end to t = 0, even in log-SNR but for the last step."""
    return then_data(log_snr(path, steps - 1, path.end, 1e-3)) if steps > 1 else torch.tensor([path.end, 0.0], dtype=F64)


def ancestral(effort: Effort, rng: Generator) -> Figure:
    """DDPM's sampler step by step, and what the lecture's misprint does to it (A5)."""
    figure, (above, below) = page(2, 5, height=4.6, title="Ancestral sampling (Algorithm 2), 1,000 steps, from noise to data")
    cloud, shown = spiral(), (0, 600, 850, 950, 1000)
    for axes, right, colour in ((above, True, DATA), (below, False, WRONG)):
        states = algorithm_2(cloud, effort.points // 2, right, rng)
        for ax, k in zip(axes, shown, strict=True):
            dots(plane(ax, f"t = {1000 - k}" if right else "", reach=3.0), states[k], colour, size=4)
    above[0].set_ylabel(r"with $\alpha_t$")
    below[0].set_ylabel(r"as printed, with $\bar\alpha_t$")
    return figure


def algorithm_2(cloud: Blobs, count: int, right: bool, rng: Generator) -> Tensor:
    """The states [1001, count, 2] of DDPM's sampler: with alpha, or literally as the lecture prints it, with alpha-bar in its place."""
    chain = Chain(linear_betas(1000))
    path = chain.path()
    if right:
        grid = torch.arange(1000, -1, -1, dtype=F64) / 1000
        return walk(path, cloud.denoiser(path), Ancestral(1.0), grid, noise(count, rng), rng)
    states = [noise(count, rng)]
    for k in range(1000, 0, -1):
        at, x = torch.tensor([k]), states[-1]
        bar, beta = chain.alpha_bar(at), chain.beta(at)
        guess = cloud.denoise(path, x, chain.time(at, x).expand(count)).noise
        x = (x - (1 - bar) / (1 - bar).sqrt() * guess) / bar.sqrt()
        states.append(x + beta.sqrt() * noise(count, rng) if k > 1 else x)
    return torch.stack(states)


def ddim(effort: Effort, rng: Generator) -> Figure:
    """DDIM needs few steps where ancestral sampling needs many (A14, C2)."""
    counts = (4, 8, 16, 32, 128)
    figure, rows = page(2, len(counts), height=4.6, title="DDIM against ancestral sampling (W: sliced Wasserstein distance to data)")
    path, cloud = VariancePreserving(), moons()
    for axes, eta, colour in zip(rows, (0.0, 1.0), (SURE, RANDOM), strict=True):
        for ax, steps in zip(axes, counts, strict=True):
            x = sample(path, cloud.denoiser(path), Ddim(eta), to_data(path, steps), noise(effort.points, rng), rng)
            distance = sliced_w2(x, cloud.draw(effort.points, rng))
            dots(plane(ax, f"{steps} steps" if eta == 0 else "", below=f"W = {distance:.2f}"), x, colour, size=4)
    rows[0][0].set_ylabel(r"DDIM, $\tilde\sigma=0$")
    rows[1][0].set_ylabel(r"DDPM's $\tilde\sigma$")
    return figure


def interpolation(effort: Effort, rng: Generator) -> Figure:
    """Between two draws of noise along the arc and along the line, and what DDIM makes of both (A15)."""
    figure, ((left, middle, right),) = page(1, 3, height=3.7, title="Interpolation in the space of noise")
    path, cloud, count = VariancePreserving(), ring(), 41
    ends = torch.tensor([[1.5, 0.6], [-1.2, 1.1]], dtype=F64)
    shares = torch.linspace(0, 1, count, dtype=F64)
    x, y = ends[:1].expand(count, 2), ends[1:].expand(count, 2)
    circle(plane(left, "noise $x_T$"), ends.norm(dim=1).mean().item())
    shade(plane(middle, "images $x_0$"), cloud.density)
    for name, states, colour in (("lerp", torch.lerp(x, y, shares[:, None]), WRONG), ("slerp", slerp(x, y, shares), RIGHT)):
        image = sample(path, cloud.denoiser(path), Ddim(), to_data(path, effort.steps), states, rng)
        for ax, points in ((left, states), (middle, image)):
            ax.plot(*points.T.numpy(), "-o", color=colour, lw=1, ms=2.5, label=name)
    lengths = 2 ** torch.arange(1, 11)
    middle.legend(loc="lower left")
    for name, colour in (("slerp", RIGHT), ("lerp", WRONG)):
        right.plot(lengths, [middle_length(name, d, rng) for d in lengths.tolist()], color=colour, label=name)
    right.set(title="length of the middle over that of noise", xlabel="dimensions", ylim=(0, 1.3), xscale="log")
    right.axhline(math.sqrt(0.5), color=INK, lw=0.8, ls=":")
    right.text(2.1, math.sqrt(0.5) - 0.09, r"$\sqrt{1/2}$")
    right.legend(loc="lower right")
    return figure


def middle_length(name: str, dimensions: int, rng: Generator) -> float:
    """|the middle of two draws of noise| / sqrt(dimensions), mean of 20."""
    x, y = (normal_like(torch.empty(20, dimensions, dtype=F64), rng) for _ in range(2))
    half = torch.full((20,), 0.5, dtype=F64)
    middle = slerp(x, y, half) if name == "slerp" else (x + y) / 2
    return (middle.norm(dim=1).mean() / (x.norm(dim=1) + y.norm(dim=1)).mean() * 2).item()


def inversion(effort: Effort, rng: Generator) -> Figure:
    """Data to noise and back with the same steps (A16)."""
    figure, ((left, middle, back, right),) = page(1, 4, height=3.1, title="DDIM inversion")
    cloud = ring()
    data = cloud.draw(effort.points, rng)
    colours = coloured(cloud.owner(data))
    there, again = inverted(cloud, data, 20, Ddim(), rng)
    for ax, x, title in ((left, data, "data"), (middle, there, "$x_T$, 20 steps up"), (back, again, "20 steps back")):
        dots(plane(ax, title, reach=3.0), x, colours, size=5)
    counts = (10, 20, 40, 80, 160)
    for name, solver, colour in (("DDIM", Ddim(), SURE), ("Heun", Heun(), RIGHT)):
        lost = [(inverted(cloud, data[:60], n, solver, rng)[1] - data[:60]).square().mean(1).sqrt().median().item() for n in counts]
        right.plot(counts, lost, "o-", color=colour, label=name, ms=4)
    right.set(xlabel="steps each way", title="error, median")
    logarithmic(right, counts)
    right.legend()
    return figure


def inverted(cloud: Blobs, data: Tensor, steps: int, solver: Ddim | Heun, rng: Generator) -> tuple[Tensor, Tensor]:
    """x_T of the data, and the data made of it again."""
    path = VariancePreserving()
    grid = log_snr(path, steps, 1.0, 1e-3)
    alpha, _ = path.alpha_sigma(grid[-1:])
    there = sample(path, cloud.denoiser(path), solver, grid.flip(0), alpha * data, rng)
    return there, sample(path, cloud.denoiser(path), solver, grid, there, rng) / alpha


BENDING: dict[str, tuple[Path, float]] = {
    "VP": (VariancePreserving(), 1.0),
    "EDM (VE)": (VarianceExploding(), 10.0),
    "straight": (Linear(), 0.999),
}


def curvature(effort: Effort, rng: Generator) -> Figure:
    """The same flow on three paths, in one coordinate; the tangent of EDM's points to the denoiser's output (A17)."""
    figure, (axes,) = page(1, 3, height=3.9, title="How trajectories bend, from noise (right) to data (left)")
    cloud, count = three().coordinate(1), max(effort.lines // 2, 4)
    for ax, (name, (path, start)) in zip(axes, BENDING.items(), strict=True):
        grid = uniform(effort.steps, start, 1e-3 * start)
        x = torch.linspace(-2.2, 2.2, count, dtype=F64)[:, None] * torch.stack(path.alpha_sigma(grid[:1])).norm()
        states = walk(path, cloud.denoiser(path), RungeKutta(RK4), grid, x, rng)
        ax.plot(grid, states[..., 0], color=SURE, lw=0.8)
        k = int(0.65 * effort.steps)
        for row in (1, count // 2, count - 2):
            at, state = grid[k].reshape(1), states[k, row : row + 1]
            ends = cloud.denoise(path, state, at)
            ax.plot([at.item(), 0], [state.item(), (state - at * path.velocity(ends, at)).item()], color=WRONG, lw=1.5)
            ax.plot(0, ends.data.item(), "o", color=RIGHT, ms=5)
        reach = 3.6 if start < 2 else 8.0
        ax.set(title=name, xlabel="t", ylim=(-reach, reach))
    axes[0].set_ylabel("x")
    axes[0].plot([], [], color=WRONG, label="tangent")
    axes[0].plot([], [], "o", color=RIGHT, label="denoiser's output")
    axes[0].legend(loc="lower right")
    return figure


def guidance(effort: Effort, rng: Generator) -> Figure:
    """Guidance towards one of three classes that overlap, by its weight w (A11, A12)."""
    weights = (0.0, 1.0, 2.0, 5.0)
    figure, rows = page(1, len(weights), height=3.2, title="Guidance: unconditional + w (conditional - unconditional)")
    path, cloud = VariancePreserving(), three()
    wide = Blobs(cloud.weights, cloud.means * 0.75, cloud.stds * 1.6)
    for ax, w in zip(rows[0], weights, strict=True):
        x = sample(path, guided(wide, path, w), Ddim(), to_data(path, effort.steps // 2), noise(effort.points, rng), rng)
        contours(plane(ax, f"w = {w:g}"), wide.density)
        dots(ax, x, coloured(wide.owner(x)), size=5)
    return figure


def guided(cloud: Blobs, path: Path, weight: float) -> Denoise:
    """The exact denoiser, guided towards component 0 by its exact classifier: the same as guidance without one."""

    def log_probability(x: Tensor, t: Tensor) -> Tensor:
        return cloud.shares(path, x, t)[:, 0].log()

    return classifier(path, cloud.denoiser(path), log_probability, weight)
