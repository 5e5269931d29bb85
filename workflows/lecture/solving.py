"""Pictures of solvers of the probability flow."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from structgen.generative import (
    MIDPOINT,
    RK4,
    DataInLogSnr,
    Ddim,
    DpmPlusPlus2M,
    DpmSingle2,
    DpmSingle3,
    Endpoints,
    Euler,
    Heun,
    Linear,
    NoiseInLogSnr,
    Path,
    RungeKutta,
    Solver,
    Tolerance,
    VariancePreserving,
    adams,
    deis,
    dpm_multistep,
    normal_like,
    sample,
    sample_adaptive,
    unipc,
)
from structgen.generative.times import at_noise_levels, karras, log_snr
from workflows.lecture.drawing import DATA, INK, RIGHT, SERIES, WRONG, contours, logarithmic, page, plane
from workflows.lecture.sets import F64, Blobs, Effort, ring, three, walk

NOISE, DATA_RULE = NoiseInLogSnr(), DataInLogSnr()
FAMILIES: dict[str, dict[str, tuple[Solver, int]]] = {  # solver and evaluations a step
    "Runge-Kutta": {
        "Euler": (Euler(), 1),
        "midpoint": (RungeKutta(MIDPOINT), 2),
        "Heun (EDM)": (Heun(), 2),
        "RK4": (RungeKutta(RK4), 4),
    },
    "DPM-Solver": {
        "1 = DDIM": (Ddim(), 1),
        "2, single step": (DpmSingle2(NOISE), 2),
        "++ 2M": (DpmPlusPlus2M(), 1),
        "++ 3, single step": (DpmSingle3(DATA_RULE), 3),
        "3, multistep": (dpm_multistep(3), 1),
    },
    "other multistep": {
        "DEIS 2": (deis(2), 1),
        "DEIS 3": (deis(3), 1),
        "UniPC 3": (unipc(3), 1),
        "Adams 4": (adams(4), 1),
    },
}
COUNTS = (12, 24, 48, 96, 192, 384)


def solvers(effort: Effort, rng: Generator) -> Figure:
    """Error against evaluations: the slope is the order, and no solver has a floor (C1, C2, C3, C4, C5, C6, C7)."""
    figure, (axes,) = page(1, 3, height=4.4, title="Solvers of the probability flow: error of the end point")
    cloud, path = ring(), VariancePreserving()
    x = normal_like(torch.empty(effort.lines * 2, 2, dtype=F64), rng)
    exact = end(cloud, path, RungeKutta(RK4), 8 * effort.steps, x, rng)
    counts = [count for count in COUNTS if count <= 2 * effort.steps]
    for ax, (family, members) in zip(axes, FAMILIES.items(), strict=True):
        for (name, (solver, cost)), colour in zip(members.items(), SERIES, strict=False):
            errors = [error(end(cloud, path, solver, count // cost, x, rng), exact) for count in counts]
            ax.plot(counts, errors, "o-", color=colour, ms=4, label=name)
        for order in (1, 2, 3, 4):
            ax.plot(COUNTS, [0.5 * (12 / count) ** order for count in COUNTS], color=INK, lw=0.6, ls=":")
        ax.set(xlabel="evaluations", title=family, ylim=(1e-8, 1))
        logarithmic(ax, COUNTS)
        ax.legend(loc="lower left", fontsize=8)
    axes[0].set_ylabel("median error (dotted: orders 1, 2, 3, 4)")
    return figure


def end(cloud: Blobs, path: Path, solver: Solver, steps: int, x: Tensor, rng: Generator) -> Tensor:
    """Where a solver takes x in steps that are even in log-SNR."""
    return sample(path, cloud.denoiser(path), solver, log_snr(path, steps, 0.99, 1e-3), x, rng)


def error(x: Tensor, exact: Tensor) -> float:
    """The median of the distances."""
    return max((x - exact).norm(dim=1).median().item(), 1e-16)


FEW: dict[str, tuple[Solver, int]] = {  # twelve evaluations each
    "Euler": (Euler(), 12),
    "Heun": (Heun(), 6),
    "RK4": (RungeKutta(RK4), 3),
    "DDIM": (Ddim(), 12),
    "DPM-Solver++ 2M": (DpmPlusPlus2M(), 12),
}


def steps(effort: Effort, rng: Generator) -> Figure:
    """Twelve evaluations each: where the steps of five solvers go, beside the flow itself (C2, C3, C7)."""
    figure, (axes,) = page(1, len(FEW), height=2.9, title="Twelve evaluations from the same starts; grey: the exact flow")
    cloud, path = three(), VariancePreserving()
    angle = torch.linspace(0, 2 * math.pi, 9, dtype=F64)[:-1] + 0.2
    x = 2.1 * torch.stack([angle.cos(), angle.sin()], 1)
    fine = walk(path, cloud.denoiser(path), RungeKutta(RK4), log_snr(path, effort.steps, 0.99, 1e-3), x, rng)
    for ax, (name, (solver, count)) in zip(axes, FEW.items(), strict=True):
        ways = walk(path, cloud.denoiser(path), solver, log_snr(path, count, 0.99, 1e-3), x, rng)
        plane(ax, name, below=f"error {error(ways[-1], fine[-1]):.3f}")
        contours(ax, cloud.density)
        ax.plot(fine[..., 0], fine[..., 1], color="#b4bdc5", lw=3)
        ax.plot(ways[..., 0], ways[..., 1], "o-", color=DATA, lw=1, ms=2.5)
    return figure


def adaptive(effort: Effort, rng: Generator) -> Figure:
    """Steps as long as a tolerance allows: where they are short, and what the tolerance buys (C7)."""
    figure, ((left, middle, right),) = page(1, 3, height=3.5, title="Adaptive steps (Dormand and Prince), landing exactly on the end")
    cloud, path = ring(), Linear()
    x = 0.97 * normal_like(torch.empty(1, 2, dtype=F64), rng)
    for tolerance, colour in ((1e-3, SERIES[0]), (1e-5, SERIES[1]), (1e-7, SERIES[2])):
        ends, _, _ = controlled(cloud, path, x, tolerance)
        left.step(ends[:-1], -torch.tensor(ends).diff(), where="post", color=colour, label=f"tolerance {tolerance:g}")
    left.set(xlabel="t", ylabel="length of the step", yscale="log", title="one trajectory")
    left.legend(fontsize=8)
    many = 0.97 * normal_like(torch.empty(effort.lines, 2, dtype=F64), rng)
    _, exact, _ = controlled(cloud, path, many, 1e-11)
    tolerances = [10.0**-k for k in range(2, 9 if effort.steps > 50 else 4)]
    results = [controlled(cloud, path, many, tolerance) for tolerance in tolerances]
    middle.plot(tolerances, [error(found, exact) for _, found, _ in results], "o-", color=RIGHT)
    middle.plot(tolerances, tolerances, color=INK, lw=0.8, ls=":")
    middle.set(xscale="log", yscale="log", xlabel="tolerance", title="median error (dotted: the tolerance)")
    right.plot(tolerances, [calls for *_, calls in results], "o-", color=WRONG)
    right.set(xscale="log", xlabel="tolerance", title="evaluations", ylim=(0, None))
    return figure


def controlled(cloud: Blobs, path: Path, x: Tensor, tolerance: float) -> tuple[list[float], Tensor, int]:
    """The times between the accepted steps, the end, and the number of evaluations, from t = 0.97 to 0.001."""
    times, calls = [0.97], 0

    def denoise(x: Tensor, t: Tensor, s: Tensor) -> Endpoints:
        nonlocal calls
        calls += 1
        return cloud.denoise(path, x, t)

    limits = Tolerance(tolerance, tolerance)
    found = sample_adaptive(path, denoise, 0.97, 1e-3, x, tolerance=limits, on_step=lambda t, s: times.append(s))
    return times, found, calls


def straight(effort: Effort, rng: Generator) -> Figure:
    """The midpoint rule on the path of optimal transport and on the diffusion path: the same error for fewer evaluations (E10)."""
    figure, ((left, middle, right),) = page(1, 3, height=3.7, title="Midpoint rule with even steps in t, on two paths")
    cloud = ring()
    for ax, (name, path), colour in zip((left, middle), STRAIGHT.items(), SERIES, strict=False):
        x = 0.999 * normal_like(torch.empty(effort.lines, 2, dtype=F64), rng)
        fine = at_noise_levels(path, karras(2 * effort.steps, level(path), LAST))
        exact = sample(path, cloud.denoiser(path), RungeKutta(RK4), fine, x, rng)
        ways = walk(path, cloud.denoiser(path), RungeKutta(MIDPOINT), evenly(path, 8), x, rng)
        contours(plane(ax, f"{name}: 8 steps", below=f"median error {error(ways[-1], exact):.3f}"), cloud.density)
        ax.plot(ways[..., 0], ways[..., 1], "o-", color=colour, lw=0.6, ms=1.8)
        counts = [count for count in (4, 8, 16, 32, 64, 128, 256) if count <= 2 * effort.steps]
        errors = [error(sample(path, cloud.denoiser(path), RungeKutta(MIDPOINT), evenly(path, n), x, rng), exact) for n in counts]
        right.plot([2 * n for n in counts], errors, "o-", color=colour, ms=4, label=name)
    right.axhline(1e-3, color=INK, lw=0.8, ls=":")
    right.set(xlabel="evaluations", title="median error")
    logarithmic(right, [2 * n for n in counts])
    right.legend()
    return figure


STRAIGHT: dict[str, Path] = {"optimal transport": Linear(), "diffusion (VP)": VariancePreserving()}
FIRST, LAST = 0.999, 1e-3


def level(path: Path) -> float:
    """sigma / alpha at the first time."""
    alpha, sigma = path.alpha_sigma(torch.tensor([FIRST], dtype=F64))
    return (sigma / alpha).item()


def evenly(path: Path, steps: int) -> Tensor:
    """Even steps in t from FIRST to where the noise level is LAST, as the exact end has it."""
    stop = at_noise_levels(path, torch.tensor([LAST], dtype=F64)).item()
    return torch.linspace(FIRST, stop, steps + 1, dtype=F64)
