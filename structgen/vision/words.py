"""Captions as numbers: words of a vocabulary that was made from the captions of a training set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.errors import ConfigError

PADDING, BEGIN, END, UNKNOWN = range(4)
FIRST = 4  # number of the first word
_WORD = re.compile(r"[\w]+|[^\w\s]")


@dataclass(frozen=True)
class Vocabulary:
    """The words in the order of their numbers, and how many tokens a caption has at most, its begin and end among them."""

    words: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, captions: Sequence[str], length: int, rarest: int = 1) -> Vocabulary:
        """Words that occur `rarest` times or more, the frequent ones first."""
        counts = Counter(word for caption in captions for word in split(caption))
        found = [word for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if count >= rarest]
        return cls(tuple(found), length)

    def in_order_of(self, other: Vocabulary | None) -> Vocabulary:
        """`other` if it has the same words, which other captions may hold more or less often; itself if not."""
        if other is None or other.length != self.length or set(other.words) != set(self.words):
            return self
        return other

    def __len__(self) -> int:
        return FIRST + len(self.words)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """[b, length]: begin, words, end, padding; what is too long is cut before its end. Raises `ConfigError` for a length below 3."""
        if self.length < 3:
            raise ConfigError(f"captions of {self.length} tokens hold no word between begin and end; give 3 or more")
        numbers = {word: FIRST + n for n, word in enumerate(self.words)}
        rows = []
        for caption in captions:
            inner = [numbers.get(word, UNKNOWN) for word in split(caption)][: self.length - 2]
            rows.append([BEGIN, *inner, END] + [PADDING] * (self.length - 2 - len(inner)))
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.length)

    def one_hot(self, captions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [b, length, words], which of them are there [b, length], and how often each occurs [b, words]: the first linear layer of
        what hears them is an embedding of words, and they have no order."""
        numbers = self.encode(captions)
        tokens = torch.nn.functional.one_hot(numbers, len(self)).float()
        seen = numbers != PADDING
        return tokens, seen, (tokens * seen[..., None]).sum(1)

    def decode(self, tokens: Tensor) -> list[str]:
        """Words between begin and end, joined by blanks."""
        texts = []
        for row in tokens.tolist():
            inner = row[1 : row.index(END)] if END in row else row[1:]
            texts.append(" ".join(self.words[n - FIRST] if n >= FIRST else "?" for n in inner if n not in (PADDING, BEGIN)))
        return texts


def split(caption: str) -> list[str]:
    """Words in small letters, and signs one by one."""
    return _WORD.findall(caption.lower())
