"""The Schroedinger bridge: the law of paths nearest to a reference that joins two given ends, by alternate projections.

Iterative proportional fitting and the EM view of it are one step repeated: take the present law of paths, look at it from its end, and put
the given law there. That projects on the laws with this end; taken at both ends in turn it converges to the bridge (Fortet 1940; Kullback
1968; De Bortoli et al. 2021). Laws on a finite set, linear-Gaussian ones and learned ones differ only in how they are turned round.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from structgen.errors import NumericalError
from structgen.generative.noise import Rng
from structgen.generative.objective import Loss
from structgen.generative.path import X
from structgen.generative.transitions import Kernel, closed, intervals, log_density, normals, walk

End = TypeVar("End")


class PathLaw(ABC, Generic[End]):
    """The law of a Markov chain: where it starts, and its steps."""

    @abstractmethod
    def turned(self, start: End) -> Self:
        """Of all laws that end in `start` the nearest to this one in KL, told from that end: this law's steps taken backwards."""


Law = TypeVar("Law", bound=PathLaw)


def half_steps(reference: Law, ends: tuple[Any, Any]) -> Iterator[Law]:
    """pi^1, pi^2, ... without end: pi^(2n+1) starts in ends[1] and runs towards ends[0], pi^(2n+2) starts in ends[0] (De Bortoli et al.
    2021, eq. 9). `reference` is pi^0, which starts in ends[0]."""
    law = reference
    for start in itertools.cycle(reversed(ends)):
        law = law.turned(start)
        yield law


@dataclass(frozen=True, eq=False)
class TableLaw(PathLaw[Tensor]):
    """On k points: `start` [k] and `steps` [n, k, k], the probability of y (column) after x (row). Half-steps are Sinkhorn's iterations."""

    start: Tensor
    steps: Tensor

    def marginals(self) -> Tensor:
        """[n + 1, k]."""
        return torch.stack(list(itertools.accumulate(self.steps, lambda p, step: p @ step, initial=self.start)))

    def ends(self) -> Tensor:
        """The joint probability [k, k] of the first and the last point."""
        return self.start[:, None] * torch.linalg.multi_dot([*self.steps]) if len(self.steps) > 1 else self.start[:, None] * self.steps[0]

    def turned(self, start: Tensor) -> TableLaw:
        """By Bayes. Raises `NumericalError` if `start` has mass that no path of this law can reach: the bridge does not exist."""
        marginals = self.marginals()
        if (start[marginals[-1] == 0] > 0).any():
            raise NumericalError("the given end has mass on points that the reference never reaches; widen the reference")
        joint = marginals[:-1, :, None] * self.steps
        back = torch.where(marginals[1:, :, None] > 0, joint.mT / marginals[1:, :, None], 0.0)
        return TableLaw(start, back.flip(0))


@dataclass(frozen=True, eq=False)
class Normal:
    """mean [d], covariance [d, d]."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True, eq=False)
class Affine:
    """y = matrix x + shift + N(0, covariance): a step of a linear-Gaussian chain. [d, d], [d], [d, d]."""

    matrix: Tensor
    shift: Tensor
    covariance: Tensor

    def after(self, law: Normal) -> Normal:
        return Normal(self.matrix @ law.mean + self.shift, self.matrix @ law.covariance @ self.matrix.mT + self.covariance)

    def turned(self, before: Normal) -> Affine:
        """The law of x given y, for x from `before`."""
        after = self.after(before)
        gain = torch.linalg.solve(after.covariance, self.matrix @ before.covariance).mT
        rest = before.covariance - gain @ after.covariance @ gain.mT
        return Affine(gain, before.mean - gain @ after.mean, rest)


@dataclass(frozen=True, eq=False)
class GaussianLaw(PathLaw[Normal]):
    """A linear-Gaussian chain: every half-step is exact, whatever the number of steps."""

    start: Normal
    steps: Sequence[Affine]

    def marginals(self) -> list[Normal]:
        return list(itertools.accumulate(self.steps, lambda law, step: step.after(law), initial=self.start))

    def cross_covariance(self) -> Tensor:
        """Of the first with the last state [d, d]."""
        cross = self.start.covariance
        for step in self.steps:
            cross = cross @ step.matrix.mT
        return cross

    def turned(self, start: Normal) -> GaussianLaw:
        pairs = list(zip(self.steps, self.marginals(), strict=False))
        return GaussianLaw(start, [step.turned(before) for step, before in reversed(pairs)])


Draw: TypeAlias = Callable[[int, Rng], X]
"""(b, rng) -> states [b, *event]."""
Fit: TypeAlias = Callable[["Reversal", Draw], Kernel[Any]]
"""(objective, the law to draw its data from) -> a kernel trained on it, for the direction opposite to that of `objective.times`."""


@dataclass(frozen=True, eq=False)
class LearnedLaw(PathLaw[Draw]):
    """Steps by a kernel, as a `Drifted` network, at the times in its direction; `fit` trains the kernel of the other direction."""

    start: Draw
    kernel: Kernel[Any]
    times: Sequence[float]
    fit: Fit

    def trajectories(self, count: int, cond: Any, rng: Rng) -> Tensor:
        """Paths [n + 1, count, *event] from draws of the start."""
        x = self.start(count, rng)
        return walk(closed(self.kernel, cond), self.times, x, normals(x, rng))

    def turned(self, start: Draw) -> LearnedLaw:
        return LearnedLaw(start, self.fit(Reversal(self.kernel, self.times), self.start), self.times[::-1], self.fit)


@dataclass(frozen=True, eq=False)
class Reversal:
    """-log p of the steps of `kernel`'s paths taken backwards, in nats a step: an `Objective` for the kernel of the other direction.

    Its minimum over all kernels is the KL projection of a half-step; over normal kernels, the regression of each state on the one after it
    (De Bortoli et al. 2021, proposition 3). Data are starts of the paths, at times[0]. `kernel` gets no gradient.
    """

    kernel: Kernel[Any]
    times: Sequence[float]

    def __call__(self, denoiser: Any, data: X, cond: Any, rng: Rng) -> Loss:
        with torch.no_grad():
            states = walk(closed(self.kernel, cond), self.times, data, normals(data, rng))
        back = closed(denoiser, cond)
        steps = enumerate(intervals(self.times, data))
        nats = -torch.stack([log_density(back, states[i + 1], s, t, states[i]) for i, (t, s) in steps]).mean(0)
        return Loss(nats, {"nll": nats})
