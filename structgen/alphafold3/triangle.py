"""SI Algorithms 12 to 15, and the pair track that they and Algorithm 11 make.

Without gradients every part works in blocks of rows and overwrites z, and the planes of the multiplication are made for a group of
channels at a time: beside z itself about one more tensor of its size is alive, and nothing of shape [n, heads, n, n] or [n, n, 4 c].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from structgen.alphafold3.config import Pair
from structgen.alphafold3.transition import Parts, Transition, accumulate, blocks, collect, gated
from structgen.nn.attention import MASKED, attention
from structgen.nn.linear import Linear, affine
from structgen.nn.norms import LayerNorm
from structgen.precision import in_autocast
from structgen.typing import Bool, Float, Tensor, typed

PLANES = 32  # fewest channels of a triangle multiplication that are multiplied at once when no gradient is kept
GROUP = 1 << 21  # values of such a group of planes where they are small: every group reads and normalises z once more


def planes(weight: Tensor, x: Tensor) -> Tensor:
    """W x_ij with the channels first: weight [c_out, c], x [b, i, j, c] to [b, c_out, i, j], without a transposition in memory."""
    flat = x.flatten(1, 2)
    if torch.is_grad_enabled():
        product = _Planes.apply(in_autocast(weight), in_autocast(flat))
    else:
        product = affine(weight, flat[0])[None] if len(x) == 1 else weight @ flat.transpose(1, 2)
    return product.unflatten(2, x.shape[1:3])


class _Planes(torch.autograd.Function):
    """W x^T of W [c_out, c] and x [b, p, c] as dense planes [b, c_out, p], with a gradient of x that is dense rows: no transpositions."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x)
        return torch.bmm(weight.expand(len(x), -1, -1), x.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, x = ctx.saved_tensors
        return torch.bmm(grad, x).sum(0), torch.bmm(grad.transpose(1, 2), weight.expand(len(x), -1, -1))


def pair_bias(z: Tensor, norm: LayerNorm, project: Linear, token_mask: Tensor | None) -> Tensor:
    """Lin(LN(z)) as the bias of an attention, [b, h, i, j], with the keys j that are padding masked."""
    rows_of = blocks(z.shape[1], z.shape[0] * z.shape[2])
    bias = collect(((rows, planes(project.weight, norm(z[:, rows]))) for rows in rows_of), z.shape[1], dim=2)
    return bias if token_mask is None else bias.masked_fill(~token_mask[:, None, None, :], MASKED)


def shared_dropout(x: Tensor, rate: float) -> Tensor:
    """A dropout factor for x [b, i, j, c] that is the same for all rows i (AF3_ALGORITHMS 1.3), drawn by torch's own generator."""
    return F.dropout(x.new_ones(x.shape[0], 1, *x.shape[2:]), rate, training=True)


@typed
class TriangleUpdate(nn.Module, ABC):
    """What Algorithms 12 to 15 have in common: an update of z made row by row, with row-wise dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    @abstractmethod
    def updates(self, z: Tensor, token_mask: Tensor | None) -> Parts:
        """The updates of blocks of rows of z. Once the first has been asked for, each reads no other rows of z than its own."""

    def turn(self, z: Tensor) -> Tensor:
        """z as the rows see it, and back."""
        return z

    def forward(self, z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n n c_z"]:
        """The update, without dropout and residual."""
        return self.turn(collect(self.updates(self.turn(z), token_mask), z.shape[1]))

    def add_to(self, z: Tensor, token_mask: Tensor | None) -> Tensor:
        """z plus the (dropped) update; without gradients z itself is overwritten."""
        x = self.turn(z)
        updates = self.updates(x, token_mask)
        if self.training and self.dropout > 0:
            factor = shared_dropout(x, self.dropout)
            updates = ((rows, update * factor) for rows, update in updates)
        return self.turn(accumulate(x, updates))


class TriangleMultiplication(TriangleUpdate):
    """The projections, gates and norms of Algorithms 12 and 13."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.dropout)
        self.hidden = pair.tri_hidden
        self.norm = LayerNorm(pair.c_z)
        self.projections = Linear(pair.c_z, 2 * pair.tri_hidden)  # a, then b
        self.gates = Linear(pair.c_z, 2 * pair.tri_hidden, init="zero")
        self.norm_out = LayerNorm(pair.tri_hidden)
        self.out = Linear(pair.tri_hidden, pair.c_z, init="zero")
        self.gate_out = Linear(pair.c_z, pair.c_z, init="zero")

    @abstractmethod
    def combine(self, a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Line 2: planes a, b [..., n, n] to o, written to `out` if given."""

    def updates(self, z: Tensor, token_mask: Tensor | None) -> Parts:
        o = self._products(z, token_mask)
        for rows in blocks(z.shape[1], z.shape[0] * z.shape[2]):
            gate = torch.sigmoid(self.gate_out(self.norm(z[:, rows])))
            yield rows, gated(self.out(self.norm_out(o[:, :, rows].permute(0, 2, 3, 1))), gate)

    def _products(self, z: Tensor, token_mask: Tensor | None) -> Tensor:
        """Lines 1 and 2: o, [b, c, n, n]; without gradients every part is written in its place."""
        if torch.is_grad_enabled():
            return self.combine(*self._masked(F.glu(planes(self._weight(slice(None)), self.norm(z)), dim=1), token_mask))
        b, n = z.shape[:2]
        o = z.new_empty(b, self.hidden, n, n)
        step = max(PLANES, GROUP // (n * n))
        for start in range(0, self.hidden, step):
            group = slice(start, min(start + step, self.hidden))
            for example, product in zip(zip(*self._masked(self._operands(z, group), token_mask), strict=True), o[:, group], strict=True):
                self.combine(*example, out=product)
        return o

    def _operands(self, z: Tensor, group: slice) -> Tensor:
        """Line 1 for a group of channels: a, then b, [b, 2 c, n, n]."""
        weight = self._weight(group)
        both = z.new_empty(len(z), len(weight) // 2, *z.shape[1:3])
        for rows in blocks(z.shape[1], z.shape[0] * z.shape[2]):
            torch.ops.aten.glu.out(planes(weight, self.norm(z[:, rows])), 1, out=both[:, :, rows])
        return both

    def _weight(self, group: slice) -> Tensor:
        """Projections of a and b for a group of channels, then their gates."""
        return torch.cat([layer.weight.unflatten(0, (2, -1))[:, group].flatten(0, 1) for layer in (self.projections, self.gates)])

    def _masked(self, both: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """a and b, 0 where a token is padding."""
        if token_mask is not None:
            both = both * (token_mask[:, :, None] & token_mask[:, None, :])[:, None]
        a, b = both.chunk(2, dim=1)
        return a, b


class TriangleMultiplicationOutgoing(TriangleMultiplication):
    """SI Algorithm 12. o_ij = sum_k a_ik b_jk."""

    def combine(self, a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.matmul(a, b.transpose(-1, -2), out=out)


class TriangleMultiplicationIncoming(TriangleMultiplication):
    """SI Algorithm 13. o_ij = sum_k a_ki b_kj, or sum_k a_kj b_ki (`incoming`)."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair)
        self.order = pair.incoming

    def combine(self, a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
        first, second = (a, b) if self.order == "a_ki" else (b, a)
        return torch.matmul(first.transpose(-1, -2), second, out=out)


class TriangleAttention(TriangleUpdate):
    """The projections and the attention of Algorithms 14 and 15, which see z as `turn` gives it."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.dropout)
        self.heads = pair.heads
        width = pair.heads * pair.c_head
        self.norm = LayerNorm(pair.c_z)
        self.qkv = Linear(pair.c_z, 3 * width)
        self.bias = Linear(pair.c_z, pair.heads)
        self.gate = Linear(pair.c_z, width, init="zero")
        self.out = Linear(width, pair.c_z, init="zero")

    @abstractmethod
    def biased(self, z: Tensor) -> Tensor:
        """z as the bias reads it."""

    def updates(self, z: Tensor, token_mask: Tensor | None) -> Parts:
        bias = pair_bias(self.biased(z), self.norm, self.bias, token_mask)[:, None]
        for rows in blocks(z.shape[1], z.shape[0] * z.shape[2]):
            x = self.norm(z[:, rows])
            q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
            o = attention(q, k, v, bias).transpose(-2, -3).flatten(-2)
            yield rows, self.out(gated(o, torch.sigmoid(self.gate(x))))


class TriangleAttentionStarting(TriangleAttention):
    """SI Algorithm 14. Row i attends over k with q_ij, k_ik, v_ik and bias b_jk."""

    def biased(self, z: Tensor) -> Tensor:
        return z


class TriangleAttentionEnding(TriangleAttention):
    """SI Algorithm 15. Column j attends over k with q_ij, k_kj, v_kj and bias b_ki or b_ik (`end_node_bias`).

    With b_ki this is Algorithm 14 on z transposed.
    """

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair)
        self.end_node_bias = pair.end_node_bias

    def turn(self, z: Tensor) -> Tensor:
        return z.transpose(1, 2)

    def biased(self, z: Tensor) -> Tensor:
        return z if self.end_node_bias == "ki" else z.transpose(1, 2)


@typed
class PairTrack(nn.Module):
    """SI Algorithm 17, lines 2 to 6 (and the same lines of Algorithms 8 and 16): the five updates of z, or three (`Pair.attention`)."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.outgoing = TriangleMultiplicationOutgoing(pair)
        self.incoming = TriangleMultiplicationIncoming(pair)
        self.starting = TriangleAttentionStarting(pair) if pair.attention else None
        self.ending = TriangleAttentionEnding(pair) if pair.attention else None
        self.transition = Transition(pair.c_z, pair.transition)

    def forward(self, z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n n c_z"]:
        """The new z; without gradients z itself is overwritten and returned."""
        for update in (self.outgoing, self.incoming, self.starting, self.ending):
            z = z if update is None else update.add_to(z, token_mask)
        return self.transition.add_to(z)
