"""Layer norms, computed in float32 whatever the activations are held in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.Module):
    """Layer norm over the last dimension: LN (scale and offset), LN_s (`offset=False`) or LN_0 (`scale=False, offset=False`) of the SI.

    torch's CPU and CUDA kernels keep the statistics of bfloat16 activations in float32, so nothing is upcast here.
    """

    eps = 1e-5

    def __init__(self, c: int, *, scale: bool = True, offset: bool = True) -> None:
        super().__init__()
        self.c = c
        self.weight = nn.Parameter(torch.ones(c)) if scale else None
        self.bias = nn.Parameter(torch.zeros(c)) if offset else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.c,), self.weight, self.bias, self.eps)
