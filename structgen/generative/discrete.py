"""The chain of DDPM: noise added in T steps, and what a step back must look like."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative.path import Endpoints, Path, Time, X, over
from structgen.generative.paths import CosineBetas


def linear_betas(steps: int, first: float = 0.1, last: float = 20.0) -> Tensor:
    """beta_1, ..., beta_T rising evenly from first / T to last / T: Ho et al.'s 1e-4 to 0.02 at T = 1000, and the same limit at every T."""
    return torch.linspace(first, last, steps, dtype=torch.float64) / steps


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """1 - ab_k / ab_(k-1) of the squared cosine, at most `largest` (Nichol & Dhariwal 2021, eq. 17)."""
    alpha_bar = CosineBetas(offset).alpha(torch.linspace(0, 1, steps + 1, dtype=torch.float64)) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(largest)


@dataclass(frozen=True, eq=False)
class Chain:
    """q(x_k | x_(k-1)) = N(sqrt(1 - beta_k) x_(k-1), beta_k) for k = 1, ..., T (Ho et al. 2020, eq. 2). `betas` are float64 [T].

    Steps k are [b] tensors of integers from 1. Raises `ConfigError` if a beta is not between 0 and 1.
    """

    betas: Tensor
    log_alpha_bar: Tensor = field(init=False, repr=False)
    """log of ab_k = prod (1 - beta) for k = 0, ..., T [T + 1]."""

    def __post_init__(self) -> None:
        if self.betas.ndim != 1 or not ((self.betas > 0) & (self.betas < 1)).all():
            raise ConfigError(f"betas lie between 0 and 1; found {self.betas.min().item():g} to {self.betas.max().item():g}")
        sums = torch.log1p(-self.betas).cumsum(0)
        object.__setattr__(self, "log_alpha_bar", torch.cat([sums.new_zeros(1), sums]))

    def __len__(self) -> int:
        return len(self.betas)

    def beta(self, k: Tensor) -> Tensor:
        return self.betas.to(k.device)[k - 1]

    def alpha_bar(self, k: Tensor) -> Tensor:
        return self.log_alpha_bar.to(k.device)[k].exp()

    def path(self) -> Stepwise:
        """The same marginals as a path: step k is time k / T."""
        return Stepwise(self.log_alpha_bar)

    def time(self, k: Tensor, like: X) -> Time:
        """k / T in the type of a state."""
        return (k.double() / len(self)).to(like)

    def step(self, before: X, k: Tensor, noise: X) -> X:
        """x_k from x_(k-1) and standard normal noise."""
        beta = self.beta(k).to(before)
        return over((1 - beta).sqrt(), before) * before + over(beta.sqrt(), before) * noise

    def posterior_mean(self, ends: Endpoints, x: X, k: Tensor) -> X:
        """The mean of q(x_(k-1) | x_k = x, x_0 = ends.data) (Ho et al. 2020, eq. 7)."""
        before, now, beta = self.alpha_bar(k - 1), self.alpha_bar(k), self.beta(k)
        of_data, of_state = before.sqrt() * beta / (1 - now), (1 - beta).sqrt() * (1 - before) / (1 - now)
        return over(of_data.to(x), x) * ends.data + over(of_state.to(x), x) * x

    def posterior_mean_from_noise(self, noise: X, x: X, k: Tensor) -> X:
        """The same mean, given the noise: (x_k - beta / sqrt(1 - ab_k) noise) / sqrt(1 - beta) (Ho et al. 2020, eq. 11)."""
        now, beta = self.alpha_bar(k), self.beta(k)
        return over((1 - beta).rsqrt().to(x), x) * (x - over((beta * (1 - now).rsqrt()).to(x), x) * noise)

    def posterior_variance(self, k: Tensor) -> Tensor:
        """beta~_k, the least variance that a step back can have; 0 at k = 1."""
        return (1 - self.alpha_bar(k - 1)) / (1 - self.alpha_bar(k)) * self.beta(k)

    def log_variances(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """log beta~_k and log beta_k, both [b]: the range of a step's variance. At k = 1, where beta~ is 0, beta~_2 stands for it."""
        return self.posterior_variance(k.clamp_min(2)).log(), self.beta(k).log()


@dataclass(frozen=True, eq=False)
class Stepwise(Path):
    """A variance-preserving path through given log ab at times 0, 1 / T, ..., 1, linear in log ab between them."""

    log_alpha_bar: Tensor  # [T + 1], float64, from 0, falling

    def _log_alpha(self, t: Time) -> tuple[Tensor, Tensor]:
        """log alpha and its rate, in float64."""
        steps = len(self.log_alpha_bar) - 1
        place = t.double() * steps
        k = place.floor().long().clamp(0, steps - 1)
        knots = self.log_alpha_bar.to(t.device) / 2
        rate = knots[k + 1] - knots[k]
        return knots[k] + (place - k) * rate, rate * steps

    def alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        log_alpha, _ = self._log_alpha(t)
        return log_alpha.exp().to(t), (-torch.expm1(2 * log_alpha)).sqrt().to(t)

    def rates(self, t: Time) -> tuple[Time, Time]:
        log_alpha, rate = self._log_alpha(t)
        alpha, variance = log_alpha.exp(), -torch.expm1(2 * log_alpha)
        return (rate * alpha).to(t), (-rate * alpha**2 / variance.sqrt()).to(t)


def gaussian_kl(mean: X, log_variance: Tensor, other_mean: X, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp log_variance) || N(other)) in nats, entry by entry."""
    apart = other_log_variance - log_variance
    return (apart + torch.exp(-apart) - 1 + (mean - other_mean) ** 2 * torch.exp(-other_log_variance)) / 2


def gaussian_nll(x: X, mean: X, log_variance: Tensor) -> Tensor:
    """-log N(x; mean, exp log_variance) in nats, entry by entry."""
    return (math.log(2 * math.pi) + log_variance + (x - mean) ** 2 * torch.exp(-log_variance)) / 2
