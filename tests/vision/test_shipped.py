"""What shipped generators draw."""

from __future__ import annotations

from pathlib import Path

from structgen.judging import motion_agreement
from structgen.pictures.sets import to_bytes
from structgen.vision.draw import Drawing, draw
from structgen.vision.files import load, model_file
from structgen.vision.system import System


def test_digits_move_as_their_captions_say():
    """Two clips of every pace and direction: at most one of the twelve goes otherwise; speeds are the caption's but for half a pixel."""
    system = load(model_file(Path("digits")), System)
    ways = ("left and right", "up and down", "diagonally")
    captions = [f"a {pace} digit {digit} moving {way}" for digit in (0, 3) for pace in ("slow", "fast") for way in ways]
    made = draw(system, system.condition(captions=captions), len(captions), Drawing(10, system.config.guidance))
    found = motion_agreement(to_bytes(made), captions)
    assert min(found["pace"], found["direction"]) > 0.9 and found["speed_error"] < 0.5
