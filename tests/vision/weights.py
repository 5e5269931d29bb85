"""Random weights for networks whose own start hides mistakes: many of their layers begin at zero."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def drawn(module: M, seed: int = 0) -> M:
    """Every parameter drawn anew in the order of its name: matrices with variance 1 / fan in, scales around 1, offsets around 0."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return module
