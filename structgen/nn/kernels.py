"""Layer norms on a GPU in one pass over memory, forwards and backwards (Triton).

torch's kernel gives every row a block of threads: with 64 channels it runs at a tenth of the memory's speed, and took a third of a training
step. Here a program holds a tile of rows. It reads rows wherever their channels lie, so planes [b, c, n, n] become normalised rows
[b, n, n, c] without a transposition of their own.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 8192  # values a program holds at once
PROGRAMS = 1024  # of the backward pass: each adds up the gradients of scale and offset over its tiles


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`F.layer_norm` over the last dimension of x [..., c], c <= `norms.WIDEST`, with statistics in float32. The result is dense."""
    return _LayerNorm.apply(x, weight, bias, eps)  # type: ignore[no-any-return]


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        x, layout = _laid_out(x)
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        mean, scale = (torch.empty(y.numel() // x.shape[-1], dtype=torch.float32, device=x.device) for _ in range(2))
        tile, width, programs = _tiles(len(mean), x.shape[-1])
        _forward[(programs,)](
            x, weight, bias, y, mean, scale, len(mean), *layout, eps,
            c=x.shape[-1], rows=tile, width=width, scaled=weight is not None, shifted=bias is not None,
        )  # fmt: skip
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.layout, ctx.bias_type = layout, None if bias is None else bias.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        c = x.shape[-1]
        tile, width, tiles = _tiles(len(mean), c)
        programs = min(PROGRAMS, tiles)
        grad_x = torch.empty_like(x)
        sums = torch.empty(2, programs, c, dtype=torch.float32, device=x.device)
        _backward[(programs,)](
            x, weight, grad.contiguous(), mean, scale, grad_x, sums[0], sums[1], len(mean), *ctx.layout,
            c=c, rows=tile, width=width, scaled=weight is not None,
        )  # fmt: skip
        grad_weight = None if weight is None else sums[0].sum(0).to(weight.dtype)
        grad_bias = None if ctx.bias_type is None else sums[1].sum(0).to(ctx.bias_type)
        return grad_x, grad_weight, grad_bias, None


def _laid_out(x: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """x as it is where it is dense rows or dense planes, else a copy; with rows of a group, and strides of groups, rows and channels."""
    c = x.shape[-1]
    if x.ndim == 4 and x.permute(0, 3, 1, 2).is_contiguous() and not x.is_contiguous():
        inner = x.shape[1] * x.shape[2]
        return x, (inner, inner * c, 1, inner)
    x = x.contiguous()
    return x, (max(1, x.numel() // c), 0, c, 1)


def _tiles(count: int, c: int) -> tuple[int, int, int]:
    """Rows of a tile, its width, and the number of tiles."""
    width = triton.next_power_of_2(c)
    rows = max(1, min(64, TILE // width))
    return rows, width, triton.cdiv(count, rows)


@triton.jit
def _forward(
    x, weight, bias, y, mean, scale, count, inner, stride_group, stride_row, stride_channel, eps,
    c: tl.constexpr, rows: tl.constexpr, width: tl.constexpr, scaled: tl.constexpr, shifted: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    channel = tl.arange(0, width)
    there = (row < count)[:, None] & (channel < c)[None, :]
    at = ((row // inner) * stride_group + (row % inner) * stride_row)[:, None] + channel[None, :] * stride_channel
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    mu = tl.sum(value, 1) / c
    centred = tl.where(there, value - mu[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, 1) / c + eps)
    result = centred * inverse[:, None]
    if scaled:
        result *= tl.load(weight + channel, mask=channel < c, other=0.0).to(tl.float32)[None, :]
    if shifted:
        result += tl.load(bias + channel, mask=channel < c, other=0.0).to(tl.float32)[None, :]
    tl.store(y + row[:, None] * c + channel[None, :], result.to(y.dtype.element_ty), mask=there)
    tl.store(mean + row, mu, mask=row < count)
    tl.store(scale + row, inverse, mask=row < count)


@triton.jit
def _backward(
    x, weight, grad, mean, scale, grad_x, sum_weight, sum_bias, count, inner, stride_group, stride_row, stride_channel,
    c: tl.constexpr, rows: tl.constexpr, width: tl.constexpr, scaled: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, width)
    of_weight = tl.zeros([width], tl.float32)
    of_bias = tl.zeros([width], tl.float32)
    start = tl.program_id(0).to(tl.int64) * rows
    while start < count:
        row = start + tl.arange(0, rows)
        there = (row < count)[:, None] & (channel < c)[None, :]
        at = ((row // inner) * stride_group + (row % inner) * stride_row)[:, None] + channel[None, :] * stride_channel
        value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        upper = tl.load(grad + row[:, None] * c + channel[None, :], mask=there, other=0.0).to(tl.float32)
        mu = tl.load(mean + row, mask=row < count, other=0.0)
        inverse = tl.load(scale + row, mask=row < count, other=0.0)
        normed = tl.where(there, (value - mu[:, None]) * inverse[:, None], 0.0)
        of_weight += tl.sum(upper * normed, 0)
        of_bias += tl.sum(upper, 0)
        if scaled:
            upper *= tl.load(weight + channel, mask=channel < c, other=0.0).to(tl.float32)[None, :]
        along = tl.sum(upper * normed, 1) / c
        level = tl.sum(upper, 1) / c
        lower = (upper - level[:, None] - normed * along[:, None]) * inverse[:, None]
        tl.store(grad_x + at, lower.to(grad_x.dtype.element_ty), mask=there)
        start += tl.num_programs(0) * rows
    tl.store(sum_weight + tl.program_id(0) * c + channel, of_weight, mask=channel < c)
    tl.store(sum_bias + tl.program_id(0) * c + channel, of_bias, mask=channel < c)
