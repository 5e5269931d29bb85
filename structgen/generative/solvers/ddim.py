"""The DDIM family: re-interpolate between the endpoints, with any share of the noise drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Path, Time, X
from structgen.generative.sample import Coefficient, DenoiseAt, Solver, plus, scaled


class DdimPlan(NamedTuple):
    t: Coefficient
    s: Coefficient
    data: Coefficient  # alpha(s)
    noise: Coefficient  # sigma(s) times what is kept of the noise
    fresh: Coefficient  # sigma(s) times what is drawn


@dataclass(frozen=True)
class Ddim(Solver[DdimPlan, None]):
    """The state at s on the line of the endpoints (Song et al. 2020, eq. 12), on any path.

    eta = 0 is deterministic (and DPM-Solver-1), eta = 1 the ancestral step of DDPM with the posterior's variance, eta = inf draws all noise
    anew: the multi-step sampler of consistency models. The network is asked for (t, s), so a reading that looks at s makes this the step of
    MeanFlow, shortcut and consistency-trajectory models.
    """

    eta: float = 0.0

    order: ClassVar[int] = 1

    def plan(self, path: Path, t: Time, s: Time) -> DdimPlan:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = path.alpha_sigma(t), path.alpha_sigma(s)
        snr_ratio = (alpha_t * sigma_s / (sigma_t * alpha_s)) ** 2
        share = (self.eta * (1 - snr_ratio).clamp_min(0).sqrt()).clamp_max(1)
        return DdimPlan(t, s, alpha_s, sigma_s * (1 - share**2).sqrt(), sigma_s * share)

    def step(self, plan: DdimPlan, denoise: DenoiseAt, x: X, memory: None, rng: Rng) -> tuple[X, None]:
        ends = denoise(x, plan.t, plan.s)
        x = plus(scaled(plan.data, ends.data), plan.noise, ends.noise)
        return (plus(x, plan.fresh, normal_like(x, rng)) if self.eta > 0 else x), None
