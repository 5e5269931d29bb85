"""Mixtures of round normals in any dimension, with everything about a path known in closed form, and distances between samples."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.generative import Denoise, Endpoints, Path, VarianceExploding, over

F64 = torch.float64


@dataclass(frozen=True, eq=False)
class Cloud:
    """weights [k], means [k, d], stds [k], all float64."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Data [count, d]."""
        k = torch.multinomial(self.weights, count, replacement=True, generator=rng)
        return self.means[k] + self.stds[k, None] * torch.randn(count, self.means.shape[1], generator=rng, dtype=F64)

    def draw_at(self, path: Path, t: float, count: int, rng: torch.Generator) -> Tensor:
        """States of the path at t."""
        alpha, sigma = path.alpha_sigma(torch.tensor([t], dtype=F64))
        data = self.draw(count, rng)
        return alpha * data + sigma * torch.randn(data.shape, generator=rng, dtype=F64)

    def _log_joint(self, path: Path, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log p(k, x) and the variance of each component, both [b, k]; alpha and sigma [b, 1]."""
        alpha, sigma = (c[:, None] for c in path.alpha_sigma(t))
        variance = (alpha * self.stds) ** 2 + sigma**2
        means = self.means.T
        away = (x * x).sum(1, keepdim=True) - 2 * alpha * (x @ means) + alpha**2 * (means * means).sum(0)
        return self.weights.log() - away / variance / 2 - x.shape[1] / 2 * (2 * math.pi * variance).log(), variance, alpha, sigma

    def log_prob(self, path: Path, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(x) [b]."""
        return self._log_joint(path, x, t)[0].logsumexp(1)

    def denoise(self, path: Path, x: Tensor, t: Tensor) -> Endpoints:
        """The posterior means of data and of noise given x_t = x [b, d]."""
        joint, variance, alpha, sigma = self._log_joint(path, x, t)
        share = joint.softmax(1)
        gain = alpha * self.stds**2 / variance
        data = (share * gain).sum(1, keepdim=True) * x + (share * (1 - alpha * gain)) @ self.means
        inverse = share / variance
        return Endpoints(data, sigma * (inverse.sum(1, keepdim=True) * x - alpha * (inverse @ self.means)))

    def denoiser(self, path: Path) -> Denoise:
        return lambda x, t, s: self.denoise(path, x, t)

    def flow_to_data(self, path: Path, x: Tensor, t: float, steps: int = 800) -> Tensor:
        """Where the probability flow takes x_t = x: Runge and Kutta's classical method in the logarithm of the noise level down to 1e-4,
        then the denoiser. An oracle of its own: it knows no path but x / alpha at the level sigma / alpha."""
        alpha, sigma = path.alpha_sigma(torch.tensor([t], dtype=F64))
        levels = torch.linspace((sigma / alpha).log().item(), math.log(1e-4), steps + 1, dtype=F64).tolist()
        y = x / over(alpha, x)

        def slope(y: Tensor, level: float) -> Tensor:
            return y - self._data(y, level)

        for a, b in itertools.pairwise(levels):
            h = b - a
            k1 = slope(y, a)
            k2 = slope(y + h / 2 * k1, a + h / 2)
            k3 = slope(y + h / 2 * k2, a + h / 2)
            k4 = slope(y + h * k3, b)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return self._data(y, levels[-1])

    def _data(self, y: Tensor, log_level: float) -> Tensor:
        return self.denoise(VarianceExploding(), y, y.new_full((len(y),), math.exp(log_level))).data


def ring() -> Cloud:
    """Eight modes on a circle in two dimensions."""
    angle = torch.arange(8, dtype=F64) * (2 * math.pi / 8)
    return _uneven(1.3 * torch.stack([angle.cos(), angle.sin()], 1), torch.Generator().manual_seed(0))


def scattered() -> Cloud:
    """Ten modes in 64 dimensions."""
    rng = torch.Generator().manual_seed(0)
    return _uneven(0.8 * torch.randn(10, 64, generator=rng, dtype=F64), rng)


def _uneven(means: Tensor, rng: torch.Generator) -> Cloud:
    """Standard deviations from 0.12 to 0.30, weights within a factor of 3."""
    stds = 0.12 + 0.18 * torch.rand(len(means), generator=rng, dtype=F64)
    weights = 0.5 + torch.rand(len(means), generator=rng, dtype=F64)
    return Cloud(weights / weights.sum(), means, stds)


def median_error(x: Tensor, exact: Tensor) -> float:
    """The median over the batch of the root mean square over coordinates."""
    return (x - exact).square().mean(1).sqrt().median().item()


def sliced_w2(x: Tensor, y: Tensor, projections: int = 128) -> float:
    """The root mean square over directions of the 2-Wasserstein distance of the projections of two samples of the same size."""
    directions = torch.randn(x.shape[1], projections, generator=torch.Generator().manual_seed(3), dtype=F64)
    directions = directions / directions.norm(dim=0)
    a, b = ((v @ directions).sort(0).values for v in (x, y))
    return (a - b).square().mean().sqrt().item()
