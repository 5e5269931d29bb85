"""Pictures of flow matching: conditional paths, couplings, straightness."""

from __future__ import annotations

from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from structgen.generative import (
    RK4,
    Coupling,
    Endpoints,
    Independent,
    Linear,
    OptimalTransport,
    Path,
    RungeKutta,
    Sinkhorn,
    VariancePreserving,
    normal_like,
)
from structgen.generative.times import uniform
from workflows.lecture.drawing import DATA, NOISE, PALE, RIGHT, SERIES, WRONG, arrows, contours, dots, page, pairs, plane, strands
from workflows.lecture.sets import F64, Blobs, Effort, moons, three, walk

CONDITIONAL: dict[str, Path] = {"optimal transport path": Linear(), "diffusion path (VP)": VariancePreserving()}


def conditional(effort: Effort, rng: Generator) -> Figure:
    """The conditional field towards one datum: straight on the path of optimal transport, turning on the diffusion path (E3, E4, E5)."""
    figure, rows = page(2, 4, height=5.4, title=r"Conditional vector field $u_t(x\,|\,x_{data})$ and its flow (t = 1: noise, 0: data)")
    point = Blobs(torch.ones(1, dtype=F64), torch.tensor([[1.1, 0.8]], dtype=F64), torch.full((1,), 0.05, dtype=F64))
    starts = normal_like(torch.empty(max(effort.lines // 2, 2), 2, dtype=F64), rng)
    for axes, (name, path), colour in zip(rows, CONDITIONAL.items(), SERIES, strict=False):
        for ax, t in zip(axes, (0.9, 0.5, 0.2), strict=False):
            arrows(plane(ax, f"t = {t:g}"), partial(velocity, point, path, t=t), colour, count=13)
            contours(ax, partial(point.density_at, path, t=t))
        ways = walk(path, point.denoiser(path), RungeKutta(RK4), uniform(effort.steps, 0.999, 1e-3), starts, rng)
        strands(plane(axes[3], "trajectories"), ways, colour)
        axes[0].set_ylabel(name)
    return figure


def velocity(cloud: Blobs, path: Path, x: Tensor, t: float) -> Tensor:
    """Towards data: minus the velocity of the path, whose time runs to noise."""
    at = x.new_full((len(x),), t)
    return -path.velocity(cloud.denoise(path, x, at), at)


def marginal(effort: Effort, rng: Generator) -> Figure:
    """The lines of many pairs cross; their mean velocity at a place is a flow, which does not (E2)."""
    figure, ((left, middle, right, last),) = page(1, 4, height=3.2, title="Flow matching: the velocities of lines, and their mean")
    path, cloud = Linear(), three()
    ends = Endpoints(cloud.draw(4 * effort.lines, rng), normal_like(torch.empty(4 * effort.lines, 2, dtype=F64), rng))
    shown = slice(effort.lines)
    pairs(plane(left, "pairs of noise and data"), ends.noise[shown], ends.data[shown])
    place, t = torch.tensor([[0.5, -0.45]], dtype=F64), 0.5
    passing = through(cloud, path, place, t, effort.points * 40, rng)
    pairs(plane(middle, f"lines through one place, t = {t:g}"), passing.noise[shown], passing.data[shown])
    mean = velocity(cloud, path, place, t)[0]
    average = (passing.data - passing.noise).mean(0)
    for vector, colour, width in ((mean, RIGHT, 0.03), (average, WRONG, 0.012)):
        middle.arrow(*place[0].tolist(), *vector.tolist(), color=colour, width=width, head_width=0.14, length_includes_head=True, zorder=4)
    middle.set_xlabel("green: exact mean, red: of draws")
    ways = walk(path, cloud.denoiser(path), RungeKutta(RK4), uniform(effort.steps, 1.0, 1e-3), ends.noise[shown], rng)
    strands(plane(right, "the flow of the mean"), ways)
    shares = torch.linspace(0, 2, 21, dtype=F64)
    whole, joint = losses(cloud, path, shares, 20 * effort.points, rng)
    last.plot(shares, joint, color=WRONG, label="conditional (CFM)")
    last.plot(shares, whole, color=RIGHT, label="marginal (FM)")
    last.plot(shares, joint - whole, color=PALE, ls="--", label="difference")
    last.set(xlabel=r"$\theta$ of  $v_\theta=\theta\,u$", title="the two losses", ylim=(0, None))
    last.legend(fontsize=8)
    return figure


def through(cloud: Blobs, path: Path, place: Tensor, t: float, count: int, rng: Generator) -> Endpoints:
    """Draws of pairs, given that their line passes near `place` [1, d] at t: a 300th of `count`, the nearest."""
    data = cloud.draw(count, rng)
    ends = Endpoints(data, normal_like(data, rng))
    away = (path.state(ends, data.new_full((count,), t)) - place).norm(dim=1)
    near = away.argsort()[: max(count // 300, 2)]
    return Endpoints(ends.data[near], ends.noise[near])


def losses(cloud: Blobs, path: Path, shares: Tensor, count: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """L_FM and L_CFM of the fields share u, u the exact marginal field."""
    data = cloud.draw(count, rng)
    ends, t = Endpoints(data, normal_like(data, rng)), 0.05 + 0.95 * torch.rand(count, generator=rng, dtype=F64)
    exact, own = path.velocity(cloud.denoise(path, path.state(ends, t), t), t), path.velocity(ends, t)
    whole, joint = ([(share * exact - target).square().sum(1).mean() for share in shares] for target in (exact, own))
    return torch.stack(whole), torch.stack(joint)


COUPLINGS: dict[str, Coupling] = {
    "independent": Independent(),
    "Sinkhorn": Sinkhorn(relative=0.02),
    "optimal transport": OptimalTransport(),
}


def couplings(effort: Effort, rng: Generator) -> Figure:
    """Which noise goes with which data in a batch: at random, by the entropic plan, by the cheapest permutation (E6)."""
    figure, (axes,) = page(1, 3, height=4.1, title="Couplings of a batch of noise (rings) and data")
    data = moons().draw(2 * effort.lines, rng)
    state = rng.get_state()
    for ax, (name, coupling) in zip(axes, COUPLINGS.items(), strict=True):
        rng.set_state(state)
        ends = coupling.pair(data, rng)
        cost = (ends.data - ends.noise).square().sum(1).mean().item()
        pairs(plane(ax, name, below=f"mean squared distance {cost:.2f}", reach=2.8), ends.noise, ends.data)
        dots(ax, ends.noise, NOISE, size=8)
        dots(ax, ends.data, DATA, size=8)
    return figure
