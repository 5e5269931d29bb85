"""Widths and depths of a network read from the shapes of its weights, so that a checkpoint says itself what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from structgen.errors import CheckpointError


@dataclass(frozen=True)
class Sizes:
    """The tensors of a checkpoint by name, as far as their shapes go."""

    tensors: Mapping[str, Tensor]

    def of(self, name: str, dim: int = 0) -> int:
        """Length of a weight along `dim`. Raises `CheckpointError` where there is none."""
        weight = self.tensors.get(f"{name}.weight", self.tensors.get(name))
        if weight is None or weight.ndim <= dim:
            raise CheckpointError(f"there is no tensor {name}.weight with {dim + 1} dimensions, which says how wide the network is")
        return weight.shape[dim]

    def blocks(self, name: str) -> int:
        """How many numbered modules a list has."""
        start = len(name) + 1
        numbers = {key[start:].split(".", 1)[0] for key in self.tensors if key.startswith(f"{name}.")}
        return len(numbers)
