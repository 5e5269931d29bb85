"""Pictures of learned ways to noise and of bridges between two sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from structgen.generative import DiffFlow, PathDivergence, normal_like
from structgen.generative.bridge import Draw, Law, LearnedLaw, Reversal, TableLaw, half_steps
from structgen.generative.transitions import Drifted, Kernel, normals, walk
from workflows.lecture.drawing import DATA, NOISE, RIGHT, SERIES, SHADES, WRONG, dots, page, plane, strands
from workflows.lecture.learning import Perceptron, fit
from workflows.lecture.sets import F64, Blobs, Effort, moons, ring, spiral, three

STEPS = 10  # of a DiffFlow: few, so that the way to noise matters


def betas(t: Tensor) -> Tensor:
    """Of the linear drift -beta x / 2, and g^2."""
    return 0.1 + 9.9 * t


class Contraction(nn.Module):
    """-beta x / 2: the way to noise of DDPM, which is not learned."""

    def forward(self, x: Tensor, times: Tensor, cond: object = None) -> Tensor:
        return -betas(times) / 2 * x


class Leaning(nn.Module):
    """The same, and what a network adds, nothing at first."""

    def __init__(self, rng: Generator) -> None:
        super().__init__()
        self.fixed, self.network = Contraction(), Perceptron(2, 1, rng, width=48)
        with torch.no_grad():
            list(self.network.parameters())[-2].zero_()  # the weights of the last layer

    def forward(self, x: Tensor, times: Tensor, cond: object = None) -> Tensor:
        return self.fixed(x, times) + self.network(x, times)


def diffflow(effort: Effort, rng: Generator) -> Figure:
    """DiffFlow learns the way to noise too: with few steps it keeps a sharp set sharper than the fixed way of DDPM (D1, D2)."""
    figure, (above, below) = page(2, 5, height=4.8, title=f"To noise in {STEPS} steps, by a fixed drift and by a learned one, and back")
    cloud, count = spiral(), effort.points // 2
    data = cloud.draw(count, rng)
    place = data.norm(dim=1)
    for axes, name, drift, colour in ((above, "DDPM", Contraction(), WRONG), (below, "DiffFlow", Leaning(rng), RIGHT)):
        flow = learned_flow(cloud, drift, effort, rng)
        with torch.no_grad():
            states = walk(flow.noising(None), flow.times, data.float(), normals(data.float(), rng))
            made = flow.generate(normal_like(torch.empty(count, 2), rng), None, rng)
            nats = PathDivergence()(flow, cloud.draw(10 * count, rng).float(), None, rng).total.mean().item()
        for ax, k in zip(axes, (0, 3, 6, STEPS), strict=False):
            plane(ax, f"t = {flow.times[k]:.2f}" if axes is above else "", reach=3.0)
            ax.scatter(states[k, :, 0], states[k, :, 1], s=5, c=place.numpy(), cmap="viridis", linewidths=0)
        dots(plane(axes[4], "samples" if axes is above else "", reach=3.0, below=f"bound {nats:.2f} nats"), made, colour)
        axes[0].set_ylabel(name)
    return figure


def learned_flow(cloud: Blobs, drift: nn.Module, effort: Effort, rng: Generator) -> DiffFlow:
    """Trained on the divergence of its two chains, by the stochastic adjoint."""
    times = torch.linspace(0, 1, STEPS + 1, dtype=F64) ** 2
    flow: DiffFlow = DiffFlow(drift, Perceptron(2, 1, rng, width=64), lambda t: betas(t).sqrt(), times)
    fit(flow, PathDivergence(), lambda count: cloud.draw(count, rng), effort.updates // 3, rng)
    return flow


def bridge(effort: Effort, rng: Generator) -> Figure:
    """A Schroedinger bridge by half-steps: the law of paths put right at one end, then at the other (D3)."""
    figure, (above, below) = page(2, 4, height=5.6, title="Schroedinger bridge by alternate projections of Brownian motion")
    for ax, (k, law) in zip(above, sorted(picked(table_laws(), (0, 1, 2, 12)).items()), strict=True):
        marginals = law.marginals() if k % 2 == 0 else law.marginals().flip(0)
        ax.imshow(marginals.T.sqrt().numpy(), origin="lower", aspect="auto", extent=(0, 1, -3, 3), cmap=SHADES, interpolation="bilinear")
        ax.set(title=named(k), xlabel="t")
    above[0].set_ylabel("exact, on a grid")
    for ax, (k, learned) in zip(below, sorted(picked(learned_laws(effort, rng), (0, 1, 2, 4)).items()), strict=True):
        with torch.no_grad():
            ways = learned.trajectories(effort.points // 2, None, rng)
        ways = ways if k % 2 == 0 else ways.flip(0)
        strands(plane(ax, named(k), reach=3.4), ways[:, : effort.lines // 3], SERIES, 0.8, ends=False)
        dots(ax, ways[0], NOISE, size=4)
        dots(ax, ways[-1], DATA, size=4)
    below[0].set_ylabel("learned, in the plane")
    return figure


def named(half_step: int) -> str:
    return f"half-step {half_step}" if half_step else "before"


def picked(laws: Iterator[Law], steps: Sequence[int]) -> dict[int, Law]:
    """Those half-steps of an endless sequence."""
    return {k: law for k, law in enumerate(itertools.islice(laws, max(steps) + 1)) if k in steps}


def table_laws(points: int = 81, steps: int = 30) -> Iterator[TableLaw]:
    """Brownian motion on a grid, and its half-steps between a law of three modes and one of two."""
    line = torch.linspace(-3, 3, points, dtype=F64)
    kernel = torch.softmax(-((line[:, None] - line) ** 2) / (2 * 0.6 / steps), 1)
    ends = [cloud.coordinate(1).density(line[:, None]) for cloud in (three(), moons())]
    first, last = (end / end.sum() for end in ends)
    reference = TableLaw(first, kernel.expand(steps, points, points))
    return itertools.chain([reference], half_steps(reference, (first, last)))


class Still(nn.Module):
    """No drift."""

    def forward(self, x: Tensor, times: Tensor, cond: object = None) -> Tensor:
        return torch.zeros_like(x)


def learned_laws(effort: Effort, rng: Generator) -> Iterator[LearnedLaw]:
    """Brownian motion from one set, and half-steps that a network learns, each the way back of the one before."""
    first, last = (lambda count, rng, cloud=cloud: cloud.draw(count, rng).float() for cloud in (moons(), ring()))

    def spread(t: Tensor) -> Tensor:
        return torch.full_like(t, 0.6)

    def learned(objective: Reversal, draw: Draw) -> Kernel[Any]:
        kernel: Drifted[Any] = Drifted(Perceptron(2, 1, rng), spread)
        fit(kernel, objective, lambda count: draw(count, rng), effort.updates // 3, rng, batch=128)
        return kernel

    reference = LearnedLaw(first, Drifted(Still(), spread), [k / STEPS for k in range(STEPS + 1)], learned)
    return itertools.chain([reference], half_steps(reference, (first, last)))
