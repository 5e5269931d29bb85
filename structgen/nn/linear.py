"""Linear maps with the initialisations of the SI (AF3_ALGORITHMS 1.1 lists which layer takes which)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Init = Literal["default", "relu", "zero", "gate"]


ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
MANY = 1024  # rows; with fewer, oneDNN takes 1.1 (512) to 5 times (1) as long as MKL: widths 64 to 384, one thread, AMD with AVX2
SOME = 128  # rows; with a GELU after it oneDNN takes 0.4 to 0.7 of the time of MKL and torch's GELU, for 16 rows 1.3 (Intel, AVX-512)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias, x [..., c_in]. In float32 on a CPU and without gradients by oneDNN, where torch is built with it and rows are many.

    torch's own choice there is MKL, which reaches two thirds as much on some AMD processors. The operator is the one that torch's compiler
    emits; it is not public, so the bound on torch's version in pyproject.toml covers it too.
    """
    if _by_onednn(x, weight, MANY):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def gelu_of_affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU, in its tanh form, of x W^T + bias, in one pass of memory where oneDNN does it (as in `affine`)."""
    if _by_onednn(x, weight, SOME):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


def _by_onednn(x: Tensor, weight: Tensor, rows: int) -> bool:
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
    return ONEDNN and plain and x.numel() >= rows * x.shape[-1]


class Linear(nn.Module):
    """x W^T (+ bias). `init`: default (truncated normal, variance 1/fan_in), relu (2/fan_in), zero, or gate (zero weight, bias -2).

    A plain `nn.Linear` draws its weights when it is made, which is wasted time where a checkpoint is loaded: build under
    `torch.device("meta")` and this one draws nothing.
    """

    def __init__(self, c_in: int, c_out: int, *, bias: bool = False, init: Init = "default") -> None:
        super().__init__()
        self.init: Init = init
        self.weight = nn.Parameter(torch.empty(c_out, c_in))
        self.bias = nn.Parameter(torch.empty(c_out)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights anew from torch's global generator."""
        if self.bias is not None:
            self.bias.fill_(-2.0 if self.init == "gate" else 0.0)
        if self.init in ("zero", "gate"):
            self.weight.zero_()
            return
        variance = (2.0 if self.init == "relu" else 1.0) / self.weight.shape[1]
        std = math.sqrt(variance) / 0.87962566103423978  # the standard deviation of a normal cut at two
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)
