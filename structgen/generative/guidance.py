"""Guidance: functions from `Denoise` to `Denoise`. Samplers do not know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.denoiser import Denoise, Denoiser
from structgen.generative.noise import Rng, normal_like
from structgen.generative.objective import Loss, Objective
from structgen.generative.path import Endpoints, Path, Time, X, over

LogProbability: TypeAlias = Callable[[X, Time], Tensor]
"""(x_t, t) -> log p(y | x_t) [b], differentiable in x_t."""
Energy: TypeAlias = Callable[[X, Time], Tensor]
"""(data, t) -> energy [b], differentiable in the data."""


def classifier(path: Path, denoise: Denoise, log_probability: LogProbability, scale: float = 1.0) -> Denoise:
    """noise - scale sigma grad log p(y | x_t) (Dhariwal & Nichol 2021, Algorithm 2): Bayes' rule for scores at scale 1; other scales sample
    p(x_t) p(y | x_t)^scale, up to the noise levels in between. Needs alpha > 0."""

    def guided(x: X, t: Time, s: Time) -> Endpoints:
        gradient = _gradient(lambda x: log_probability(x, t), x)
        return _tilted(path, denoise(x, t, s), scale * gradient, t)

    return guided


def classifier_free(unconditional: Denoise, conditional: Denoise, weight: float) -> Denoise:
    """unconditional + weight (conditional - unconditional): weight 0 and 1 are the two, bit for bit, and above 1 it amplifies.

    This is the lecture's w; Ho & Salimans (2022, eq. 6) write 1 + w for it, and "no guidance" is their 0. Both denoisers are called;
    `classifier_free_at_once` makes one call of twice the size.
    """

    def guided(x: X, t: Time, s: Time) -> Endpoints:
        return _extrapolated(unconditional(x, t, s), conditional(x, t, s), weight)

    return guided


def classifier_free_at_once(both: Denoise, weight: float) -> Denoise:
    """`classifier_free` for a denoiser closed over 2 b conditions, first the b empty ones."""

    def guided(x: X, t: Time, s: Time) -> Endpoints:
        ends = both(torch.cat([x, x]), torch.cat([t, t]), torch.cat([s, s]))
        (data_0, data_1), (noise_0, noise_1) = ends.data.chunk(2), ends.noise.chunk(2)
        return _extrapolated(Endpoints(data_0, noise_0), Endpoints(data_1, noise_1), weight)

    return guided


def autoguidance(worse: Denoise, better: Denoise, weight: float) -> Denoise:
    """Away from a smaller or less trained model of the same law (Karras et al. 2024, eq. 5): the arithmetic of `classifier_free`."""
    return classifier_free(worse, better, weight)


def potential(path: Path, denoise: Denoise, energy: Energy, scale: float = 1.0) -> Denoise:
    """Tilt by exp(-scale energy) of the predicted data, its gradient taken through the denoiser (Chung et al. 2022, eq. 16, for a general
    energy): a classifier whose log p is -energy(E[data | x_t]). Exact as t falls to 0. Needs alpha > 0."""

    def guided(x: X, t: Time, s: Time) -> Endpoints:
        seen: list[Endpoints] = []

        def log_probability(x: X) -> Tensor:
            seen.append(denoise(x, t, s))
            return -energy(seen[-1].data, t)

        gradient = _gradient(log_probability, x)
        ends = Endpoints(seen[-1].data.detach(), seen[-1].noise.detach())
        return _tilted(path, ends, scale * gradient, t)

    return guided


def projected(path: Path, denoise: Denoise, project: Callable[[X], X]) -> Denoise:
    """The prediction of data, moved to the nearest that is allowed (Wang et al. 2022, DDNM, eq. 13): what is known to be true of the data
    is true of every prediction, and of the sample where that is the last one. Needs sigma > 0."""

    def guided(x: X, t: Time, s: Time) -> Endpoints:
        return path.from_data(project(denoise(x, t, s).data), x, t)

    return guided


@dataclass(frozen=True)
class Drop:
    """An objective in which each example loses its condition with probability `rate`, so that one network learns both laws (Ho & Salimans
    2022, Algorithm 1). `emptied` (cond, lost [b] bool) -> cond replaces it."""

    objective: Objective
    emptied: Callable[[Any, Tensor], Any]
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ConfigError(f"the rate of dropped conditions lies between 0 and 1; found {self.rate}")

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        lost = torch.special.ndtr(normal_like(data.new_empty(len(data), dtype=torch.float64), rng)) < self.rate
        return self.objective(denoiser, data, self.emptied(cond, lost), rng)


def _extrapolated(base: Endpoints, target: Endpoints, weight: float) -> Endpoints:
    return Endpoints(torch.lerp(base.data, target.data, weight), torch.lerp(base.noise, target.noise, weight))


def _tilted(path: Path, ends: Endpoints, gradient: X, t: Time) -> Endpoints:
    """The endpoints whose score is larger by `gradient`, on the line through the same state."""
    alpha, sigma = path.alpha_sigma(t)
    return Endpoints(ends.data + over(sigma**2 / alpha, gradient) * gradient, ends.noise - over(sigma, gradient) * gradient)


def _gradient(log_probability: Callable[[X], Tensor], x: X) -> X:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_probability(x).sum(), x)
    return gradient
