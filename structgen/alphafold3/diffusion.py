"""SI Algorithms 20-22: the network that moves noisy atoms, given what the trunk found out.

Algorithm 20 as a whole is `Denoiser(DiffusionModule(config), VarianceExploding(), Preconditioned(sigma_data))` of the generative core: the
core scales inputs and outputs (lines 2 and 8), this module is the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from structgen.alphafold3.atoms import AtomAttentionDecoder, AtomAttentionEncoder, AtomCondition, AtomLayout, TrunkFeatures, TrunkToAtoms
from structgen.alphafold3.config import Config
from structgen.alphafold3.inputs import RelativePositionEncoding, relative_classes, relative_features
from structgen.alphafold3.transformer import DiffusionTransformer, Everyone, UnmadeBiases, normalised, pair_biases
from structgen.alphafold3.transition import Parts, Transition, blocks, collect
from structgen.alphafold3.trunk import TrunkOutput
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from structgen.nn.norms import LayerNorm
from structgen.typing import Float, Tensor, typed

FOURIER_SEED = 42


@dataclass(frozen=True)
class StructureCondition:
    """All that the diffusion module knows beside noisy positions and noise level: made once per prediction, the same for every sample."""

    layout: AtomLayout
    atoms: AtomCondition  # of encoder and decoder
    single: Float[Tensor, "b 1 n c_s"]
    bias: Float[Tensor, "b blocks_heads n n"] | UnmadeBiases  # of every token block; the largest object, in the network's own precision


@typed
class FourierEmbedding(nn.Module):
    """SI Algorithm 22. cos(2 pi (x w + b)) with fixed random w and b, which belong to the checkpoint and are float32 in every precision."""

    w: Tensor
    b: Tensor

    def __init__(self, c: int, bias: str) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(FOURIER_SEED)
        draw = torch.randn if bias == "normal" else torch.rand
        self.register_buffer("w", torch.randn(c, generator=rng, device="cpu"))
        self.register_buffer("b", draw(c, generator=rng, device="cpu"))

    def forward(self, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any c"]:
        return torch.cos(2 * math.pi * (x.to(self.w.dtype)[..., None] * self.w + self.b))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FourierEmbedding:
        """Follow a module to another device and to float64, but not below float32: angles of many turns have no digits to spare."""
        exact = {"w": self.w, "b": self.b}
        super()._apply(fn, recurse)
        for name, moved in list(self.named_buffers()):
            if moved.dtype.itemsize < 4:
                setattr(self, name, exact[name].to(moved.device, torch.float32))
        return self


@typed
class DiffusionConditioning(nn.Module):
    """SI Algorithm 21. Pairs and tokens as the diffusion module sees them; only the tokens know the noise level."""

    COMPILED = ("pairs", "forward")

    def __init__(self, config: Config) -> None:
        super().__init__()
        inputs, diffusion, c_s, c_z = config.inputs, config.diffusion, config.c_s, config.c_z
        self.inputs = inputs
        self.relative = RelativePositionEncoding(inputs, c_z) if diffusion.relpos == "projected" else None
        c_pair = c_z + (c_z if self.relative is not None else inputs.c_relative)
        self.pair_norm = LayerNorm(c_pair, offset=False)
        self.pair = Linear(c_pair, c_z)
        self.pair_transitions = nn.ModuleList(Transition(c_z, diffusion.transition) for _ in range(2))
        self.single_norm = LayerNorm(c_s + inputs.c_s_inputs, offset=False)
        self.single = Linear(c_s + inputs.c_s_inputs, c_s)
        self.fourier = FourierEmbedding(diffusion.c_fourier, diffusion.fourier_bias)
        self.noise_norm = LayerNorm(diffusion.c_fourier, offset=False)
        self.noise = Linear(diffusion.c_fourier, c_s)
        self.single_transitions = nn.ModuleList(Transition(c_s, diffusion.transition) for _ in range(2))

    def relative_table(self) -> Float[Tensor, "classes c"]:
        """What line 1 puts beside the trunk's pair, for every class of `relative_classes`."""
        if self.relative is not None:
            return self.relative.table()
        return relative_features(self.inputs, self.pair.weight.device).to(self.pair.weight.dtype)

    def pairs(self, z: Float[Tensor, "b i j c_z"], relative: Float[Tensor, "b i j c"]) -> Float[Tensor, "b i j c_z"]:
        """Line 1 for some rows of z."""
        z = self.pair(self.pair_norm(torch.cat([z.to(relative.dtype), relative], dim=-1)))
        for transition in self.pair_transitions:
            z = cast(Transition, transition).add_to(z)
        return z

    def tokens(self, trunk: TrunkOutput) -> Float[Tensor, "b 1 n c_s"]:
        """Line 2."""
        s = torch.cat([trunk.s, trunk.s_inputs], dim=-1).to(self.single.weight.dtype)
        return self.single(self.single_norm(s))[:, None]

    def forward(self, single: Float[Tensor, "b 1 n c_s"], times: Float[Tensor, "#b s"]) -> Float[Tensor, "b s n c_s"]:
        """Lines 3-4 at noise levels `times` = log(t / sigma_data) / 4."""
        noise = self.noise_norm(self.fourier(times).to(single.dtype))
        s = single + self.noise(noise)[:, :, None]
        for transition in self.single_transitions:
            s = cast(Transition, transition).add_to(s)
        return s


