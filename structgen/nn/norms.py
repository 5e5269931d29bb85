"""Layer norms, computed in float32 whatever the activations are held in."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.precision import in_autocast

TRITON = importlib.util.find_spec("triton") is not None  # comes with torch's builds for GPUs
WIDEST = 1024  # channels of `kernels.layer_norm`


class LayerNorm(nn.Module):
    """Layer norm over the last dimension: LN (scale and offset), LN_s (`offset=False`) or LN_0 (`scale=False, offset=False`) of the SI.

    torch's CPU and CUDA kernels keep the statistics of bfloat16 activations in float32, so nothing is upcast here. Under autocast the
    result is in the type of the products that read it: torch's own rule, float32, doubles the memory traffic of a step.
    """

    eps = 1e-5

    def __init__(self, c: int, *, scale: bool = True, offset: bool = True) -> None:
        super().__init__()
        self.c = c
        self.weight = nn.Parameter(torch.ones(c)) if scale else None
        self.bias = nn.Parameter(torch.zeros(c)) if offset else None

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps)


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = LayerNorm.eps) -> Tensor:
    """The layer norm over the last dimension as a function."""
    x, c = in_autocast(x), x.shape[-1]
    if x.is_cuda and TRITON and c <= WIDEST and not torch.compiler.is_compiling():  # the compiler merges its own with what is around
        from structgen.nn import kernels

        return kernels.layer_norm(x, weight, bias, eps)
    if not torch.is_autocast_enabled(x.device.type):
        return F.layer_norm(x, (c,), weight, bias, eps)
    weight, bias = (None if own is None else own.to(x.dtype) for own in (weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, (c,), weight, bias, eps)
