"""The reverse SDE and its family, by Euler-Maruyama and by Heun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from structgen.errors import ConfigError
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus
from structgen.generative.sde import diffusion_squared


def _checked(lam: float) -> None:
    if not 0 <= lam <= 1:
        raise ConfigError(f"lambda lies between 0, the reverse SDE, and 1, the probability flow; found {lam}")


def _drift(path: Path, t: Time, lam: float) -> tuple[Time, Time]:
    """f x - (1 - lambda / 2) g^2 score = the velocity + (1 - lambda) g^2 / (2 sigma) noise, as coefficients of data and of noise."""
    (_, sigma), (alpha_rate, sigma_rate) = path.alpha_sigma(t), path.rates(t)
    extra = (1 - lam) * diffusion_squared(path, t) / (2 * sigma) if lam < 1 else torch.zeros_like(t)
    return alpha_rate, sigma_rate + extra


class MaruyamaPlan(NamedTuple):
    t: Coefficient
    data: Coefficient
    noise: Coefficient
    fresh: Coefficient


@dataclass(frozen=True)
class EulerMaruyama(Solver[MaruyamaPlan, None]):
    """dx = [f x - (1 - lambda / 2) g^2 score] dt + sqrt(1 - lambda) g dw, backwards in time, weak order 1.

    The same law at every time for every lambda in [0, 1]: 0 is the reverse SDE (Song et al. 2021, eq. 6), 1 the probability flow (eq. 13),
    `Euler`. Start where alpha > 0: g is infinite where it is 0. Raises `ConfigError` for a lambda out of range or such a start.
    """

    lam: float = 0.0

    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _checked(self.lam)

    def plan(self, path: Path, t: Time, s: Time) -> MaruyamaPlan:
        (data, noise), length = _drift(path, t, self.lam), s - t
        return MaruyamaPlan(t, length * data, length * noise, _fresh(path, t, s, self.lam))

    def step(self, plan: MaruyamaPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        ends = denoise(x, plan.t, plan.t)
        x = plus(plus(x, plan.data, ends.data), plan.noise, ends.noise)
        return (plus(x, plan.fresh, normal_like(x, rng)) if self.lam < 1 else x), None


class StochasticHeunPlan(NamedTuple):
    t: Coefficient
    s: Coefficient
    data: Coefficient
    noise: Coefficient
    fresh: Coefficient
    data_half: Coefficient
    noise_half: Coefficient
    lands: Coefficient


@dataclass(frozen=True)
class StochasticHeun(Solver[StochasticHeunPlan, None]):
    """The SDEs of `EulerMaruyama` with the drift averaged over both ends of a step and one draw of noise: weak order 2, because the noise
    does not depend on the state (Kloeden & Platen, 14.2 and 15.1). Euler-Maruyama on the step that lands on data."""

    lam: float = 0.0

    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _checked(self.lam)

    def plan(self, path: Path, t: Time, s: Time) -> StochasticHeunPlan:
        length, lands = s - t, path.alpha_sigma(s)[1] == 0
        (data, noise), (data_s, noise_s) = _drift(path, t, self.lam), _drift(path, torch.where(lands, t, s), self.lam)
        fresh = _fresh(path, t, s, self.lam)
        return StochasticHeunPlan(t, s, length * data, length * noise, fresh, length * data_s / 2, length * noise_s / 2, lands)

    def step(self, plan: StochasticHeunPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        ends = denoise(x, plan.t, plan.t)
        shaken = plus(x, plan.fresh, normal_like(x, rng)) if self.lam < 1 else x
        guess = plus(plus(shaken, plan.data, ends.data), plan.noise, ends.noise)
        if plan.lands:
            return guess, None
        ends = denoise(guess, plan.s, plan.s)
        return plus(plus(torch.lerp(shaken, guess, 0.5), plan.data_half, ends.data), plan.noise_half, ends.noise), None


def _fresh(path: Path, t: Time, s: Time, lam: float) -> Time:
    """The standard deviation that the noise adds over a step: g at its middle."""
    if lam == 1:
        return torch.zeros_like(t)
    if not path.half_log_snr(t).isfinite().all():
        raise ConfigError("the reverse SDE cannot start where alpha or sigma is 0: start a little inside the path, as at 0.999 of its end")
    return ((1 - lam) * diffusion_squared(path, (t + s) / 2) * (s - t).abs()).sqrt()
