"""What the tests of few-step students share: normal data in closed form, a small network, a training loop, one number for samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from structgen.generative import Coupling, Denoiser, Ema, Endpoints, Objective, Path, Solver, Teacher, sample
from structgen.generative.ema import Weights
from tests.conformance.clouds import Cloud, sliced_w2

F64 = torch.float64
COUNT = 4096  # samples of a draw
STD, EPS = 0.5, 0.002
NORMAL = Cloud(torch.ones(1, dtype=F64), torch.tensor([[0.3, -0.2]], dtype=F64), torch.tensor([STD], dtype=F64))


class Perceptron(nn.Module):
    """A residual perceptron of a state [b, d] and `times` of them, with a gate through which the state reaches the output as it is."""

    def __init__(self, d: int, times: int, width: int = 128, blocks: int = 2, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(3))  # low ones: derivatives in time go through them
        self.state = nn.Linear(d, width)
        self.time = nn.Sequential(nn.Linear(7 * times, width), nn.SiLU())
        self.shifts = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.out, self.gate = nn.Linear(width, d), nn.Linear(width, 1)
        for layer in (self.out, self.gate):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, times: Tensor, cond: object) -> Tensor:
        phase = times[..., None] * self.frequencies
        when = self.time(torch.cat([times, phase.sin().flatten(1), phase.cos().flatten(1)], 1))
        h = self.state(x)
        for block, shift in zip(self.blocks, self.shifts, strict=True):
            h = h + block(h + shift(when))
        h = functional.silu(h)
        return self.out(h) + self.gate(h) * x


def trained(
    model: Denoiser, objective: Objective | Callable[[int, Weights], Objective], cloud: Cloud, steps: int, rng: torch.Generator, *,
    batch: int = 256, late: int = 1024, rate: float = 2e-3, decay: float = 0.998,
) -> Denoiser:  # fmt: skip
    """The model after Adam with a cosine rate, and a larger batch in the last third; its weights are then their moving average.

    An objective that changes as training goes on is a function of the step and of the average.
    """
    optimiser = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.99), foreach=True)
    ema = Ema(decay)
    average = ema.start(model)
    for k in range(steps):
        optimiser.param_groups[0]["lr"] = rate * min(1.0, (k + 1) / 100) * (1 + math.cos(math.pi * k / steps)) / 2
        now = objective if hasattr(objective, "path") else objective(k, average)
        data = cloud.draw(late if 3 * k > 2 * steps else batch, rng).float()
        optimiser.zero_grad()
        now(model, data, None, rng).total.mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        ema.update(average, model, k)
    model.load_state_dict(average)
    return model.requires_grad_(False)


def exact(cloud: Cloud, path: Path) -> Teacher:
    """The closed form, in float32."""
    return lambda x, t, s, cond: single(cloud).denoise(path, x, t)


def single(cloud: Cloud) -> Cloud:
    return Cloud(cloud.weights.float(), cloud.means.float(), cloud.stds.float())


@torch.no_grad()
def samples(path: Path, model: Teacher, solver: Solver, times: Tensor | Sequence[float], noise: Tensor) -> Tensor:
    """What the model makes of standard normal noise."""
    _, sigma = path.alpha_sigma(torch.as_tensor(times, dtype=F64)[:1])
    rng = torch.Generator().manual_seed(9)
    return sample(path, lambda x, t, s: model(x, t, s, None), solver, times, sigma.item() * noise, rng)


def distance(path: Path, model: Teacher, solver: Solver, times: Tensor | Sequence[float], cloud: Cloud) -> float:
    """Sliced W2 of samples to as many fresh data, both the same for every model: the mean over four draws."""
    found = 0.0
    for seed in range(4):
        noise = normal(COUNT, cloud.means.shape[1], seed=100 + seed).float()
        data = cloud.draw(COUNT, torch.Generator().manual_seed(200 + seed))
        found += sliced_w2(samples(path, model, solver, times, noise).double(), data) / 4
    return found


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Recorder:
    """A function that keeps what it is given."""

    def __init__(self, inner):
        self.inner, self.calls = inner, []

    def __call__(self, *arguments):
        self.calls.append(arguments)
        return self.inner(*arguments)


@dataclass(frozen=True, eq=False)
class Fixed(Coupling):
    """These ends, whatever the data."""

    ends: Endpoints

    def pair(self, data, rng):
        return self.ends


def flow(x, t, s):
    """Where the probability flow of NORMAL takes x from t to s on sigma = t: m + (x - m) sqrt((sd^2 + s^2) / (sd^2 + t^2))."""
    return NORMAL.means + ((STD**2 + s**2) / (STD**2 + t**2)).sqrt()[:, None] * (x - NORMAL.means)


class Closed(nn.Module):
    """D5's closed form as a network whose output is read as data, with one weight that is 1."""

    def __init__(self, eps: float = EPS) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones((), dtype=F64))

    def forward(self, x, times, cond):
        return self.weight * flow(x, times[:, 0], torch.full_like(times[:, 0], self.eps))


def exact64(path):
    """The closed form of NORMAL, in float64."""
    return lambda x, t, s, cond: NORMAL.denoise(path, x, t)
