"""Random weights for layers whose own start would hide mistakes: gates and output matrices begin at zero."""

from __future__ import annotations

from typing import TypeVar

import torch

M = TypeVar("M", bound=torch.nn.Module)


def randomise(module: M, rng: torch.Generator, scale: float = 0.5) -> M:
    """Every parameter drawn anew: vectors around 1 (the scales of layer norms), matrices around 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            draw = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
            parameter.copy_(scale * draw + (parameter.ndim == 1))
    return module
