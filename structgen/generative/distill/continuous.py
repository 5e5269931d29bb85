"""Consistency in continuous time: the data predicted along a trajectory do not change at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.func import jvp

from structgen.generative.coupling import Coupling, Independent
from structgen.generative.denoiser import Denoiser
from structgen.generative.distill.tangent import Square, mean_square, raw_along
from structgen.generative.distill.teacher import Teacher, slope
from structgen.generative.noise import Rng
from structgen.generative.objective import Loss
from structgen.generative.path import Endpoints, Path, Time, X, over
from structgen.generative.times import TimeSampler
from structgen.generative.weights import Weight


@dataclass(frozen=True)
class ContinuousConsistency:
    """The limit of `Consistency` for neighbours that meet: descend along df/dt of the consistency function f, which no gradient enters
    (Song et al. 2023, theorem 6; Lu & Song 2024, eq. 6). With a `teacher` the trajectory is its probability flow, without it the example's
    line.

    A pseudo-objective: only its gradient means anything, 2 weight mean(df/ds . grad f), where s is -half_log_snr, the same on every path,
    and dt/ds = alpha sigma / (alpha sigma' - sigma alpha'). The limit of the discrete gradient over t - s is this over dt/ds. Its value is
    weight |df/ds|^2, to be watched.

    `weight` makes of it what the network sees: `Edm(sigma_data)` with `Preconditioned`, or with `ReadVelocity` on `Cosine` and data of
    unit variance (TrigFlow), gives the raw output weight 1 and is sCM's objective (Lu & Song 2024, eq. 8). `normalise` = 0.1 divides the
    weighted tangent by its norm plus 0.1 (section 4.2); `warmup` from 0 to 1 takes the part that is diffusion training first (Algorithm 1,
    line 7: r). The reading must give x itself on data, and be smooth inside the path.
    """

    path: Path
    times: TimeSampler
    weight: Weight
    teacher: Teacher | None = None
    normalise: float | None = None
    warmup: float = 1.0
    square: Square = mean_square
    coupling: Coupling = field(default_factory=Independent)

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        ends = self.coupling.pair(data, rng)
        t = self.times.draw(ends.data, rng)
        x, weight = self.path.state(ends, t), self.weight(self.path, t)
        velocity = slope(self.path, self.teacher, ends, x, t, cond)
        tangent = self._tangent(denoiser, x, t, velocity, cond)
        size = weight * self.square(tangent, cond)
        if self.normalise is not None:
            tangent = tangent / over(size.sqrt() + self.normalise, x)
        guess = denoiser(x, t, torch.zeros_like(t), cond).data
        loss = weight * self.square(guess - (guess.detach() - tangent), cond)
        return Loss(loss, {"tangent": size})

    def _tangent(self, denoiser: Denoiser[Any], x: X, t: Time, velocity: X, cond: Any) -> X:
        """df/ds, [b, *event]."""
        aligned, whole = tangents(denoiser, x, t, velocity, cond)
        (alpha, sigma), (alpha_rate, sigma_rate) = self.path.alpha_sigma(t), self.path.rates(t)
        pace = alpha * sigma / (alpha * sigma_rate - sigma * alpha_rate)
        return over(pace, x) * torch.lerp(aligned, whole, self.warmup)


@torch.no_grad()
def tangents(denoiser: Denoiser[Any], x: X, t: Time, velocity: X, cond: Any) -> tuple[X, X]:
    """(share of the velocity's error, all of df/dt) along the trajectory that passes x [b, *event] at t [b] with this velocity.

    The predicted data change because the state leaves the predicted line, at the difference of the velocities, and because the line itself
    turns. The first alone is zero for a perfect denoiser, the sum for a perfect consistency function.
    """
    aim, still = torch.zeros_like(t), torch.zeros_like(t)
    raw, rate = raw_along(denoiser, (x, t, aim), (velocity, torch.ones_like(t), still), cond)

    def read(x: X, t: Time, raw: X) -> tuple[X, X]:
        ends: Endpoints = denoiser.reading.endpoints(denoiser.path, raw, x, t, aim)
        return ends.data, ends.noise

    (data, noise), (whole, _) = jvp(read, (x, t.clone(), raw), (velocity, torch.ones_like(t), rate))[:2]
    away = velocity - denoiser.path.velocity(Endpoints(data, noise), t)
    _, (aligned, _) = jvp(read, (x, t.clone(), raw), (away, still, torch.zeros_like(raw)))[:2]
    return aligned, whole
