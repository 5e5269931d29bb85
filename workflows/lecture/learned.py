"""Pictures of what a small network learns: the noise, straight flows, a likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from structgen.generative import (
    RK4,
    Chain,
    Coupling,
    Ddim,
    Denoise,
    Denoiser,
    Given,
    Heun,
    Independent,
    Linear,
    MaximumLikelihood,
    Path,
    ReadNoise,
    ReadVelocity,
    Regression,
    RungeKutta,
    Steps,
    Uniform,
    as_given,
    linear_betas,
    log_likelihood,
    noise_error,
    normal_like,
    reflow_pairs,
    sample,
    velocity_error,
)
from structgen.generative.objective import Noised
from structgen.generative.times import uniform
from structgen.generative.weights import Constant
from workflows.lecture.drawing import DATA, INK, dots, page, plane, shade, strands
from workflows.lecture.learning import Draw, Perceptron, frozen, trained
from workflows.lecture.sets import F64, Blobs, Effort, moons, sliced_w2, three, walk


def learning(effort: Effort, rng: Generator) -> Figure:
    """A network learns the noise by Algorithm 1: its loss comes down to what no network can undercut, and samples appear (A4)."""
    figure, (axes,) = page(1, 4, height=3.2, title=r"Training on  $\|\epsilon-\epsilon_\theta(x_t,t)\|^2$")
    cloud, path, losses = moons(), Chain(linear_betas(200)).path(), list[float]()
    objective = Regression(path, Steps(200), Constant(), noise_error)
    network = Denoiser(Perceptron(2, 1, rng), path, ReadNoise())
    grid, noise = torch.arange(200, -1, -4, dtype=F64) / 200, normal_like(torch.empty(effort.points, 2, dtype=F64), rng)
    shown = dict(zip(stages(effort.updates), axes, strict=False))

    def look(update: int, loss: float) -> None:
        losses.append(loss)
        if ax := shown.get(update + 1):
            dots(plane(ax, f"{update + 1} updates"), sample(path, frozen(network), Ddim(), grid, noise, rng), size=4)

    trained(network, objective, lambda count: cloud.draw(count, rng), max(shown), rng, on_update=look)
    window = min(25, len(losses))
    means = torch.tensor(losses).unfold(0, window, 1).mean(1)
    axes[3].plot(torch.arange(1, len(means) + 1), means, color=DATA, lw=1, label="loss")
    axes[3].axhline(least_loss(cloud, objective, rng), color=INK, ls=":", lw=1, label="the least possible")
    axes[3].set(xlabel="update", title=f"loss, mean of {window}", xscale="log")
    axes[3].legend()
    return figure


def stages(updates: int) -> list[int]:
    """Early, on the way, and at the end of a training."""
    return [max(updates // 30, 1), max(updates // 5, 2), max(updates, 3)]


def least_loss(cloud: Blobs, objective: Regression, rng: Generator, count: int = 20_000) -> float:
    """Of the posterior mean of the noise."""
    truth, path = objective.coupling.pair(cloud.draw(count, rng), rng), objective.path
    t = objective.times.draw(truth.data, rng)
    x = path.state(truth, t)
    return noise_error(cloud.denoise(path, x, t), Noised(path, truth, x, t, torch.ones_like(t)), None).total.mean().item()


@dataclass(frozen=True, eq=False)
class Flow:
    """A learned flow: its ways [steps + 1, n, 2], how far it is from straight, and samples of one step."""

    ways: Tensor
    straightness: float
    one_step: Tensor


def rectified(effort: Effort, rng: Generator) -> Figure:
    """Rectified flow: the lines of pairs cross, the flow does not, and after a reflow its ways are straight: one step is enough (E7)."""
    cloud = moons()
    flows = rectified_flows(cloud, 2, effort, rng)
    figure, rows = page(2, 3, height=6.4, title="Rectified flow and reflow")
    data = cloud.draw(effort.lines, rng)
    strands(plane(rows[0][0], "pairs", reach=2.8), torch.stack([normal_like(data, rng), data]))
    dots(plane(rows[1][0], "data", reach=2.8), cloud.draw(effort.points, rng), size=4)
    for k, flow in enumerate(flows):
        ways, ends = rows[0][k + 1], rows[1][k + 1]
        strands(
            plane(ways, f"{k + 1}-rectified flow", reach=2.8, below=f"straightness {flow.straightness:.3f}"), flow.ways[:, : effort.lines]
        )
        distance = sliced_w2(flow.one_step, cloud.draw(len(flow.one_step), rng))
        dots(plane(ends, f"{k + 1}-rectified, one step", reach=2.8, below=f"W to data {distance:.2f}"), flow.one_step, size=4)
    return figure


def rectified_flows(cloud: Blobs, rounds: int, effort: Effort, rng: Generator) -> list[Flow]:
    """k-rectified flows for k = 1, ..., rounds, each trained on the pairs of the one before."""
    path, flows, pairs = Linear(), list[Flow](), None
    coupling: Coupling = Independent()
    grid = uniform(min(effort.steps, 50), 1.0, 0.0)
    for _ in range(rounds):
        denoise = velocity_model(path, coupling, partial(drawn, cloud, pairs, rng), effort.updates, rng)
        noise = normal_like(torch.empty(20 * effort.points, 2), rng)
        pairs = torch.cat([as_given(ends) for ends in reflow_pairs(path, denoise, Heun(), grid, [noise], rng)])
        coupling = Given()
        ways = walk(path, denoise, Heun(), grid, noise[: effort.points], rng)
        one = sample(path, denoise, Ddim(), [1.0, 0.0], noise[: effort.points], rng)
        flows.append(Flow(ways, straightness(ways, grid), one))
    return flows


def drawn(cloud: Blobs, pairs: Tensor | None, rng: Generator, count: int) -> Tensor:
    """Data, or of the pairs [n, 2, d] as many at random."""
    return cloud.draw(count, rng) if pairs is None else pairs[torch.randint(len(pairs), (count,), generator=rng)]


def velocity_model(path: Path, coupling: Coupling, draw: Draw, updates: int, rng: Generator) -> Denoise:
    """Flow matching with this coupling."""
    objective = Regression(path, Uniform(), Constant(), velocity_error, coupling)
    return trained(Denoiser(Perceptron(2, 1, rng), path, ReadVelocity()), objective, draw, updates, rng)


def straightness(ways: Tensor, grid: Tensor) -> float:
    """E of the integral of |velocity - (end - start)|^2 over E|end - start|^2, on a grid of one unit of time: 0 is straight."""
    whole = (ways[-1] - ways[0]) / (grid[-1] - grid[0])
    steps = grid.diff()[:, None, None]
    off = (steps[:, :, 0].abs() * (ways.diff(dim=0) / steps - whole).square().sum(2)).sum(0)
    return (off.mean() / whole.square().sum(1).mean()).item()


def continuous(effort: Effort, rng: Generator) -> Figure:
    """A continuous flow trained by maximum likelihood alone, with the adjoint: its density as the training goes on (E1)."""
    figure, (axes,) = page(1, 4, height=3.3, title=r"CNF:  $d\log p/dt=-\nabla\cdot u$,  trained on $-\log p(x)$ (below: its mean, nats)")
    cloud, path, times = three(), Linear(), torch.linspace(0, 1, 6, dtype=F64)
    network, test = Denoiser(Perceptron(2, 1, rng, width=48), path, ReadVelocity()), cloud.draw(10 * effort.lines, rng)
    shown = dict(zip(stages(effort.updates // 8), axes, strict=False))

    def density(x: Tensor) -> Tensor:
        with torch.no_grad():
            return log_likelihood(path, lambda x, t, s: network(x, t, s, None), RungeKutta(RK4), times, x.float(), rng).exp()

    def look(update: int, loss: float) -> None:
        if ax := shown.get(update + 1):
            nats = f"{-density(test).log().mean().item():.3f}"
            shade(plane(ax, f"{update + 1} updates", below=nats), density, count=20 + effort.lines)

    objective = MaximumLikelihood(path, RungeKutta(RK4), times)
    trained(network, objective, lambda count: cloud.draw(count, rng), max(shown), rng, batch=128, rate=1e-2, on_update=look)
    shade(plane(axes[3], "data", below=f"{-cloud.density(test).log().mean().item():.3f}"), cloud.density)
    return figure
