"""SI Algorithms 23-26: the transformer of the diffusion module, over all tokens or over windows of atoms.

Activations carry a dimension for the samples of one example, [b, samples, rows, c]. Whatever does not differ between samples has size 1
there: a conditioning `s` at one noise level, and the pair biases, which are made once per prediction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from structgen.nn.attention import MASKED, attention
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm, layer_norm
from structgen.typing import Bool, Float, Tensor, typed


class Neighbourhood(ABC):
    """Which rows attend to which: groups of queries and the keys of each group."""

    @abstractmethod
    def queries(self, x: Float[Tensor, "b s rows c"]) -> Float[Tensor, "b s *groups i c"]:
        """The rows in their groups."""

    @abstractmethod
    def keys(self, x: Float[Tensor, "b s rows c"]) -> Float[Tensor, "b s *groups j c"]:
        """The rows that each group attends to."""


class Everyone(Neighbourhood):
    """All rows attend to all rows."""

    def queries(self, x: Tensor) -> Tensor:
        return x

    def keys(self, x: Tensor) -> Tensor:
        return x


@typed
class AdaLN(nn.Module):
    """SI Algorithm 26. Layer norm of `a` whose scale and offset are read from `s`."""

    def __init__(self, c: int, c_s: int) -> None:
        super().__init__()
        self.norm_a = LayerNorm(c, scale=False, offset=False)
        self.norm_s = LayerNorm(c_s, offset=False)
        self.scale = Linear(c_s, c, bias=True, init="zero")
        self.shift = Linear(c_s, c, init="zero")

    def forward(self, a: Float[Tensor, "#b #s n c"], s: Float[Tensor, "#b #s n c_s"]) -> Float[Tensor, "#b #s n c"]:
        s = self.norm_s(s)
        return torch.addcmul(self.shift(s), torch.sigmoid(self.scale(s)), self.norm_a(a))


@typed
class AttentionPairBias(nn.Module):
    """SI Algorithm 24 with a conditioning signal. The residual is outside, the pair bias an argument (`DiffusionTransformer.pair_weight`).

    `kv_norm`: keys and values read the same normalised rows as the queries (shared), rows normalised by an AdaLN of their own (separate),
    or that AdaLN applied to the output of the first (chained).
    """

    COMPILED = ("forward",)

    def __init__(self, c: int, c_s: int, heads: int, kv_norm: Literal["shared", "separate", "chained"]) -> None:
        super().__init__()
        self.heads = heads
        self.kv_norm = kv_norm
        self.norm = AdaLN(c, c_s)
        self.norm_kv = AdaLN(c, c_s) if kv_norm != "shared" else None
        self.q = Linear(c, c, bias=True)
        self.kv = Linear(c, 2 * c)
        self.gate = Linear(c, c, init="zero")
        self.out = Linear(c, c)
        self.s_gate = Linear(c_s, c, bias=True, init="gate")

    def forward(
        self, a: Float[Tensor, "b s n c"], s: Float[Tensor, "#b #s n c_s"], bias: Float[Tensor, "#b 1 *groups h i j"], around: Neighbourhood
    ) -> Float[Tensor, "b s n c"]:
        x = self.norm(a, s)                                                                          # line 1
        y = x if self.norm_kv is None else self.norm_kv(x if self.kv_norm == "chained" else a, s)
        q = self._split(around.queries(self.q(x)))                                                   # line 2
        k, v = (self._split(part) for part in around.keys(self.kv(y)).chunk(2, dim=-1))
        o = attention(q, k, v, bias).transpose(-2, -3).reshape(a.shape)                              # line 3
        o = self.out(torch.sigmoid(self.gate(x)) * o)                                                # line 4
        return torch.sigmoid(self.s_gate(s)) * o                                                     # line 5

    def _split(self, x: Tensor) -> Tensor:
        """[..., rows, c] to [..., heads, rows, c / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


@typed
class ConditionedTransition(nn.Module):
    """SI Algorithm 25. SwiGLU between an AdaLN and a gate, both reading `s`."""

    COMPILED = ("forward",)

    def __init__(self, c: int, c_s: int, n: int) -> None:
        super().__init__()
        self.norm = AdaLN(c, c_s)
        self.wide = Linear(c, 2 * n * c, init="relu")  # the first half goes through swish
        self.out = Linear(n * c, c)
        self.s_gate = Linear(c_s, c, bias=True, init="gate")

    def forward(self, a: Float[Tensor, "b s n c"], s: Float[Tensor, "#b #s n c_s"]) -> Float[Tensor, "b s n c"]:
        swish, linear = self.wide(self.norm(a, s)).chunk(2, dim=-1)
        return torch.sigmoid(self.s_gate(s)) * self.out(F.silu(swish) * linear)


GROUP = 2  # blocks whose biases are made at once: products of few rows are slow, many biases take memory


@dataclass(frozen=True)
class UnmadeBiases:
    """Pair biases that are made when their block runs and then dropped: less memory, more time if there is a second call."""

    weight: Float[Tensor, "blocks_heads c_z"]
    z: Float[Tensor, "b *groups i j c_z"]  # normalised
    seen: Bool[Tensor, "b *groups j"]

    def make(self, heads: int) -> Iterator[Float[Tensor, "b *groups h i j"]]:
        """The biases of one block after the other."""
        for weight in self.weight.split(GROUP * heads):
            yield from _biases(weight, self.z, self.seen).split(heads, dim=-3)


class DiffusionTransformer(nn.Module):
    """SI Algorithm 23. Blocks of attention and transition, each with its residual, sharing one conditioning `s` and one pair `z`.

    The blocks read z only through their biases, so z is no argument: `pair_weight` is what turns a normalised z into the biases of all
    blocks in one product.
    """

    def __init__(
        self,
        *,
        c: int,
        c_s: int,
        c_z: int,
        blocks: int,
        heads: int,
        transition: int,
        pair_norm: Literal["per_block", "per_stack"],
        kv_norm: Literal["shared", "separate", "chained"] = "shared",
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attentions = nn.ModuleList(AttentionPairBias(c, c_s, heads, kv_norm) for _ in range(blocks))
        self.transitions = nn.ModuleList(ConditionedTransition(c, c_s, transition) for _ in range(blocks))
        self.pair_norms = nn.ModuleList(LayerNorm(c_z, offset=False) for _ in range(blocks if pair_norm == "per_block" else 1))
        self.pair_biases = nn.ModuleList(Linear(c_z, heads) for _ in range(blocks))

    @property
    def biases(self) -> int:
        """Number of biases of a pair: one for every head of every block."""
        return len(self.attentions) * self.heads

    def pair_weight(self) -> Float[Tensor, "blocks_heads c_z"]:
        """W with W LN_0(z_ij) = the biases of every head of every block: the scales of the layer norms are folded into the projections."""
        weights = torch.stack([linear.get_parameter("weight") for linear in self.pair_biases])
        scales = torch.stack([norm.get_parameter("weight") for norm in self.pair_norms])
        return (weights * scales[:, None]).flatten(0, 1)

    def forward(
        self,
        a: Float[Tensor, "b s n c"],
        s: Float[Tensor, "#b #s n c_s"],
        bias: Float[Tensor, "b *groups blocks_heads i j"] | UnmadeBiases,
        around: Neighbourhood,
    ) -> Float[Tensor, "b s n c"]:
        biases = bias.make(self.heads) if isinstance(bias, UnmadeBiases) else bias.split(self.heads, dim=-3)
        for attend, transition, pair_bias in zip(self.attentions, self.transitions, biases, strict=True):
            a = a + attend(a, s, pair_bias[:, None], around)
            a = a + transition(a, s)
        return a


def pair_biases(
    weight: Float[Tensor, "blocks_heads c_z"], z: Float[Tensor, "*groups i j c_z"], seen: Bool[Tensor, "*groups j"]
) -> Float[Tensor, "*groups blocks_heads i j"]:
    """Line 2 of SI Algorithm 24 for every head of every block at once; `seen` says which keys exist."""
    return _biases(weight, normalised(z), seen)


def normalised(z: Float[Tensor, "*any c_z"]) -> Float[Tensor, "*any c_z"]:
    """LN_0(z): what the pair layer norms of all blocks have in common."""
    return layer_norm(z)


def _biases(weight: Tensor, z: Tensor, seen: Tensor) -> Tensor:
    i, j, c = z.shape[-3:]
    flat = z.reshape(-1, i * j, c)
    beta = torch.where(seen, 0.0, MASKED).to(z.dtype)[..., None, :].expand(z.shape[:-1]).reshape(-1, 1, i * j)
    return torch.baddbmm(beta, weight.expand(len(flat), -1, -1), flat.mT).view(*z.shape[:-3], -1, i, j)
