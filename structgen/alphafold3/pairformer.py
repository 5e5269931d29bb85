"""SI Algorithm 17 with the unconditioned Algorithm 24."""

from __future__ import annotations

import torch
from torch import nn

from structgen.alphafold3.config import Pair
from structgen.alphafold3.transition import Transition
from structgen.alphafold3.triangle import PairTrack, pair_bias
from structgen.nn.attention import attention
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Bool, Float, Tensor, typed


@typed
class AttentionPairBias(nn.Module):
    """SI Algorithm 24 without conditioning: attention over the tokens with the pair representation as bias."""

    def __init__(self, c_s: int, c_z: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = LayerNorm(c_s)
        self.q = Linear(c_s, c_s, bias=True)
        self.kv = Linear(c_s, 2 * c_s)
        self.norm_z = LayerNorm(c_z)
        self.bias = Linear(c_z, heads)
        self.gate = Linear(c_s, c_s, init="zero")
        self.out = Linear(c_s, c_s, init="zero")

    def forward(
        self, s: Float[Tensor, "b n c_s"], z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n c_s"]:
        """The update of s, without the residual."""
        s = self.norm(s)
        q = self.q(s).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(s).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        o = attention(q, k, v, pair_bias(z, self.norm_z, self.bias, token_mask))
        return self.out(o.transpose(1, 2).flatten(-2) * torch.sigmoid(self.gate(s)))


@typed
class SingleTrack(nn.Module):
    """SI Algorithm 17, lines 7 and 8."""

    def __init__(self, c_s: int, c_z: int, *, heads: int, transition: int) -> None:
        super().__init__()
        self.attention = AttentionPairBias(c_s, c_z, heads)
        self.transition = Transition(c_s, transition)

    def forward(
        self, s: Float[Tensor, "b n c_s"], z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n c_s"]:
        s = s + self.attention(s, z, token_mask)
        return s + self.transition(s)


@typed
class PairformerBlock(nn.Module):
    """SI Algorithm 17, lines 2 to 8: the pair track, then the single track (where there is one), which never feeds z."""

    COMPILED = ("forward",)

    def __init__(self, *, c_s: int | None, heads: int, transition: int, pair: Pair) -> None:
        super().__init__()
        self.pair = PairTrack(pair)
        self.single = None if c_s is None else SingleTrack(c_s, pair.c_z, heads=heads, transition=transition)

    def forward(
        self, s: Float[Tensor, "b n c_s"] | None, z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c_s"] | None, Float[Tensor, "b n n c_z"]]:
        """The new s and z; without gradients z itself is overwritten and returned."""
        z = self.pair(z, token_mask)
        return (s if self.single is None or s is None else self.single(s, z, token_mask)), z


@typed
class PairformerStack(nn.Module):
    """SI Algorithm 17. `c_s` and s are None where there is no single track (Algorithm 16); `token_mask` is None where nothing is padded."""

    def __init__(self, blocks: int, *, c_s: int | None, heads: int, transition: int, pair: Pair) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PairformerBlock(c_s=c_s, heads=heads, transition=transition, pair=pair) for _ in range(blocks))

    def forward(
        self, s: Float[Tensor, "b n c_s"] | None, z: Float[Tensor, "b n n c_z"], token_mask: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c_s"] | None, Float[Tensor, "b n n c_z"]]:
        """The new s and z; the caller's tensors are left as they are."""
        return self.overwrite(s, z if torch.is_grad_enabled() else z.clone(), token_mask)

    def overwrite(self, s: Tensor | None, z: Tensor, token_mask: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """As `forward`, but without gradients z itself is overwritten and returned: one pair tensor less in memory."""
        for block in self.blocks:
            s, z = block(s, z, token_mask)
        return s, z
