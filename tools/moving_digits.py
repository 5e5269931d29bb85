"""Write clips of moving digits: as many as wanted of the kind that `moving_digits_16x32x32.npz` holds 1,500 of.

    python -m tools.moving_digits mnist_10k.npz moving_digits_16x32x32.npz OUT.npz [--clips 20000] [--seed 1]

The first archive holds stills of digits with their labels; each, made 20 x 20, moves in a frame of 32 x 32 by one or two pixels a frame,
left and right, up and down or diagonally, and turns where it would leave the frame. The second is the set whose held-out clips are to be
judged by: they are kept as they are, held out, and no still that one of them shows is moved.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from structgen.errors import InputError
from structgen.pictures.archives import write_archive
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet

FRAMES, SIDE, DIGIT = 16, 32, 20
ROOM = SIDE - DIGIT  # places of the digit's corner, along each axis: 0 ... ROOM
PACES = {"slow": 1, "fast": 2}  # pixels a frame
WAYS = {"left and right": (1, 0), "up and down": (0, 1), "diagonally": (1, 1)}


def small(still: np.ndarray) -> np.ndarray:
    """A still, of any size (MNIST: [28, 28]), as [20, 20]: means of areas."""
    return np.asarray(Image.fromarray(still).resize((DIGIT, DIGIT), Image.Resampling.BOX))


def path(start: np.ndarray, velocity: np.ndarray, frames: int = FRAMES) -> np.ndarray:
    """Corners [frames, 2] from `start` on: along an axis on which the next step would leave 0 ... `ROOM`, the velocity turns first."""
    corners, velocity = [start], velocity.copy()
    for _ in range(frames - 1):
        ahead = corners[-1] + velocity
        velocity[(ahead < 0) | (ahead > ROOM)] *= -1
        corners.append(corners[-1] + velocity)
    return np.stack(corners)


def clip(digit: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """A digit [20, 20] at corners (column, row) of a frame each: [frames, 32, 32]."""
    frames = np.zeros((len(corners), SIDE, SIDE), np.uint8)
    for frame, (column, row) in zip(frames, corners, strict=True):
        frame[row : row + DIGIT, column : column + DIGIT] = digit
    return frames


def shown(frame: np.ndarray) -> bytes:
    """What is not black of a frame or of a still, wherever it is."""
    rows, columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
    cut = frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return bytes(cut.shape) + cut.tobytes()


def moving_digits(stills: PictureSet, judged: PictureSet, count: int, seed: int) -> PictureSet:
    """`count` clips to train on, of each still in turn, in random order, and the held-out ones of `judged`.

    Raises `InputError` for sets of another kind.
    """
    held_out, size = judged.part(True), (1, FRAMES, SIDE, SIDE)
    if held_out.pixels.shape[1:] != size:
        raise InputError("clips of another size", where=judged.where, found=str(held_out.pixels.shape[1:]), expected=str(size))
    if held_out.velocity is None:
        raise InputError("not clips of moving digits: their speeds are not given", where=judged.where, expected="an array `velocity`")
    if stills.pixels.ndim != 4 or stills.pixels.shape[1] != 1:
        raise InputError("stills are grey pictures", where=stills.where, found=str(stills.pixels.shape[1:]), expected="(1, height, width)")
    if (stills.labels < 0).any() or not held_out.captions:
        where = stills.where if held_out.captions else judged.where
        raise InputError("which digits are shown is not said", where=where, expected="stills with labels, clips with captions")
    digits = np.stack([small(still) for still in stills.pixels[:, 0]])
    seen = {shown(pixels[0, 0]) for pixels in held_out.pixels}
    free = np.array([i for i, digit in enumerate(digits) if digit.any() and shown(digit) not in seen])
    if not len(free):
        raise InputError("every still is shown by a clip that is held out", where=stills.where, remedy="give other stills")
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(free) for _ in range(-(-count // len(free)))])[:count]
    pixels, velocities, captions = np.empty((count, 1, FRAMES, SIDE, SIDE), np.uint8), np.empty((count, 2), np.float32), []
    for row, i in enumerate(order):
        (pace, speed), (way, axes) = (list(named.items())[rng.integers(len(named))] for named in (PACES, WAYS))
        velocity = speed * np.array(axes) * rng.choice([-1, 1], 2)
        pixels[row, 0] = clip(digits[i], path(rng.integers(0, ROOM + 1, 2), velocity))
        velocities[row] = velocity
        captions.append(f"a {pace} digit {stills.labels[i]} moving {way}")
    return PictureSet(
        np.concatenate([pixels, held_out.pixels]), np.arange(count + len(held_out)) >= count,
        np.concatenate([stills.labels[order], held_out.labels]), held_out.classes, (*captions, *held_out.captions),
        np.concatenate([velocities, held_out.velocity]),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stills", type=Path)
    parser.add_argument("judged", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.clips < 1:
        parser.error(f"--clips {given.clips}: give 1 or more")
    try:
        made = moving_digits(read_set(given.stills), read_set(given.judged), given.clips, given.seed)
    except InputError as error:
        parser.error(str(error))
    write_archive(made, given.out)
    print(f"{given.out}: {given.clips} clips to train on, {len(made) - given.clips} held out")


if __name__ == "__main__":
    main()
