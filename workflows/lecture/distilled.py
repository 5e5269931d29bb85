"""Pictures of few-step students, beside the exact flow of a mixture that teaches them."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor

from structgen.generative import (
    RK4,
    Adjacent,
    AverageVelocity,
    Consistency,
    Consistent,
    ContinuousConsistency,
    Ddim,
    Denoise,
    Denoiser,
    Endpoints,
    Heun,
    Linear,
    LogNormal,
    MeanFlow,
    Path,
    Preconditioned,
    Progressive,
    ReadVelocity,
    RungeKutta,
    Sorted,
    Uniform,
    VarianceExploding,
    halvings,
    inverse_gap,
    normal_like,
    sample,
)
from structgen.generative.distill import PseudoHuber, Teacher
from structgen.generative.times import karras, then_data, uniform
from structgen.generative.weights import Edm
from workflows.lecture.drawing import DATA, INK, RIGHT, WRONG, arrows, contours, dots, page, plane
from workflows.lecture.learning import Perceptron, trained
from workflows.lecture.sets import F64, Blobs, Effort, moons, ring, sliced_w2, three, walk

SPREAD = 1.0  # of the data, roughly: for readings that are scaled by it
MORE = 5  # times as many samples are judged as are drawn
NOISIEST = 20.0  # noise level at which consistency models start


def teacher_of(cloud: Blobs, path: Path) -> Teacher:
    """The exact denoiser, in the type of the state."""

    def denoise(x: Tensor, t: Tensor, s: Tensor, cond: Any) -> Endpoints:
        ends = cloud.denoise(path, x.double(), t.double())
        return Endpoints(ends.data.to(x), ends.noise.to(x))

    return denoise


def judged(ax: Axes, name: str, x: Tensor, cloud: Blobs, colour: str, rng: Generator) -> None:
    """Samples, and how far they are from as many data."""
    dots(plane(ax, name, below=f"W to data {sliced_w2(x, cloud.draw(len(x), rng)):.2f}"), x[: len(x) // MORE], colour, size=4)


def progressive(effort: Effort, rng: Generator) -> Figure:
    """Progressive distillation: each student makes in one step what its teacher made in two (D4)."""
    figure, (axes,) = page(1, 5, height=2.8, title="Progressive distillation of an eight-step sampler")
    cloud, path, times = moons(), Linear(), uniform(8, 1.0, 0.0)
    noise = normal_like(torch.empty(MORE * effort.points, 2), rng)
    exact = cloud.denoiser(path)
    judged(axes[0], "teacher, 8 steps", sample(path, exact, Ddim(), times, noise.double(), rng), cloud, DATA, rng)
    for ax, (grid, student) in zip(axes[1:4], students(cloud, path, times, effort, rng), strict=True):
        steps = len(grid) - 1
        judged(ax, f"student, {steps} step{'s' * (steps > 1)}", sample(path, student, Ddim(), grid, noise, rng), cloud, RIGHT, rng)
    judged(axes[4], "teacher, 1 step", sample(path, exact, Ddim(), times[::8], noise.double(), rng), cloud, WRONG, rng)
    return figure


def students(cloud: Blobs, path: Path, times: Tensor, effort: Effort, rng: Generator) -> list[tuple[Tensor, Denoise]]:
    """Each round's grid and student: the exact denoiser teaches the first, each student the next, which starts from its weights."""
    teacher, made = teacher_of(cloud, path), list[tuple[Tensor, Denoise]]()
    student = Denoiser(Perceptron(2, 1, rng), path, ReadVelocity())
    for grid in halvings(times):
        student = copy.deepcopy(student)
        denoise = trained(student, Progressive(path, teacher, grid), lambda count: cloud.draw(count, rng), effort.updates, rng)
        made.append((grid[::2], denoise))
        teacher = student
    return made


def consistency(effort: Effort, rng: Generator) -> Figure:
    """Consistency models: one step to data, more steps by noise put back, with a teacher or without (D5, D6, D7, D9)."""
    figure, (above, below) = page(2, 4, height=5.6, title="Consistency models")
    cloud, path = ring(), VarianceExploding()
    noise = NOISIEST * normal_like(torch.empty(MORE * effort.points, 2), rng)
    grid = then_data(karras(40, NOISIEST, 0.02))
    judged(above[0], "teacher, 40 steps of Heun", sample(path, cloud.denoiser(path), Heun(), grid, noise.double(), rng), cloud, DATA, rng)
    starts = torch.tensor([NOISIEST, 1.2, 0.4, 0.15], dtype=F64)
    for row, name, teacher in ((above, "distilled", teacher_of(cloud, path)), (below, "from scratch", None)):
        student = consistent(cloud, teacher, effort, rng)
        for ax, steps in zip(row[1:], (1, 2, 4), strict=True):
            x = sample(path, student, Ddim(eta=math.inf), then_data(starts[:steps]), noise, rng)
            judged(ax, f"{name}, {steps} step{'s' * (steps > 1)}", x, cloud, RIGHT, rng)
    at_once = cloud.denoise(path, noise.double(), torch.full((len(noise),), NOISIEST, dtype=F64)).data
    judged(below[0], "teacher, 1 step", at_once, cloud, WRONG, rng)
    return figure


