"""Networks, how their output is read, and the denoiser that joins both with a path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar

from torch import Tensor, nn

from structgen.generative.path import Endpoints, Path, Time, X

Cond = TypeVar("Cond")
Cond_contra = TypeVar("Cond_contra", contravariant=True)

Denoise: TypeAlias = Callable[[X, Time, Time], Endpoints]
"""(x [b, *event], t [b], s [b]) -> Endpoints: a `Denoiser` closed over its condition. s is the time that is aimed at; guidance maps Denoise
to Denoise."""


class Network(Protocol[Cond_contra]):
    """Any network: (x [b, *event], times [b, k], cond) -> [b, *event]. `cond` is opaque to everything in structgen.generative."""

    def __call__(self, x: X, times: Tensor, cond: Cond_contra, /) -> X: ...


class Reading(ABC):
    """What is fed to a network and how its raw output is read."""

    @abstractmethod
    def inputs(self, path: Path, x: X, t: Time, s: Time) -> tuple[X, Tensor]:
        """The network's input [b, *event] and its times [b, k]."""

    @abstractmethod
    def endpoints(self, path: Path, raw: X, x: X, t: Time, s: Time) -> Endpoints:
        """The endpoints that the raw output [b, *event] stands for."""


class Denoiser(nn.Module, Generic[Cond]):
    """Endpoints predicted from a state: the only class that holds both weights and mathematics.

    AlphaFold 3's is `Denoiser(DiffusionModule(config), VarianceExploding(), Preconditioned(sigma_data=16.0))`. The network may compute in a
    lower precision; its output is taken back to that of x before it is read.
    """

    def __init__(self, network: Network[Cond], path: Path, reading: Reading) -> None:
        super().__init__()
        self.network = network
        self.path = path
        self.reading = reading

    def forward(self, x: X, t: Time, s: Time, cond: Cond) -> Endpoints:
        x_in, times = self.reading.inputs(self.path, x, t, s)
        raw = self.network(x_in, times, cond)
        return self.reading.endpoints(self.path, raw.to(x.dtype), x, t, s)
