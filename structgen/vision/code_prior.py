"""The autoregressive prior: from a text to the codes of a CLIP embedding, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.generative import Rng, normal_like
from structgen.nn.linear import Linear
from structgen.typing import Float, Int, typed
from structgen.vision.causal import Causal, CausalConfig, Memory
from structgen.vision.clip import Clip
from structgen.vision.codes import Codes, CodesConfig
from structgen.vision.condition import Condition, empty_and_given
from structgen.vision.prior import unit_variance
from structgen.vision.system import TextConfig


@dataclass(frozen=True)
class CodePriorConfig:
    """The CLIP whose embeddings it makes, how they become codes, and the transformer."""

    text: TextConfig
    axes: int = 24
    buckets: int = 32
    transformer: CausalConfig = field(default_factory=CausalConfig)
    guidance: float = 1.0  # of sampling


@typed
class CodePrior(nn.Module):
    """p(codes | text) (Ramesh et al. 2022, section 2.2, "autoregressive prior").

    In a causal transformer stand: the words, the embedding of the whole text, the bucket of its dot product with the picture's embedding,
    and the codes of the picture's embedding from the widest axis on. The CLIP and the codes stand still.
    """

    def __init__(self, config: CodePriorConfig) -> None:
        super().__init__()
        self.config = config
        of_clip, width = config.text.clip, config.transformer.width
        self.clip = Clip(of_clip).requires_grad_(False)
        self.codes = Codes(CodesConfig(of_clip.c_shared, config.axes, config.buckets))
        self.dots = Codes(CodesConfig(1, 1, config.buckets))
        self.words, self.text = Linear(of_clip.width, width, bias=True), Linear(of_clip.c_shared, width, bias=True)
        self.tables = nn.Parameter(0.02 * torch.randn(config.axes, config.buckets, width))  # of the dot product and of codes that go on
        self.place = nn.Parameter(0.02 * torch.randn(of_clip.length + 1 + config.axes, width))
        self.transformer = Causal(config.transformer)
        self.out = Linear(width, config.buckets, bias=True, init="zero")

    def fit(self, embeddings: Tensor, texts: Tensor) -> None:
        """Measure axes and buckets on the embeddings [n, c] of pictures and of their texts."""
        self.codes.fit(embeddings)
        self.dots.fit((embeddings * texts).sum(1, keepdim=True))

    def targets(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        """What is predicted, [b, 1 + axes]: the bucket of the dot product, then the codes."""
        return torch.cat([self.dots.encode((embeddings * texts).sum(1, keepdim=True)), self.codes.encode(embeddings)], 1)

    def forward(self, cond: Condition, targets: Int[Tensor, "b k"]) -> Float[Tensor, "b k buckets"]:
        """Logits of every target given the text and the targets before it."""
        text, there = self._text(cond)
        tokens = torch.cat([text, self._tokens(targets[:, :-1], 0)], 1)
        there = F.pad(there, (0, targets.shape[1] - 1), value=True)
        return self.out(self.transformer(tokens, there)[0][:, text.shape[1] - 1 :])

    def step(self, code: Tensor, number: int, there: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits [b, buckets] of target `number` + 1 after that of `number`, `code` [b], with the memory of all before it."""
        x, memory = self.transformer(self._tokens(code[:, None], number), F.pad(there, (0, number + 1), value=True), memory)
        return self.out(x[:, -1]), memory

    def begin(self, cond: Condition) -> tuple[Tensor, Tensor, Memory]:
        """Logits of the first target, which of the text's tokens are there, and the memory of the text."""
        text, there = self._text(cond)
        x, memory = self.transformer(text, there)
        return self.out(x[:, -1]), there, memory

    @torch.no_grad()
    def draw(self, cond: Condition, count: int, rng: Rng, guidance: float) -> Tensor:
        """Embeddings [count, c] of length 1; the dot product is drawn from the upper half of what is predicted, as pictures with a large
        one show better what the text says. `guidance` 1: the law that was learned; above, classifier-free guidance of the logits."""
        both = empty_and_given(cond, count)
        logits, there, memory = self.begin(both)
        found: list[Tensor] = []
        for number in range(self.config.axes + 1):
            empty, given = logits.chunk(2)
            uniform = torch.special.ndtr(normal_like(torch.empty(count, dtype=torch.float64, device=given.device), rng))
            found.append(chosen(torch.lerp(empty, given, guidance), (1 + uniform) / 2 if number == 0 else uniform))
            if number < self.config.axes:
                logits, memory = self.step(found[-1].repeat(2), number, there, memory)
        return F.normalize(self.codes.decode(torch.stack(found[1:], 1)), dim=-1)

    def _text(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """Tokens of the text with its whole after them, and which of them are there."""
        words, whole = cond.require("tokens"), cond.require("vector")
        tokens = torch.cat([self.words(words), self.text(unit_variance(whole))[:, None]], 1)
        mask = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device) if cond.mask is None else cond.mask
        return tokens + self.place[: tokens.shape[1]], F.pad(mask, (0, 1), value=True)

    def _tokens(self, targets: Tensor, first: int) -> Tensor:
        """Targets [b, k] from number `first` on as tokens of the transformer."""
        numbers = torch.arange(first, first + targets.shape[1], device=targets.device)
        return self.tables[numbers, targets] + self.place[self.config.text.clip.length + 1 + numbers]


def chosen(logits: Tensor, uniform: Tensor) -> Tensor:
    """The class [b] at which the cumulated probability passes `uniform` [b]: a draw of softmax(logits) where that is uniform."""
    reached = logits.double().softmax(1).cumsum(1)
    return (reached < uniform[:, None]).sum(1).clamp(max=logits.shape[1] - 1)


def code_losses(prior: CodePrior, cond: Condition, targets: Tensor) -> Tensor:
    """-log p of every target in nats, [b, 1 + axes]."""
    return F.cross_entropy(prior(cond, targets).float().transpose(1, 2), targets, reduction="none")
