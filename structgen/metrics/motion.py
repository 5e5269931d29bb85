"""What a clip of one bright thing on black shows: where it is, how fast and in which direction it goes."""

from __future__ import annotations

import numpy as np

FLOOR = 40  # of 255: what is darker is background
FASTER = 1.5  # pixels a frame, between slow (1) and fast (2)
MOVING = 0.5  # pixels a frame along an axis


def centroids(clips: np.ndarray, floor: int = FLOOR) -> np.ndarray:
    """[n, 1, t, h, w] uint8 -> (column, row) of the centre of light above `floor` in every frame, [n, t, 2]; NaN where all is dark."""
    light = np.where(clips[:, 0] > floor, clips[:, 0], 0).astype(np.float64)
    rows, columns = np.arange(clips.shape[-2]), np.arange(clips.shape[-1])
    with np.errstate(invalid="ignore"):
        return np.stack([(light.sum(-2) * columns).sum(-1), (light.sum(-1) * rows).sum(-1)], -1) / light.sum((-1, -2))[..., None]


def speeds(clips: np.ndarray, floor: int = FLOOR) -> np.ndarray:
    """Median over frames of the distance gone along columns and along rows, pixels a frame [n, 2]: what bounces keeps its speed."""
    return np.nanmedian(np.abs(np.diff(centroids(clips, floor), axis=1)), axis=1)


def words(speed: np.ndarray) -> tuple[str, str]:
    """The caption's words for a speed [2]: slow or fast, and left and right, up and down or diagonally."""
    pace = "fast" if speed.max() > FASTER else "slow"
    ways = {(True, True): "diagonally", (True, False): "left and right", (False, True): "up and down", (False, False): "nowhere"}
    return pace, ways[bool(speed[0] > MOVING), bool(speed[1] > MOVING)]
