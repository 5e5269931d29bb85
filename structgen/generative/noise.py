"""Randomness is an argument, and this file is the only place that draws."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from structgen.errors import ConfigError

Rng: TypeAlias = Generator | Sequence[Generator]
"""One generator for a batch, or one an example: then example k does not depend on which others share its batch."""


def normal_like(x: Tensor, rng: Rng) -> Tensor:
    """Standard normal numbers of the shape, type and device of x [b, ...].

    Drawn where the generator lives and moved to x, so that a CPU generator gives the same numbers on every machine. Raises `ConfigError`
    if there are several generators but not one for each of the b examples.
    """
    if isinstance(rng, Generator):
        return torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype).to(x.device)
    if len(rng) != len(x):
        raise ConfigError(f"found {len(rng)} generators for {len(x)} examples; give one, or one an example")
    draws = [torch.randn(x.shape[1:], generator=one, device=one.device, dtype=x.dtype) for one in rng]
    return torch.stack(draws).to(x.device)


def generators(seed: int, count: int, first: int = 0) -> list[Generator]:
    """CPU generators for examples first, ..., first + count - 1 of a seed: unrelated streams, each fixed by (seed, example) alone."""
    return [torch.Generator().manual_seed(_mixed(seed, example)) for example in range(first, first + count)]


def _mixed(seed: int, example: int) -> int:
    """63 bits of a hash: Mersenne twisters that start from neighbouring numbers would start out alike."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{example}".encode()).digest()[:8], "big") >> 1
