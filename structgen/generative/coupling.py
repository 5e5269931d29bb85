"""Couplings: which noise goes with which data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from structgen.errors import ConfigError, NumericalError
from structgen.generative.assignment import cheapest_columns
from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Endpoints, X

Assign: TypeAlias = Callable[[Tensor], Tensor]
"""Costs [b, b] -> the column of each row [b], a permutation."""


class Coupling(ABC):
    """A joint law of data and noise."""

    @abstractmethod
    def pair(self, data: X, rng: Rng) -> Endpoints:
        """Endpoints whose data are these [b, *event]."""


@dataclass(frozen=True)
class Independent(Coupling):
    """Standard normal noise, whatever the data."""

    def pair(self, data: X, rng: Rng) -> Endpoints:
        return Endpoints(data, normal_like(data, rng))


@dataclass(frozen=True)
class Given(Coupling):
    """Pairs that are known: what is called data holds both ends, [b, 2, *event], first data and then noise (reflow; two data sets)."""

    def pair(self, data: X, rng: Rng) -> Endpoints:
        if data.ndim < 2 or data.shape[1] != 2:
            raise ConfigError(f"given pairs have shape [b, 2, *event]; found {list(data.shape)}")
        return Endpoints(data[:, 0], data[:, 1])


@dataclass(frozen=True)
class OptimalTransport(Coupling):
    """The permutation of a batch's noise that makes the squared distances to its data least in sum (Tong et al. 2023, section 3.2).

    `source` draws the ends; with `Given` this pairs two data sets. Every noise is used once. On a path with constant rates it makes E
    |velocity|^2 as small as the batch allows. `assign` may be another exact solver of the same problem.
    """

    source: Coupling = field(default_factory=Independent)
    assign: Assign = cheapest_columns

    def pair(self, data: X, rng: Rng) -> Endpoints:
        ends = self.source.pair(data, rng)
        return Endpoints(ends.data, ends.noise[self.assign(squared_distances(ends)).to(ends.noise.device)])


@dataclass(frozen=True)
class Sinkhorn(Coupling):
    """For each data one of the batch's noises, drawn from the entropic plan: the minimiser of E|data - noise|^2 + reg KL(plan | product)
    with uniform marginals (Cuturi 2013). reg is `relative` times the mean squared distance, so that neither the dimension nor the unit
    matters: 0 would be `OptimalTransport`, infinity `Independent`.

    Every data is used once; noises are, on average. Raises `NumericalError` if the plan's noise marginal is still more than `tolerance` off
    in total variation after `iterations`: the plan is never replaced by another.
    """

    relative: float = 0.05
    iterations: int = 2000
    tolerance: float = 1e-2
    source: Coupling = field(default_factory=Independent)

    def pair(self, data: X, rng: Rng) -> Endpoints:
        ends = self.source.pair(data, rng)
        share = torch.special.ndtr(normal_like(data.new_empty(len(data), dtype=torch.float64), rng))
        below = self.log_plan(squared_distances(ends)).softmax(1).cumsum(1)
        column = torch.searchsorted(below, (share * below[:, -1])[:, None])[:, 0].clamp_max(len(data) - 1)
        return Endpoints(ends.data, ends.noise[column])

    def log_plan(self, cost: Tensor) -> Tensor:
        """The logarithm of the plan [b, b] for these costs, in logarithms throughout: rows sum to 1 / b."""
        scaled = -cost / (self.relative * cost.mean())
        log_share = -torch.tensor(float(len(cost)), dtype=cost.dtype, device=cost.device).log()
        columns = torch.zeros_like(scaled[0])
        for _ in range(self.iterations):
            rows = log_share - (scaled + columns).logsumexp(1)
            sums = (scaled + rows[:, None]).logsumexp(0)
            off = (torch.exp(sums + columns) - log_share.exp()).abs().sum().item() / 2
            if off <= self.tolerance:
                return scaled + rows[:, None] + columns
            columns = log_share - sums
        raise NumericalError(
            f"Sinkhorn: after {self.iterations} iterations {off:.1e} of the noise is misplaced, above {self.tolerance:.1e}; "
            "allow more iterations, or raise `relative` or `tolerance`"
        )


def squared_distances(ends: Endpoints) -> Tensor:
    """|data_i - noise_j|^2 [b, b], in float64."""
    data, noise = ends.data.detach().double().flatten(1), ends.noise.detach().double().flatten(1)
    squares = data.square().sum(1)[:, None] + noise.square().sum(1)
    return torch.addmm(squares, data, noise.T, alpha=-2).clamp_min_(0)
