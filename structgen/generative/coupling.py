"""Couplings: which noise goes with which data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import Endpoints, X


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
