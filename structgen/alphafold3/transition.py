"""SI Algorithm 11, and the row-blocked residual update that every part of the pair track shares."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Float, Tensor, typed

ROWS = 4096  # vectors handled at once when no gradient is kept: the widened activations then stay in the processor's cache


def blocks(size: int, width: int) -> Iterator[slice]:
    """Slices of `size` rows of `width` vectors each, about `ROWS` vectors a slice; one slice of everything when gradients are kept."""
    step = max(1, size if torch.is_grad_enabled() else ROWS // max(1, width))
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def accumulate(x: Tensor, updates: Iterator[tuple[slice, Tensor]]) -> Tensor:
    """x + updates, given as (slice of dimension 1, its update). Without gradients x itself is overwritten, block by block.

    The update of a block may therefore depend on no other block of x once the first update has been asked for.
    """
    if torch.is_grad_enabled():
        return x + torch.cat([update for _, update in updates], dim=1)
    for rows, update in updates:
        x[:, rows] += update
    return x


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
        flat = x.reshape(-1, x.shape[-1])
        if torch.is_grad_enabled() or len(flat) <= ROWS:
            return self._update(flat).view(x.shape)
        return torch.cat([self._update(flat[rows]) for rows in blocks(len(flat), 1)]).view(x.shape)

    def add_to(self, x: Tensor) -> Tensor:
        """x [b, i, ..., c] plus its update; without gradients x itself is overwritten."""
        width = x[0, 0].numel() // x.shape[-1] * x.shape[0]
        return accumulate(x, ((rows, self._update(x[:, rows])) for rows in blocks(x.shape[1], width)))

    def _update(self, x: Tensor) -> Tensor:
        swish, linear = self.wide(self.norm(x)).chunk(2, dim=-1)
        return self.out(F.silu(swish) * linear)