@typed
class DiffusionModule(nn.Module):
    """SI Algorithm 20, lines 1 and 3-7. A `Network` of the generative core whose condition is a `StructureCondition`.

    b examples of one or more samples each; the B = b * samples rows of positions are ordered by example.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        diffusion, c_s, c_z = config.diffusion, config.c_s, config.c_z
        c = diffusion.c_token
        self.conditioning = DiffusionConditioning(config)
        self.to_atoms = TrunkToAtoms(diffusion.atoms, c_s, c_z)
        self.encoder = AtomAttentionEncoder(config.inputs, diffusion.atoms, c)
        self.single_norm = LayerNorm(c_s, offset=False)
        self.single = Linear(c_s, c, init="zero")
        self.transformer = DiffusionTransformer(
            c=c,
            c_s=c_s,
            c_z=c_z,
            blocks=diffusion.blocks,
            heads=diffusion.heads,
            transition=diffusion.transition,
            pair_norm=diffusion.pair_norm,
        )
        self.norm = LayerNorm(c, offset=False)
        self.decoder = AtomAttentionDecoder(diffusion.atoms, c)

    def condition(self, batch: Batch, trunk: TrunkOutput) -> StructureCondition:
        """Everything that depends on neither noise level nor sample. The conditioned pairs are dropped once the biases are made of them."""
        weight = self.transformer.pair_weight()
        pair, bias = self._pairs(batch, trunk, lambda z: pair_biases(weight, z, batch.token_mask), dim=2)
        return self._assembled(batch, trunk, pair, bias)

    def condition_once(self, batch: Batch, trunk: TrunkOutput) -> StructureCondition:
        """The same for a single call (one denoising, a one-step sampler): pairs are held in place of the biases of all blocks."""
        pair, z = self._pairs(batch, trunk, normalised, dim=1)
        return self._assembled(batch, trunk, pair, UnmadeBiases(self.transformer.pair_weight(), z, batch.token_mask))

    def forward(
        self, r: Float[Tensor, "samples atoms 3"], times: Float[Tensor, "samples 1"], cond: StructureCondition
    ) -> Float[Tensor, "samples atoms 3"]:
        """The update of scaled positions r = c_in x at times = log(t / sigma_data) / 4; 0 for atoms that do not exist."""
        layout, examples = cond.layout, len(cond.single)
        r = layout.pad(r * layout.mask[:, : layout.atoms].repeat_interleave(len(r) // examples, dim=0)[..., None])
        s = self.conditioning(cond.single, _noise_levels(times, examples))                                 # line 1
        a, q = self.encoder(layout, cond.atoms, self.to_atoms.positions(r.unflatten(0, (examples, -1))))     # line 3
        a = a + self.single(self.single_norm(s))                                                           # line 4
        a = self.transformer(a, s, cond.bias, Everyone())                                                  # line 5
        update = self.decoder(self.norm(a), q, layout, cond.atoms)                                         # lines 6-7
        return (update * layout.mask[:, None, :, None])[:, :, : layout.atoms].flatten(0, 1)

    def _assembled(self, batch: Batch, trunk: TrunkOutput, pair: Tensor, bias: Tensor | UnmadeBiases) -> StructureCondition:
        layout = AtomLayout.of(batch, self.encoder.config)
        features = TrunkFeatures(self.to_atoms.tokens(trunk.s.to(pair.dtype)), pair)
        atoms = self.encoder.condition(batch, layout, (self.encoder.transformer, self.decoder.transformer), features)
        return StructureCondition(layout, atoms, self.conditioning.tokens(trunk), bias)

    def _pairs(self, batch: Batch, trunk: TrunkOutput, made: Callable[[Tensor], Tensor], dim: int) -> tuple[Tensor, Tensor]:
        """Of the conditioned pairs, a block of rows at a time: what atoms read, and what `made` makes of them (its rows along `dim`)."""
        classes, table = relative_classes(batch, self.conditioning.inputs), self.conditioning.relative_table()
        b, n = batch.token_mask.shape
        projected = []

        def parts() -> Parts:
            for rows in blocks(n, b * n):
                z = self.conditioning.pairs(trunk.z[:, rows], F.embedding(classes[:, rows], table))
                projected.append(self.to_atoms.pairs(z))
                yield rows, made(z)

        whole = collect(parts(), n, dim)
        return torch.cat(projected, dim=1), whole


def _noise_levels(times: Tensor, examples: int) -> Tensor:
    """[samples, 1] to [examples, samples of one], or to [1, 1] if all are equal and no gradient is kept: conditioned once for all."""
    if not torch.is_grad_enabled() and bool((times == times[0]).all()):
        return times[:1]
    return times.view(examples, -1)
