"""Continuous normalising flows, trained by maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from structgen.generative.adjoint import Recomputed
from structgen.generative.denoiser import Denoiser
from structgen.generative.divergence import Divergence, exact, sign_probes
from structgen.generative.likelihood import LogDensity, log_likelihood
from structgen.generative.noise import Rng
from structgen.generative.objective import Loss
from structgen.generative.path import Path, X
from structgen.generative.sample import Solver

MakeDivergence: TypeAlias = Callable[[X, Rng], Divergence]
"""(data, rng) -> how this batch's divergence is taken."""


def exact_trace(data: X, rng: Rng) -> Divergence:
    """The trace of the Jacobian, a backward pass for each entry of an event."""
    return exact


def one_probe(data: X, rng: Rng) -> Divergence:
    """Skilling and Hutchinson's estimate with one random sign an entry, the same along the whole flow (FFJORD: Grathwohl et al. 2019,
    eq. 8)."""
    return sign_probes(data, 1, rng)


@dataclass(frozen=True)
class MaximumLikelihood:
    """-log p(data) in nats under the flow of the denoiser's velocity, d log p / dt = -div u (Chen et al. 2018): an `Objective`.

    The flow is integrated by `solver` on `times` [n + 1], which rise from data to noise: no regression target, so the velocity is that of
    any flow from the prior to the data, and `path` only says how the network's output is read (`Linear` with `ReadVelocity`: as it is).
    Keep away from times at which a reading is singular. Gradients come by `Recomputed`, `stretch` steps of activations at a time.
    """

    path: Path
    solver: Solver[Any, Any]
    times: Tensor
    divergence: MakeDivergence = exact_trace
    prior: LogDensity | None = None
    stretch: int = 1

    def __call__(self, denoiser: Denoiser[Any], data: X, cond: Any, rng: Rng) -> Loss:
        nats = -log_likelihood(
            self.path,
            lambda x, t, s: denoiser(x, t, s, cond),
            self.solver,
            self.times,
            data,
            rng,
            divergence=self.divergence(data, rng),
            prior=self.prior,
            integrate=Recomputed(tuple(denoiser.parameters()), self.stretch),
        )
        return Loss(nats, {"nll": nats})
