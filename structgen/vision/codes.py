"""Embeddings as numbers of buckets: principal axes, the widest first, each cut evenly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from structgen.errors import ConfigError

REACH = 3.0  # standard deviations of an axis between its middle and its last bucket


@dataclass(frozen=True)
class CodesConfig:
    """Width of an embedding, how many of its principal axes are kept, and buckets of an axis."""

    c_embedding: int
    axes: int
    buckets: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.axes <= self.c_embedding or self.buckets < 2:
            found = f"{self.axes} axes and {self.buckets} buckets"
            raise ConfigError(f"{found} of an embedding of {self.c_embedding}: give 1 to {self.c_embedding} axes, 2 buckets or more")


class Codes(nn.Module):
    """Embeddings [b, c] <-> codes [b, axes] (Ramesh et al. 2022, section 2.2).

    The mean square of what `decode` loses is that of the axes left out and, inside the buckets, at most a quarter of a bucket's square an
    axis. Buckets reach 3 standard deviations from the mean; what lies outside falls into the last ones.
    """

    def __init__(self, config: CodesConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.c_embedding))
        self.register_buffer("axes", torch.eye(config.axes, config.c_embedding))
        self.register_buffer("std", torch.ones(config.axes))

    mean: Tensor
    axes: Tensor
    std: Tensor

    def fit(self, embeddings: Tensor) -> None:
        """Measure mean, axes and standard deviations along them on [n, c]. Raises `ConfigError` for fewer examples than axes."""
        if len(embeddings) <= self.config.axes:
            raise ConfigError(f"{len(embeddings)} embeddings have no {self.config.axes} principal axes: give more pictures or fewer axes")
        exact = embeddings.double()
        variances, axes = torch.linalg.eigh(torch.atleast_2d(torch.cov(exact.T)))
        self.mean.copy_(exact.mean(0))
        self.axes.copy_(axes.T.flip(0)[: self.config.axes])
        self.std.copy_(variances.flip(0)[: self.config.axes].clamp(min=1e-12).sqrt())

    @property
    def width(self) -> Tensor:
        """Of a bucket, an axis [axes]."""
        return 2 * REACH * self.std / self.config.buckets

    def encode(self, embeddings: Tensor) -> Tensor:
        """The bucket on each axis, [b, axes]."""
        along = (embeddings - self.mean) @ self.axes.T
        return (along / self.width + self.config.buckets / 2).floor().clamp(0, self.config.buckets - 1).long()

    def decode(self, codes: Tensor) -> Tensor:
        """The middle of the buckets, [b, c]."""
        along = (codes + 0.5 - self.config.buckets / 2) * self.width
        return self.mean + along @ self.axes
