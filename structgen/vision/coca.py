"""A captioner: pictures and clips to words, learned beside one space for both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.nn.linear import Linear
from structgen.typing import Float, Int, typed
from structgen.vision.attention import Attention
from structgen.vision.causal import Causal, CausalConfig
from structgen.vision.clip import LARGEST_SCALE, ClipConfig, PictureTower, contrastive_loss
from structgen.vision.patches import coordinates, places
from structgen.vision.words import BEGIN, END, PADDING, UNKNOWN, Vocabulary


@dataclass(frozen=True)
class Captioning:
    """Sizes of a captioner. A clip is cut into windows of so many frames, which are seen at once: motion shows between them."""

    window: int = 1
    widths: tuple[int, ...] = (32, 48, 64)  # of the levels of the picture's tower
    width: int = 64  # of tokens
    depth: int = 1  # of each of the two decoders
    heads: int = 4
    queries: int = 16
    c_shared: int = 48
    groups: int = 8


@dataclass(frozen=True)
class CocaConfig:
    """Channels of a picture or a frame, the words, and the sizes."""

    channels: int
    words: Vocabulary
    sizes: Captioning


class Sight(nn.Module):
    """Pictures [b, c, h, w] or clips [b, c, t, h, w] to `queries` tokens [b, queries, width]: convolutions of every window of frames, and
    queries that attend to all places of all windows (Yu et al. 2022, section 3.2, "attentional pooling")."""

    def __init__(self, channels: int, sizes: Captioning) -> None:
        super().__init__()
        self.window = sizes.window
        like = ClipConfig(channels * sizes.window, words=1, length=1, widths=sizes.widths, groups=sizes.groups)
        self.tower = PictureTower(like)
        self.enter = Linear(sizes.widths[-1], sizes.width, bias=True)
        self.queries = nn.Parameter(torch.randn(sizes.queries, sizes.width) / math.sqrt(sizes.width))
        self.norm = nn.LayerNorm(sizes.width)
        self.attention = Attention(sizes.width, c_context=sizes.width, heads=sizes.heads, qk_norm=False)

    def forward(self, x: Tensor) -> Tensor:
        clips = x if x.ndim == 5 else x[:, :, None]
        whole = clips[:, :, : clips.shape[2] // self.window * self.window].transpose(1, 2)
        windows = whole.unflatten(1, (-1, self.window)).flatten(2, 3)  # [b, k, window c, h, w]
        seen = self.tower.places(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        tokens = self.enter(seen.movedim(2, -1).flatten(1, 3))
        where = places(coordinates([seen.shape[1], *seen.shape[3:]]).to(x.device), tokens.shape[-1])
        return self.attention(self.queries.expand(len(x), -1, -1), self.norm(tokens + where.to(tokens.dtype)))


class Reader(nn.Module):
    """Attention to what is seen, then a causal block: a layer of the decoder that knows the picture."""

    def __init__(self, sizes: Captioning) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.width)
        self.cross = Attention(sizes.width, c_context=sizes.width, heads=sizes.heads, qk_norm=False)
        self.causal = Causal(CausalConfig(sizes.width, 1, sizes.heads))

    def forward(self, x: Tensor, seen: Tensor, there: Tensor) -> Tensor:
        return self.causal(x + self.cross(self.norm(x), seen), there)[0]


@typed
class Coca(nn.Module):
    """CoCa (Yu et al. 2022): a decoder of words alone, whose last token is compared with the picture, and on top of it a decoder that sees
    the picture and says the next word. [b, n] tokens of captions as `Vocabulary.encode` makes them."""

    def __init__(self, config: CocaConfig) -> None:
        super().__init__()
        self.config = config
        sizes, words = config.sizes, config.words
        self.sight = Sight(config.channels, sizes)
        self.whole = nn.Parameter(torch.randn(1, sizes.width) / math.sqrt(sizes.width))
        self.pool = Attention(sizes.width, c_context=sizes.width, heads=sizes.heads, qk_norm=False)
        self.of_picture, self.of_text = Linear(sizes.width, sizes.c_shared), Linear(sizes.width, sizes.c_shared)
        self.table = nn.Embedding(len(words), sizes.width)
        self.place = nn.Parameter(0.02 * torch.randn(words.length, sizes.width))
        self.speaker = Causal(CausalConfig(sizes.width, sizes.depth, sizes.heads))
        self.readers = nn.ModuleList(Reader(sizes) for _ in range(sizes.depth))
        self.out = Linear(sizes.width, len(words), bias=True, init="zero")
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def scale(self) -> Tensor:
        """1 / temperature, at most 100."""
        return self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()

    def pictures(self, seen: Float[Tensor, "b q c"]) -> Float[Tensor, "b s"]:
        """Vectors of length 1 of what `sight` saw: one query more attends to it (cascaded poolers)."""
        return F.normalize(self.of_picture(self.pool(self.whole.expand(len(seen), 1, -1), seen)[:, 0]), dim=-1)

    def texts(self, tokens: Int[Tensor, "b n"]) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b s"]]:
        """A vector a token, which knows those before it and no picture, and one of length 1 for the whole: that of the last token."""
        there = tokens != PADDING
        words = self.speaker(self.table(tokens) + self.place[: tokens.shape[1]], there)[0]
        last = words[torch.arange(len(words), device=words.device), there.sum(1) - 1]
        return words, F.normalize(self.of_text(last), dim=-1)

    def following(self, words: Float[Tensor, "b n c"], seen: Float[Tensor, "b q c"], tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Logits of the word after each token, given the picture and the words so far."""
        for reader in self.readers:
            words = reader(words, seen, tokens != PADDING)
        return self.out(words)

    @torch.no_grad()
    def captions(self, x: Tensor) -> list[str]:
        """The likeliest next word again and again, until the end or as many tokens as a caption has."""
        seen = self.sight(x)
        tokens = torch.full((len(x), 1), BEGIN, device=x.device)
        for _ in range(self.config.words.length - 1):
            likeliest = sayable(self.following(self.texts(tokens)[0], seen, tokens)[:, -1]).argmax(1)
            over = (tokens == END).any(1)
            tokens = torch.cat([tokens, torch.where(over, PADDING, likeliest)[:, None]], 1)
        return self.config.words.decode(tokens)


def sayable(logits: Tensor) -> Tensor:
    """Logits [..., words] with those of what is no word and no end out of reach."""
    return logits.index_fill(-1, torch.tensor([PADDING, BEGIN, UNKNOWN], device=logits.device), -torch.inf)


def coca_loss(coca: Coca, x: Tensor, tokens: Tensor, caption: float) -> tuple[Tensor, dict[str, Tensor]]:
    """L_con + `caption` L_cap (Yu et al. 2022, eq. 4), scalars: the contrastive loss of both ways, and the mean negative log-likelihood in
    nats of each word after the first given those before it and the picture. Pictures with equal captions are all right for each other."""
    seen, (words, texts) = coca.sight(x), coca.texts(tokens)
    same = (tokens[:, None] == tokens[None]).all(2)
    contrastive = contrastive_loss(coca.pictures(seen).float(), texts.float(), coca.scale(), same)
    logits, following = coca.following(words, seen, tokens)[:, :-1], tokens[:, 1:]
    said = F.cross_entropy(logits.flatten(0, 1).float(), following.flatten(), ignore_index=PADDING)
    return contrastive + caption * said, {"contrastive": contrastive, "caption": said}
