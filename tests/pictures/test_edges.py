"""Edges and how well they are met."""

from __future__ import annotations

import numpy as np

from structgen.pictures.edges import edge_agreement, edges


def test_edges_lie_where_brightness_jumps():
    """Both sides of a step, in any channel; none in flat pictures or slow ramps."""
    pixels = np.zeros((3, 3, 8, 8), np.uint8)
    pixels[0, :, :, 4:] = 255
    pixels[1] = np.arange(8) * 10
    pixels[2] = 200
    found = edges(pixels)
    assert found.shape == (3, 1, 8, 8) and set(np.unique(found)) == {0, 255}
    assert (found[0, 0] == 255)[:, 3:5].all() and (found[0, 0, :, :3] == 0).all() and (found[0, 0, :, 5:] == 0).all()
    assert not found[1:].any()
    assert (edges(pixels.swapaxes(2, 3))[0, 0] == found[0, 0].T).all()


def test_agreement_is_within_a_pixel():
    """1 for the same and for a neighbour's, 0 for none, the F1 score between."""
    one, near, far = np.zeros((3, 1, 1, 9, 9), np.uint8)
    one[..., 4], near[..., 5], far[..., 7] = 255, 255, 255
    assert edge_agreement(one, one) == edge_agreement(one, near) == 1 and edge_agreement(one, far) == 0
    assert abs(edge_agreement(one | far, one) - 2 / 3) < 1e-12 and edge_agreement(0 * one, one) == 0
