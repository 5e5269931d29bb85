"""Edges of pictures: what a ControlNet may be trained to follow."""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.25  # of the largest gradient that a picture of bytes can have


def edges(pixels: np.ndarray) -> np.ndarray:
    """[n, c, h, w] uint8 -> [n, 1, h, w] uint8: 255 where Sobel's gradient of the mean over channels is large, else 0."""
    grey = np.pad(pixels.mean(1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]  # smoothed along columns' axis
    columns = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    across, down = rows[:, :, 2:] - rows[:, :, :-2], columns[:, 2:] - columns[:, :-2]
    return (np.hypot(across, down) > THRESHOLD * 4 * 255)[:, None].astype(np.uint8) * 255


def edge_agreement(made: np.ndarray, wanted: np.ndarray) -> float:
    """The F1 score of edges [n, 1, h, w] within one pixel: what of each lies beside the other."""
    found, asked = made > 0, wanted > 0
    precision = (found & _wider(asked)).sum() / max(found.sum(), 1)
    recall = (asked & _wider(found)).sum() / max(asked.sum(), 1)
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def _wider(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = mask.shape[-2:]
    return np.any([padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
