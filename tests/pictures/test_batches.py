"""Batches by their place in the data order."""

from __future__ import annotations

import numpy as np
import torch

from structgen.pictures.sets import PictureSet
from structgen.tasks.batches import Batching, draw_batch


def clips() -> PictureSet:
    """40 clips of 5 frames of which the brightness counts up."""
    pixels = np.broadcast_to(np.arange(5, dtype=np.uint8)[:, None, None] * 40 + 10, (40, 1, 5, 2, 2)).copy()
    return PictureSet(pixels, np.zeros(40, bool), np.zeros(40, np.int64))


def test_half_of_the_clips_go_backwards() -> None:
    """Each is the clip or its frames in the other order, about half of them; the same for the same place, others for another."""
    batch = draw_batch(clips(), Batching(size=40, reverse=True), 0, 1)
    forwards = (batch.x[:, 0, 1:] > batch.x[:, 0, :-1]).flatten(1).all(1)
    backwards = (batch.x[:, 0, 1:] < batch.x[:, 0, :-1]).flatten(1).all(1)
    assert (forwards ^ backwards).all() and 10 < backwards.sum() < 30
    assert torch.equal(batch.x, draw_batch(clips(), Batching(size=40, reverse=True), 0, 1).x)
    other = draw_batch(clips(), Batching(size=40, reverse=True), 1, 1)
    assert not torch.equal(other.x, batch.x)


def test_a_shorter_clip_is_cut_at_any_place() -> None:
    """Three frames in a row, from every start."""
    x = draw_batch(clips(), Batching(size=40, frames=3), 0, 1).x
    assert x.shape == (40, 1, 3, 2, 2) and torch.allclose(x.diff(dim=2), torch.full_like(x[:, :, 1:], 40 / 127.5))
    starts = {round(draw_batch(clips(), Batching(size=40, frames=3), place, 1).x[0, 0, 0, 0, 0].item(), 3) for place in range(20)}
    assert len(starts) == 3
