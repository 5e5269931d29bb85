"""Pictures and clips that are bent a little at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from structgen.tasks.batches import Batching, draw_batch
from structgen.tasks.warping import Warping
from tests.pictures.test_batches import clips

SIDE = 33


def spot(column: float, row: float, count: int = 200) -> Tensor:
    """`count` pictures of black with one blurred point, whose place is in pixels from the middle."""
    along = torch.arange(SIDE) - SIDE // 2
    light = torch.exp(-((along[None] - column) ** 2 + (along[:, None] - row) ** 2) / 8)
    return (2 * light - 1).expand(count, 1, SIDE, SIDE)


def centres(x: Tensor) -> Tensor:
    """Columns and rows of the centre of light [n, 2], from the middle."""
    light, along = (x[:, 0] + 1) / 2, torch.arange(SIDE) - SIDE // 2
    return torch.stack([(light * along).sum((1, 2)), (light * along[:, None]).sum((1, 2))], -1) / light.sum((1, 2))[:, None]


@pytest.mark.parametrize(
    ("warp", "least", "most"),
    [
        (Warping(turn=20), (-20.0, 1.0), (20.0, 1.0)),
        (Warping(stretch=0.2), (0.0, 1 / 1.2), (0.0, 1 / 0.8)),
        (Warping(shear=0.3), (0.0, 1.0), (0.0, 1.0)),
    ],
)
def test_a_point_moves_within_what_was_said(warp, least, most) -> None:
    """A point 8 pixels to the right of the middle turns by up to the angle and keeps its distance; it comes nearer or goes farther by up to
    the stretch; rows lean, so on the middle row it stays. All of the range is used."""
    found = centres(warp(spot(8, 0), np.random.default_rng(0)))
    angles, radii = torch.rad2deg(torch.atan2(found[:, 1], found[:, 0])), found.norm(dim=1) / 8
    assert least[0] - 0.5 < angles.min() and angles.max() < most[0] + 0.5
    assert least[1] - 0.02 < radii.min() and radii.max() < most[1] + 0.02
    assert angles.max() - angles.min() >= 0.95 * (most[0] - least[0]) - 0.1 and radii.max() - radii.min() >= 0.9 * (most[1] - least[1])


def test_rows_lean_as_far_as_was_said() -> None:
    """A point 8 rows below the middle moves along its row, by up to 8 times the shear either way."""
    found = centres(Warping(shear=0.3)(spot(0, 8), np.random.default_rng(0)))
    assert (found[:, 1] - 8).abs().max() < 0.1 and 2.2 < found[:, 0].abs().max() < 2.5 and found[:, 0].mean().abs() < 0.3


def test_bending_moves_a_point_by_what_was_said() -> None:
    """A point on a knot moves by the standard deviation along either axis, in the mean nowhere."""
    found = centres(Warping(bend=1.0)(spot(0, 0, 400), np.random.default_rng(0)))
    assert found.mean(0).abs().max() < 0.2 and 0.6 < found.std(0).min() and found.std(0).max() < 1.2


def test_frames_of_a_clip_are_bent_alike() -> None:
    """A clip whose frames are equal stays one; two clips of a batch go different ways; light that grows along time grows as it did."""
    x = torch.cat([spot(4, 6, 2)[:, :, None].expand(-1, -1, 3, -1, -1), spot(-4, -6, 2)[:, :, None].expand(-1, -1, 3, -1, -1)], 1)
    made = Warping(10, 0.1, 0.1, 1.0)(x, np.random.default_rng(0))
    assert made.shape == x.shape and torch.equal(made[:, :, 0], made[:, :, 2])
    assert (made[0] - made[1]).abs().max() > 0.1 and (made - x).abs().max() > 0.1


def test_batches_are_warped_by_their_place() -> None:
    """The same for the same place, others for another; without a warp nothing changes."""
    plain, own = Batching(size=8), Batching(size=8, warp=Warping(stretch=0.3, bend=1.0))
    columns = replace(clips(), pixels=np.broadcast_to(np.arange(16, dtype=np.uint8) * 10, (40, 1, 5, 16, 16)).copy())
    first, again, other = (draw_batch(columns, own, place, 1).x for place in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(draw_batch(columns, plain, 0, 1).x, draw_batch(columns, replace(own, warp=Warping()), 0, 1).x)
