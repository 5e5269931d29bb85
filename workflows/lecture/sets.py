"""Sets in the plane on which everything about a path is known in closed form, and walks over them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from structgen.generative import Denoise, Endpoints, Path, Solver, VarianceExploding, normal_like, sample

F64 = torch.float64


@dataclass(frozen=True)
class Effort:
    """How much is computed for a picture."""

    points: int = 1000  # states of a scatter
    lines: int = 40  # trajectories
    updates: int = 1500  # of a training
    steps: int = 200  # of a sampler that should be exact


@dataclass(frozen=True, eq=False)
class Blobs:
    """A mixture of round normals: weights [k], means [k, d], stds [k], all float64. Many small ones make any curve."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def draw(self, count: int, rng: Generator) -> Tensor:
        """Data [count, d]."""
        k = torch.multinomial(self.weights, count, replacement=True, generator=rng)
        return self.means[k] + self.stds[k, None] * normal_like(torch.empty(count, self.means.shape[1], dtype=F64), rng)

    def state(self, path: Path, t: float, count: int, rng: Generator) -> Tensor:
        """Draws of x_t."""
        data = self.draw(count, rng)
        return path.state(Endpoints(data, normal_like(data, rng)), torch.full((count,), t, dtype=F64))

    def _joint(self, path: Path, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(k, x_t = x) and the variance of each component, both [b, k]; alpha [b, 1]."""
        alpha, sigma = (c[:, None] for c in path.alpha_sigma(t))
        variance = (alpha * self.stds) ** 2 + sigma**2
        away = (x[:, None] - alpha[..., None] * self.means).square().sum(2)
        return self.weights.log() - away / variance / 2 - x.shape[1] / 2 * (2 * math.pi * variance).log(), variance, alpha

    def shares(self, path: Path, x: Tensor, t: Tensor) -> Tensor:
        """p(component | x_t = x), [b, k]."""
        return self._joint(path, x, t)[0].softmax(1)

    def log_prob(self, path: Path, x: Tensor, t: float) -> Tensor:
        """log p_t(x) [b] at x [b, d]."""
        return self._joint(path, x, x.new_full((len(x),), t))[0].logsumexp(1)

    def density(self, x: Tensor) -> Tensor:
        """Of data, [b]."""
        return self._joint(VarianceExploding(), x, x.new_zeros(len(x)))[0].logsumexp(1).exp()

    def density_at(self, path: Path, x: Tensor, t: float) -> Tensor:
        """p_t(x) [b]."""
        return self.log_prob(path, x, t).exp()

    def denoise(self, path: Path, x: Tensor, t: Tensor) -> Endpoints:
        """The posterior mean of the data given x_t = x, and the noise that goes with it. Defined where sigma > 0."""
        joint, variance, alpha = self._joint(path, x, t)
        share = joint.softmax(1)
        gain = alpha * self.stds**2 / variance
        data = (share * gain).sum(1, keepdim=True) * x + (share * (1 - alpha * gain)) @ self.means
        return path.from_data(data, x, t)

    def denoiser(self, path: Path) -> Denoise:
        return lambda x, t, s: self.denoise(path, x, t)

    def score(self, path: Path, x: Tensor, t: float) -> Tensor:
        """grad log p_t(x)."""
        at = x.new_full((len(x),), t)
        return path.score(self.denoise(path, x, at), at)

    def owner(self, x: Tensor) -> Tensor:
        """The component that most likely made data x [b, d], [b]."""
        away = (x[:, None] - self.means).square().sum(2)
        return (self.weights.log() - away / self.stds**2 / 2 - x.shape[1] * self.stds.log()).argmax(1)

    def misfit(self, x: Tensor) -> float:
        """How far the states x [b, d] nearest to each mode are from its law: the 2-Wasserstein distance of round normals, mean of the modes
        that have any. Their shares do not count."""
        owner, distances = self.owner(x), []
        for k in owner.unique().tolist():
            own = x[owner == k]
            apart = (own.mean(0) - self.means[k]).square().sum()
            spread = (own - own.mean(0)).square().mean().sqrt() - self.stds[k]
            distances.append((apart + x.shape[1] * spread**2).sqrt().item())
        return sum(distances) / len(distances)

    def part(self, *components: int) -> Blobs:
        """These components alone."""
        kept = list(components)
        return Blobs(self.weights[kept] / self.weights[kept].sum(), self.means[kept], self.stds[kept])

    def coordinate(self, axis: int = 0) -> Blobs:
        """The law of one coordinate."""
        return Blobs(self.weights, self.means[:, axis : axis + 1], self.stds)


def ring() -> Blobs:
    """Eight modes on a circle."""
    angle = torch.arange(8, dtype=F64) * (math.pi / 4)
    return _even(1.5 * _turn(angle), 0.12)


def spiral() -> Blobs:
    """A roll of one turn and a half."""
    share = torch.linspace(0, 1, 60, dtype=F64).sqrt()
    return _even((0.2 + 1.7 * share)[:, None] * _turn(3 * math.pi * share), 0.06)


def moons() -> Blobs:
    """Two half circles, one inside the other."""
    upper = _turn(torch.linspace(0, math.pi, 24, dtype=F64))
    lower = torch.tensor([1.0, 0.5], dtype=F64) - upper
    return _even(1.3 * (torch.cat([upper, lower]) - torch.tensor([0.5, 0.25], dtype=F64)), 0.08)


def three() -> Blobs:
    """Three wide modes of unequal weight."""
    means = torch.tensor([[-1.2, -0.9], [1.3, -0.5], [0.0, 1.3]], dtype=F64)
    return Blobs(torch.tensor([0.5, 0.3, 0.2], dtype=F64), means, torch.tensor([0.35, 0.3, 0.25], dtype=F64))


def _turn(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], 1)


def _even(means: Tensor, std: float) -> Blobs:
    return Blobs(torch.full((len(means),), 1 / len(means), dtype=F64), means, torch.full((len(means),), std, dtype=F64))


def walk(path: Path, denoise: Denoise, solver: Solver, times: Tensor, x: Tensor, rng: Generator) -> Tensor:
    """The states [steps + 1, n, d] that `sample` passes."""
    seen: list[Tensor] = []

    def record(x: Tensor, rng: object) -> Tensor:
        seen.append(x)
        return x

    end = sample(path, denoise, solver, times, x, rng, record)
    return torch.stack([*seen, end])


def sliced_w2(x: Tensor, y: Tensor) -> float:
    """The root mean square over 64 directions of the 2-Wasserstein distance of two samples of one size, projected."""
    angle = (torch.arange(64, dtype=F64) + 0.5) * (math.pi / 64)
    a, b = ((v.double() @ _turn(angle).T).sort(0).values for v in (x, y))
    return (a - b).square().mean().sqrt().item()
