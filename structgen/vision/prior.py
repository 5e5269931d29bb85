"""The diffusion prior: from a text to the CLIP embedding of a picture that it describes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.nn.embeddings import Sinusoidal
from structgen.nn.linear import Linear
from structgen.typing import Float, typed
from structgen.vision.causal import Causal, CausalConfig
from structgen.vision.clip import Clip, ClipConfig, PictureTower
from structgen.vision.codec import Codec, Posterior
from structgen.vision.condition import Condition
from structgen.vision.steering import TIME_SCALE, TwoLayers

AT_ONCE = 256
POINT = -30.0  # log variance of a posterior that is one point


@dataclass(frozen=True)
class PriorConfig:
    """Widths of the embedding and of a text's tokens, and how many tokens a text has."""

    c_embedding: int
    c_tokens: int
    length: int
    transformer: CausalConfig = field(default_factory=CausalConfig)
    frequencies: int = 64


@typed
class Prior(nn.Module):
    """A `Network` of `Condition` whose state is an embedding (Ramesh et al. 2022, section 2.2).

    In a causal transformer stand: the words, the embedding of the whole text, the time, the noised embedding, and a last token that becomes
    the output. A new one returns zeros.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        c, width = config.c_embedding, config.transformer.width
        self.waves = Sinusoidal(config.frequencies, longest=10_000.0, scale=TIME_SCALE)
        self.time = TwoLayers(config.frequencies, width)
        self.words, self.text, self.state = (Linear(c_in, width, bias=True) for c_in in (config.c_tokens, c, c))
        self.asks = nn.Parameter(0.02 * torch.randn(width))
        self.place = nn.Parameter(0.02 * torch.randn(config.length + 4, width))
        self.transformer = Causal(config.transformer)
        self.out = Linear(width, c, bias=True, init="zero")

    def forward(self, x: Float[Tensor, "b c"], times: Float[Tensor, "b 1"], cond: Condition) -> Float[Tensor, "b c"]:
        words = self.words(cond.require("tokens"))
        time = self.time(self.waves(times[:, 0]).to(x.dtype))
        last = [self.text(unit_variance(cond.require("vector"))), time, self.state(x), self.asks.expand(len(x), -1)]
        tokens = torch.cat([words, torch.stack(last, 1)], 1) + self.place
        there = None if cond.mask is None else F.pad(cond.mask, (0, len(last)), value=True)
        return self.out(self.transformer(tokens, there)[0][:, -1])


def unit_variance(embedding: Tensor) -> Tensor:
    """An embedding of length 1 with entries of variance 1."""
    return embedding * embedding.shape[-1] ** 0.5


class EmbeddingCodec(Codec):
    """The picture's half of a CLIP as a codec: its latents are embeddings [b, c_shared], and nothing is decoded but their length, 1."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.picture, self.of_picture = PictureTower(config), Linear(config.widths[-1], config.c_shared)
        self.register_buffer("shift", torch.zeros(config.c_shared))
        self.register_buffer("scale", torch.ones(config.c_shared))

    def take(self, clip: Clip) -> None:
        """The weights of a trained CLIP."""
        self.picture.load_state_dict(clip.picture.state_dict())
        self.of_picture.load_state_dict(clip.of_picture.state_dict())

    def posterior(self, x: Tensor) -> Posterior:
        mean = F.normalize(self.of_picture(self.picture(x)), dim=-1)
        return Posterior(mean, torch.full_like(mean, POINT))

    def decode(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=-1)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Mean and standard deviation of every entry: embeddings lie in a narrow cone, around a mean far from 0."""
        std, mean = torch.std_mean(torch.cat([self.posterior(part).mean for part in x.split(AT_ONCE)]), 0)
        self.shift.copy_(mean)
        self.scale.copy_(std.clamp(min=1e-6))
