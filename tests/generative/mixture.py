"""A distribution on which everything about a path is known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.generative import Cosine, Endpoints, Linear, Path, SubVariancePreserving, VarianceExploding, VariancePreserving, over
from structgen.generative.paths import CosineBetas

PATHS: dict[str, Path] = {
    "linear": Linear(),
    "cosine": Cosine(),
    "vp-linear": VariancePreserving(),
    "vp-cosine": VariancePreserving(CosineBetas()),
    "subvp-linear": SubVariancePreserving(),
    "subvp-cosine": SubVariancePreserving(CosineBetas()),
    "ve": VarianceExploding(),
}


def start_of(path: Path) -> float:
    """The noisy end of a sampling grid."""
    return 80.0 if math.isinf(path.end) else path.end


@dataclass(frozen=True)
class Mixture:
    """Every coordinate independently from a mixture of normals: weights, means and standard deviations, each [k]."""

    weights: tuple[float, ...] = (0.5, 0.3, 0.2)
    means: tuple[float, ...] = (-1.0, 0.4, 1.3)
    stds: tuple[float, ...] = (0.3, 0.25, 0.4)

    def _parts(self, path: Path, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """x[..., None] - alpha mean, its variance, weight, alpha, sigma, mean, data variance: all broadcast with a last dimension k."""
        alpha, sigma = (over(c, x)[..., None] for c in path.alpha_sigma(t))
        weight, mean, std = (torch.tensor(v, dtype=x.dtype) for v in (self.weights, self.means, self.stds))
        return x[..., None] - alpha * mean, (alpha * std) ** 2 + sigma**2, weight, alpha, sigma, mean, std**2

    def denoise(self, path: Path, x: Tensor, t: Tensor) -> Endpoints:
        """The posterior means of data and of noise given x_t = x."""
        away, variance, weight, alpha, sigma, mean, data_variance = self._parts(path, x, t)
        share = (weight.log() - variance.log() / 2 - away**2 / variance / 2).softmax(-1)
        data = (share * (mean + alpha * data_variance / variance * away)).sum(-1)
        return Endpoints(data, (share * sigma / variance * away).sum(-1))

    def denoiser(self, path: Path):
        """As a `Denoise`."""
        return lambda x, t, s: self.denoise(path, x, t)

    def log_prob(self, path: Path, x: Tensor, t: Tensor) -> Tensor:
        """log p_t of each coordinate."""
        away, variance, weight, *_ = self._parts(path, x, t)
        return (weight.log() - (2 * math.pi * variance).log() / 2 - away**2 / variance / 2).logsumexp(-1)

    def _upper(self, path: Path, x: Tensor, t: Tensor) -> Tensor:
        away, variance, weight, *_ = self._parts(path, x, t)
        return (weight * torch.special.ndtr(away / variance.sqrt())).sum(-1)

    def flow(self, path: Path, x: Tensor, t: float, s: float) -> Tensor:
        """Where the probability flow takes x from t to s: it keeps quantiles in one dimension, so no equation is integrated here."""
        t_, s_ = (torch.full((len(x),), c, dtype=x.dtype) for c in (t, s))
        quantile = self._upper(path, x, t_)
        low, high = torch.full_like(x, -1e3), torch.full_like(x, 1e3)
        for _ in range(80):
            middle = (low + high) / 2
            below = self._upper(path, middle, s_) < quantile
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high


@dataclass(frozen=True)
class Gaussian(Mixture):
    """One component, mean 0: the denoiser is linear and the law at every time is a variance."""

    weights: tuple[float, ...] = (1.0,)
    means: tuple[float, ...] = (0.0,)
    stds: tuple[float, ...] = (0.6,)

    def variance(self, path: Path, t: float) -> float:
        """Of x_t."""
        alpha, sigma = path.alpha_sigma(torch.tensor([t], dtype=torch.float64))
        return ((alpha * self.stds[0]) ** 2 + sigma**2).item()
