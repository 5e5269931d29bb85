"""What a student learns from: a model that gives endpoints and takes no gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.func import functional_call

from structgen.generative.denoiser import Denoiser
from structgen.generative.ema import Weights
from structgen.generative.noise import Rng
from structgen.generative.path import Endpoints, Path, Time, X
from structgen.generative.sample import Solver, advance

Teacher: TypeAlias = Callable[[X, Time, Time, Any], Endpoints]
"""(x [b, *event], t [b], s [b], cond) -> Endpoints: a `Denoiser`, a closed form, or a guided model written as
`lambda x, t, s, cond: classifier_free(partial(model, cond=None), partial(model, cond=cond), 3.0)(x, t, s)`."""


def with_weights(denoiser: Denoiser[Any], weights: Weights) -> Teacher:
    """The denoiser with these weights for its own, by reference: with `TrainState.average` it is the moving average at every step, with a
    copy of it the fixed teacher of the next round."""
    return lambda x, t, s, cond: functional_call(denoiser, weights, (x, t, s, cond))


@torch.no_grad()
def carried(path: Path, teacher: Teacher, solver: Solver[Any, Any], x: X, knots: Sequence[Time], cond: Any, rng: Rng) -> X:
    """x at knots[0] after a solver's step to each of the following times; every example [b] has knots of its own."""
    for t, s in itertools.pairwise(knots):
        x = advance(path, lambda x, t, s: teacher(x, t, s, cond), solver, x, t, s, rng)
    return x


@torch.no_grad()
def slope(path: Path, teacher: Teacher | None, ends: Endpoints, x: X, t: Time, cond: Any) -> X:
    """dx / dt at x_t = x: the teacher's probability flow, or without a teacher the velocity of the example's own line, whose mean it is."""
    return path.velocity(ends if teacher is None else teacher(x, t, t, cond), t)
