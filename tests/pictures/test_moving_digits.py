"""Clips of moving digits are made as the shipped ones were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from structgen.errors import InputError
from structgen.metrics.motion import speeds, words
from structgen.pictures.archives import write_archive
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet
from tools.moving_digits import DIGIT, ROOM, clip, moving_digits, path, shown, small

SHIPPED = Path(__file__).parents[2] / "data/pictures/moving_digits_1500.npz"


def blobs(count: int, seed: int = 0) -> PictureSet:
    """Stills [count, 1, 28, 28] of grey blocks, different from each other, black at the edge."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((count, 1, 28, 28), np.uint8)
    pixels[:, :, 6:22, 6:22] = rng.integers(40, 256, (count, 1, 16, 16))
    return PictureSet(pixels, np.zeros(count, bool), np.arange(count) % 10, tuple("0123456789"))


def test_every_shipped_clip_is_its_first_frame_moved() -> None:
    for pixels, velocity in zip((pictures := read_set(SHIPPED)).pixels[:, 0], pictures.velocity, strict=True):  # type: ignore[arg-type]
        row, column = np.flatnonzero(pixels[0].any(1))[0], np.flatnonzero(pixels[0].any(0))[0]
        fits = []  # what is black of the digit's square is not seen: one of the corners where it may be makes the clip
        for y in range(max(0, row - DIGIT), min(row, ROOM) + 1):
            for x in range(max(0, column - DIGIT), min(column, ROOM) + 1):
                digit = pixels[0, y : y + DIGIT, x : x + DIGIT]
                if digit.sum() == pixels[0].sum():
                    fits.append(np.array_equal(clip(digit, path(np.array([x, y]), velocity.astype(int))), pixels))
        assert any(fits)


def test_clips_move_as_their_captions_say_and_show_nothing_that_is_held_out() -> None:
    stills = blobs(30)
    digits = [small(still) for still in stills.pixels[:, 0]]
    kept = np.stack([clip(digits[i], path(np.array([i % ROOM, 3]), np.array([1, 0])))[None] for i in range(4)])
    judged = PictureSet(kept, np.ones(4, bool), np.arange(4), stills.classes, ("a",) * 4, np.tile([1.0, 0.0], (4, 1)).astype(np.float32))
    made = moving_digits(stills, judged, 60, seed=1)
    trained = made.part(False)
    assert np.array_equal(made.part(True).pixels, kept) and len(trained) == 60
    assert {shown(pixels[0, 0]) for pixels in trained.pixels} == {shown(digit) for digit in digits[4:]}
    for speed, velocity, label, caption in zip(speeds(trained.pixels), trained.velocity, trained.labels, trained.captions, strict=True):  # type: ignore[arg-type]
        pace, way = words(np.abs(velocity))
        assert caption == f"a {pace} digit {label} moving {way}"
        assert np.allclose(speed, np.abs(velocity), atol=1e-6)
    assert len(set(trained.captions)) > 20
    again = moving_digits(stills, judged, 60, seed=1)
    assert np.array_equal(again.pixels, made.pixels) and again.captions == made.captions
    assert not np.array_equal(moving_digits(stills, judged, 60, seed=2).pixels, made.pixels)


def test_the_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = moving_digits(blobs(4, seed=1), read_set(SHIPPED), 3, seed=0)
    write_archive(made, tmp_path / "digits.npz")
    read = read_set(tmp_path / "digits.npz")
    assert np.array_equal(read.pixels, made.pixels) and read.captions == made.captions and read.held_out.sum() == 150


def test_stills_must_be_grey_and_clips_of_the_size() -> None:
    coloured = PictureSet(np.zeros((2, 3, 28, 28), np.uint8), np.zeros(2, bool), np.zeros(2, int))
    with pytest.raises(InputError, match="grey"):
        moving_digits(coloured, read_set(SHIPPED), 1, seed=0)
    small_clips = PictureSet(np.zeros((2, 1, 8, 32, 32), np.uint8), np.ones(2, bool), np.zeros(2, int))
    with pytest.raises(InputError, match="another size"):
        moving_digits(blobs(2), small_clips, 1, seed=0)
    unlabelled = replace(blobs(2), labels=np.full(2, -1))
    with pytest.raises(InputError, match="which digits"):
        moving_digits(unlabelled, read_set(SHIPPED), 1, seed=0)
    stills = blobs(1)
    frames = clip(small(stills.pixels[0, 0]), path(np.array([3, 3]), np.array([1, 0])))
    all_shown = PictureSet(frames[None, None], np.ones(1, bool), np.zeros(1, int), captions=("a",), velocity=np.ones((1, 2), np.float32))
    with pytest.raises(InputError, match="every still"):
        moving_digits(stills, all_shown, 1, seed=0)
    unknown = replace(read_set(SHIPPED), velocity=None)
    with pytest.raises(InputError, match="speeds"):
        moving_digits(blobs(2), unknown, 1, seed=0)
