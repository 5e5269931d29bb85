"""Pictures and clips bent a little at random: other hands and other sizes, for sets that a network would learn by heart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

KNOTS = 5  # a side of the grid on which the bending is drawn; smooth between


@dataclass(frozen=True)
class Warping:
    """The most that a picture is changed; all frames of a clip alike, so that what moves goes on moving as it did. 0: not at all.

    Captions stay true while a turn is small beside the angles between the directions that they tell apart, and a stretch beside the ratio
    of the speeds.
    """

    turn: float = 0.0  # degrees, either way
    stretch: float = 0.0  # share by which each axis grows or shrinks
    shear: float = 0.0  # columns a row
    bend: float = 0.0  # pixels: standard deviation of the shift of each knot of a smooth grid

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """x [b, c, (t,) h, w] bent about the middle, each example in its own way; beyond an edge its last pixels go on."""
        if self == Warping():
            return x
        flat = x.flatten(1, -3)
        return F.grid_sample(flat, self._places(flat, rng).to(x), padding_mode="border", align_corners=False).view_as(x)

    def _places(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Where each pixel is taken from [b, h, w, 2], columns and rows, -1 ... 1 from edge to edge."""
        b, (h, w) = len(x), x.shape[-2:]
        angle, (columns, rows) = math.radians(self.turn) * _even(rng, b), self.stretch * _even(rng, 2, b)
        cos, sin, lean = np.cos(angle), np.sin(angle), self.shear * _even(rng, b)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        tall = np.stack([np.stack([1 + columns, lean], -1), np.stack([np.zeros(b), 1 + rows], -1)], -2)
        sides = np.array([w, h]) / 2  # angles are those of pixels
        matrix = (turn @ tall) * sides / sides[:, None]
        even = F.affine_grid(F.pad(torch.from_numpy(matrix), (0, 1)), [b, 1, h, w], align_corners=False)
        knots = torch.from_numpy(rng.normal(size=(b, 2, KNOTS, KNOTS))) * self.bend
        shift = F.interpolate(knots, size=(h, w), mode="bicubic", align_corners=True).movedim(1, -1)
        return even + shift / torch.from_numpy(sides)


def _even(rng: np.random.Generator, *size: int) -> np.ndarray:
    return rng.uniform(-1, 1, size)
