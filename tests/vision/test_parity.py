"""Copied weights: the same answers as diffusers gave, recorded by benchmarks/vision_diffusers.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.answers import CASES

ANSWERS = load_file(Path(__file__).with_name("diffusers_answers.safetensors"))


@pytest.mark.parametrize("name", CASES)
def test_diffusers_gives_the_same_answer(name):
    """Whole transformers, a whole U-Net, and the blocks of ControlNet and cross-attention."""
    assert ANSWERS[name].std() > 0.05  # an answer of zeros would agree with a network of zeros
    assert_close(CASES[name]().answer(), ANSWERS[name], FLOAT32_LAYER)
