"""SI Algorithm 11, and the row blocks in which the pair track is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import nn
from torch.nn import functional as F

from structgen.nn.linear import Linear, affine
from structgen.nn.norms import LayerNorm
from structgen.typing import Float, Tensor, typed

ROWS = 4096  # vectors handled at once when no gradient is kept: the widened activations then stay in the processor's cache

Parts = Iterator[tuple[slice, Tensor]]  # a slice of the rows of a tensor, and what belongs there


def blocks(size: int, width: int) -> Iterator[slice]:
    """Slices of `size` rows of `width` vectors each, about `ROWS` vectors a slice; one slice of everything when gradients are kept."""
    step = max(1, size if torch.is_grad_enabled() else ROWS // max(1, width))
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def collect(parts: Parts, size: int, dim: int = 1) -> Tensor:
    """The parts as one tensor with `size` rows along `dim`; without gradients each is written in its place and dropped.

    With gradients there is one part, the whole (`blocks`).
    """
    if torch.is_grad_enabled():
        ((_, whole),) = parts
        return whole
    first = next(parts)
    whole = first[1].new_empty(*first[1].shape[:dim], size, *first[1].shape[dim + 1 :])
    for rows, part in chain((first,), parts):
        whole.narrow(dim, rows.start, rows.stop - rows.start).copy_(part)
    return whole


def accumulate(x: Tensor, updates: Parts) -> Tensor:
    """x plus the updates of its rows (dimension 1). Without gradients x itself is overwritten, block by block.

    The update of a block may therefore depend on no other block of x once the first update has been asked for.
    """
    if torch.is_grad_enabled():
        return x + collect(updates, x.shape[1])
    for rows, update in updates:
        x[:, rows] += update
    return x


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """x times gate, both fresh tensors; without gradients x itself is overwritten, which spares a pass over new memory."""
    return x * gate if torch.is_grad_enabled() else x.mul_(gate)


@typed
class Transition(nn.Module):
    """SI Algorithm 11. SwiGLU with its own layer norm; widths c, n c, c."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.norm = LayerNorm(c)
        self.wide = Linear(c, 2 * n * c, init="relu")  # the first half goes through swish
        self.out = Linear(n * c, c, init="zero")

    def forward(self, x: Float[Tensor, "*rows c"]) -> Float[Tensor, "*rows c"]:
        """The update, without the residual."""
        flat = x.reshape(1, -1, x.shape[-1])
        return collect(self._updates(flat), flat.shape[1]).view(x.shape)

    def add_to(self, x: Tensor) -> Tensor:
        """x [b, i, ..., c] plus its update; without gradients x itself is overwritten."""
        return accumulate(x, self._updates(x))

    def _updates(self, x: Tensor) -> Parts:
        for rows in blocks(x.shape[1], x[:, 0].numel() // x.shape[-1]):
            normed = self.norm(x[:, rows])
            swish, linear = (affine(normed, half) for half in self.wide.weight.chunk(2))
            yield rows, self.out(gated(F.silu(swish, inplace=not torch.is_grad_enabled()), linear))
