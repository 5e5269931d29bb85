"""Captions as numbers."""

from __future__ import annotations

import pytest
import torch

from structgen.errors import ConfigError
from structgen.tasks.generator import go_on_from
from structgen.vision.dit import DiTConfig
from structgen.vision.files import save
from structgen.vision.steering import Steering
from structgen.vision.system import NetworkChoice, System, SystemConfig, Vector
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


def test_the_same_words_keep_the_order_that_weights_were_trained_with(tmp_path):
    """Of another set with the same words, some more frequent: the network that starts from the file hears captions as it did."""

    def system(captions: list[str]) -> System:
        network = NetworkChoice(dit=DiTConfig(1, (1, 4, 4), 8, 1, 1, steering=Steering(c_vector=FIRST + 3, frequencies=4)))
        return System(SystemConfig(network=network, size=(1, 2, 8, 8), vector=Vector.TEXT, words=Vocabulary.of(captions, 5)))

    trained, other = system(["a b", "a b", "a c"]), system(["a c", "a c", "a b"])
    save(trained, tmp_path / "model.safetensors", card="")
    go_on_from(other, str(tmp_path / "model.safetensors"))
    assert other.config.words.words == trained.config.words.words == ("a", "b", "c")
    assert torch.equal(other.condition(captions=["a c"]).vector, trained.condition(captions=["a c"]).vector)
    with pytest.raises(ConfigError, match="another words"):
        go_on_from(system(["a b", "a d", "a d"]), str(tmp_path / "model.safetensors"))
