"""Sums that add up over chains give the same numbers as all pairs at once."""

from __future__ import annotations

import numpy as np
import pytest

from structgen.metrics.calibration import BINS, Tally


def pairs(n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    predicted = rng.beta(2, 3, n)
    return predicted, np.clip(0.8 * predicted + 0.1 * rng.normal(size=n), 0, 1)


def test_parts_add_up_to_the_definition() -> None:
    """Three parts, through JSON's lists, give the calibration error written out and numpy's correlation."""
    predicted, true = pairs()
    parts = [Tally.of(predicted[part], true[part]) for part in (slice(0, 100), slice(100, 101), slice(101, None))]
    tally = Tally.total([Tally.from_lists(part.lists()) for part in parts])
    expected = 0.0
    for low in np.arange(BINS) / BINS:
        inside = (predicted >= low) & (predicted < low + 1 / BINS)
        if inside.any():
            expected += inside.mean() * abs(predicted[inside].mean() - true[inside].mean())
    assert tally.calibration_error() == pytest.approx(expected)
    assert tally.correlation() == pytest.approx(np.corrcoef(predicted, true)[0, 1])
    assert tally.bias() == pytest.approx(predicted.mean() - true.mean())


def test_limits() -> None:
    """The truth is calibrated, also at 0 and 1; a constant has no correlation; a NaN does not count."""
    values = np.array([0.0, 0.3, 0.7, 1.0])
    perfect = Tally.of(values, values)
    assert perfect.calibration_error() == 0 and perfect.correlation() == pytest.approx(1)
    flat = Tally.of(np.full(4, 0.5), values)
    assert np.isnan(flat.correlation()) and flat.calibration_error() == pytest.approx(0)
    gap = Tally.of(np.array([0.2, np.nan, 0.4]), np.array([0.1, 0.5, np.nan]))
    assert gap.count.sum() == 1 and gap.calibration_error() == pytest.approx(0.1)