def consistent(cloud: Blobs, teacher: Teacher | None, effort: Effort, rng: Generator) -> Denoise:
    """A consistency function of the mixture."""
    path = VarianceExploding()
    pairs = Adjacent(karras(30, NOISIEST, 0.02), LogNormal(-0.8, 1.4))
    objective = Consistency(path, pairs, teacher, weight=inverse_gap, error=PseudoHuber(0.03))
    student = Denoiser(Perceptron(2, 1, rng), path, Consistent(SPREAD, eps=0.02))
    return trained(student, objective, lambda count: cloud.draw(count, rng), 2 * effort.updates, rng)


def constant(effort: Effort, rng: Generator) -> Figure:
    """A consistency function is constant along every trajectory: the exact one, and one learned in continuous time (D5, D8)."""
    figure, (axes,) = page(1, 3, height=3.9, title="f(x, t): where the flow through x at t ends (colour), one coordinate")
    cloud, path, last, reach = three().coordinate(0), VarianceExploding(), 3.0, 4.0
    t = torch.logspace(math.log10(last), math.log10(0.02), effort.steps // 2, dtype=F64)
    starts = torch.linspace(-7.0, 7.0, 160, dtype=F64)[:, None]
    ways = walk(path, cloud.denoiser(path), RungeKutta(RK4), t, starts, rng)
    student = continuous_student(cloud, effort, rng)
    x, at = torch.meshgrid(torch.linspace(-reach, reach, 90), t.flip(0).float(), indexing="ij")
    learned = student(x.reshape(-1, 1), at.flatten(), torch.zeros(at.numel())).data.reshape(x.shape)
    colours: dict[str, Any] = {"cmap": "Spectral", "vmin": -2.0, "vmax": 2.0, "shading": "gouraud"}
    axes[0].pcolormesh(t[:, None].expand(-1, 160), ways[..., 0], ways[-1:, :, 0].expand(len(t), -1), **colours)
    axes[1].pcolormesh(at, x, learned, **colours)
    for ax, name in ((axes[0], "exact"), (axes[1], "learned without a teacher")):
        ax.plot(t, ways[:, ::8, 0], color=INK, lw=0.6)
        ax.set(title=name, xlabel=r"noise level $\sigma$", ylim=(-reach, reach), xlim=(0.02, last), xscale="log")
    axes[0].set_ylabel("x")
    ends = student(ways[0].float(), t[:1].float().expand(160), torch.zeros(160)).data[:, 0]
    axes[2].plot(ways[0, :, 0], ways[-1, :, 0], color=DATA, lw=2.5, label="exact")
    axes[2].plot(ways[0, :, 0], ends, color=RIGHT, lw=1.2, label="learned")
    axes[2].set(title=rf"one step from $\sigma$ = {last:g}", xlabel="x")
    axes[2].legend()
    return figure


def continuous_student(cloud: Blobs, effort: Effort, rng: Generator) -> Denoise:
    """Trained in continuous time, on the lines of data and noise."""
    path = VarianceExploding()
    student = Denoiser(Perceptron(1, 1, rng), path, Preconditioned(SPREAD))
    objective = ContinuousConsistency(path, LogNormal(-0.6, 1.2), Edm(SPREAD), normalise=0.1)
    return trained(student, objective, lambda count: cloud.draw(count, rng), effort.updates, rng, batch=512, rate=3e-3)


def mean_flow(effort: Effort, rng: Generator) -> Figure:
    """MeanFlow: the mean velocity from noise to data makes the whole way one step; the velocity itself points to the middle (E8, E9)."""
    figure, (axes,) = page(1, 5, height=2.9, title="MeanFlow: u(x, t, s), the mean of the velocity along the flow from t to s")
    cloud, path = moons(), Linear()
    model = Denoiser(Perceptron(2, 2, rng), path, AverageVelocity())
    objective = MeanFlow(path, Sorted(Uniform(), equal=0.25), power=0.5, teacher=teacher_of(cloud, path))
    student = trained(model, objective, lambda count: cloud.draw(count, rng), 2 * effort.updates, rng)
    noise = normal_like(torch.empty(MORE * effort.points, 2), rng)
    for ax, name, s, colour in ((axes[0], "velocity u(x, 1, 1)", 1.0, WRONG), (axes[1], "mean u(x, 1, 0)", 0.0, RIGHT)):
        contours(plane(ax, name), cloud.density)
        arrows(ax, partial(mean_velocity, model, t=1.0, s=s), colour, count=13)
    for ax, name, denoise, steps, colour in (
        (axes[2], "u(x, 1, 1), one step", instantaneous(student), 1, WRONG),
        (axes[3], "u(x, 1, 0), one step", student, 1, RIGHT),
        (axes[4], "the flow, 100 steps", cloud.denoiser(path), 100, DATA),
    ):
        x = noise.double() if steps > 1 else noise
        judged(ax, name, sample(path, denoise, Ddim(), uniform(steps, 1.0, 0.0), x, rng), cloud, colour, rng)
    return figure


def mean_velocity(model: Denoiser[Any], x: Tensor, t: float, s: float) -> Tensor:
    """-u of the trained network: towards data."""
    at, aim = (torch.full((len(x),), time) for time in (t, s))
    x_in, times = model.reading.inputs(model.path, x.float(), at, aim)
    with torch.no_grad():
        return -model.network(x_in, times, None)


def instantaneous(student: Denoise) -> Denoise:
    """The same network asked for the velocity itself."""
    return lambda x, t, s: student(x, t, t)
