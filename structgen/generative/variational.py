"""DDPM as a hierarchical autoencoder: the bound on the likelihood, and a network that learns the variance of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

import torch
from torch import Tensor, nn

from structgen.generative.denoiser import Cond, Denoise, Network
from structgen.generative.discrete import Chain, gaussian_kl, gaussian_nll
from structgen.generative.noise import Rng, normal_like
from structgen.generative.objective import Loss
from structgen.generative.path import Endpoints, Time, X, over
from structgen.generative.times import Steps

Predict: TypeAlias = Callable[[X, Tensor], tuple[Endpoints, Tensor]]
"""(x_k [b, *event], k [b]) -> the endpoints and the log variance of the step back, which broadcasts to x."""


def fixed_variance(chain: Chain, denoise: Denoise, log_variance: Callable[[Tensor], Tensor]) -> Predict:
    """A denoiser whose steps back have the log variance that `log_variance` gives for k [b]."""

    def predict(x: X, k: Tensor) -> tuple[Endpoints, Tensor]:
        t = chain.time(k, x)
        return denoise(x, t, t), over(log_variance(k).to(x), x)

    return predict


@dataclass(frozen=True)
class Bound:
    """Parts of the bound on -log p(data), in nats, all [b]; `steps` [T - 1, b] are L_1, ..., L_(T-1)."""

    prior: Tensor  # L_T
    steps: Tensor
    decoder: Tensor  # L_0

    @property
    def total(self) -> Tensor:
        return self.prior + self.steps.sum(0) + self.decoder


def bound(chain: Chain, predict: Predict, data: X, rng: Rng) -> Bound:
    """One draw of every term of the variational bound of data [b, *event] (Ho et al. 2020, eq. 5), with T evaluations.

    Data are continuous: the last step is a density, so the bound is one on a density too.
    """
    terms = [step_term(chain, predict, data, torch.full((len(data),), k), normal_like(data, rng)) for k in range(1, len(chain) + 1)]
    return Bound(prior_term(chain, data), torch.stack(terms[1:]) if len(terms) > 1 else data.new_zeros(0, len(data)), terms[0])


def prior_term(chain: Chain, data: X) -> Tensor:
    """L_T = KL(q(x_T | data) || N(0, 1)) in nats [b]."""
    log_alpha_bar = chain.log_alpha_bar[-1].to(data)
    log_variance = (-torch.expm1(log_alpha_bar)).log()
    zero = torch.zeros_like(log_variance)
    return gaussian_kl((log_alpha_bar / 2).exp() * data, log_variance, torch.zeros_like(data), zero).flatten(1).sum(1)


def step_term(chain: Chain, predict: Predict, data: X, k: Tensor, noise: X) -> Tensor:
    """L_(k-1) in nats [b]: KL(q(x_(k-1) | x_k, data) || the step back), or the negative log density of the data where k = 1."""
    truth = Endpoints(data, noise)
    x = chain.path().state(truth, chain.time(k, data))
    guess, log_variance = predict(x, k)
    return _term(chain, truth, chain.posterior_mean(guess, x, k), log_variance, x, k)


def _term(chain: Chain, truth: Endpoints, mean: X, log_variance: Tensor, x: X, k: Tensor) -> Tensor:
    smallest = over(chain.log_variances(k)[0].to(x), x)
    divergence = gaussian_kl(chain.posterior_mean(truth, x, k), smallest, mean, log_variance).flatten(1).sum(1)
    return torch.where(k == 1, gaussian_nll(truth.data, mean, log_variance).flatten(1).sum(1), divergence)


def noise_weight(chain: Chain, k: Tensor, log_variance: Tensor) -> Tensor:
    """The weight of |noise - guess|^2 in L_(k-1), all [b]: beta^2 / (2 sigma^2 (1 - beta) (1 - ab)) (Ho et al. 2020, eq. 12)."""
    beta = chain.beta(k)
    return beta**2 / (2 * log_variance.exp() * (1 - beta) * (1 - chain.alpha_bar(k)))


class LearnedVariance(nn.Module, Generic[Cond]):
    """A network that predicts noise and, as further channels, where between beta~ and beta the variance of a step lies.

    The network maps [b, c, *rest] to [b, 2 c, *rest]: the noise, then v with log variance = v log beta + (1 - v) log beta~ (Nichol &
    Dhariwal 2021, eq. 15; v is not confined to 0 ... 1). It is called like a `Denoiser`, so that every sampler takes it.
    """

    def __init__(self, network: Network[Cond], chain: Chain) -> None:
        super().__init__()
        self.network = network
        self.chain = chain

    def forward(self, x: X, t: Time, s: Time, cond: Cond) -> Endpoints:
        return self._read(x, t, cond)[0]

    def predict(self, x: X, k: Tensor, cond: Cond) -> tuple[Endpoints, Tensor]:
        """As `Predict`."""
        ends, v = self._read(x, self.chain.time(k, x), cond)
        low, high = (over(c.to(x), x) for c in self.chain.log_variances(k))
        return ends, low + v * (high - low)

    def _read(self, x: X, t: Time, cond: Cond) -> tuple[Endpoints, Tensor]:
        noise, v = self.network(x, t[:, None], cond).to(x.dtype).chunk(2, dim=1)
        return self.chain.path().from_noise(noise, x, t), v


@dataclass(frozen=True)
class Hybrid:
    """L_simple + share L_vlb (Nichol & Dhariwal 2021, eq. 16): an `Objective` for a `LearnedVariance`.

    The bound's mean is detached, so it teaches the variance alone. L_vlb is one term of the bound times T, per entry and in nats.
    """

    chain: Chain
    share: float = 1e-3

    def __call__(self, denoiser: LearnedVariance[Any], data: X, cond: Any, rng: Rng) -> Loss:
        truth = Endpoints(data, normal_like(data, rng))
        t = Steps(len(self.chain)).draw(data, rng)
        k = (t * len(self.chain)).round().long()
        x = self.chain.path().state(truth, t)
        guess, log_variance = denoiser.predict(x, k, cond)
        simple = (guess.noise - truth.noise).square().flatten(1).mean(1)
        mean = self.chain.posterior_mean(Endpoints(guess.data.detach(), guess.noise.detach()), x, k)
        vlb = len(self.chain) * _term(self.chain, truth, mean, log_variance, x, k) / data[0].numel()
        return Loss(simple + self.share * vlb, {"simple": simple, "vlb": vlb})
