"""Captions as numbers."""

from __future__ import annotations

import pytest

from structgen.errors import ConfigError
from structgen.vision.words import BEGIN, END, FIRST, PADDING, UNKNOWN, Vocabulary


def test_captions_come_back_as_words():
    """Frequent words first; unknown ones are marked, long captions cut before their end."""
    words = Vocabulary.of(["a cat: red", "A cat", "a dog"], length=6, rarest=1)
    assert words.words[:2] == ("a", "cat") and len(words) == FIRST + 5
    tokens = words.encode(["a red CAT", "a blue dog", "a a a a a a a", ""])
    assert tokens.shape == (4, 6) and tokens[0].tolist()[:1] == [BEGIN] and tokens[0, 4] == END and tokens[0, 5] == PADDING
    assert tokens[1, 2] == UNKNOWN and tokens[2, 5] == END and tokens[3].tolist() == [BEGIN, END, *[PADDING] * 4]
    assert words.decode(tokens) == ["a red cat", "a ? dog", "a a a a", ""]
    assert words.encode([]).shape == (0, 6)
    assert Vocabulary.of(["a b", "a c"], 5, rarest=2).words == ("a",)
    with pytest.raises(ConfigError, match="give 3 or more"):
        Vocabulary((), 2).encode(["a"])
