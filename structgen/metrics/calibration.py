"""How far a confidence can be believed: expected calibration error and correlation, from sums that add up over chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 20


@dataclass(frozen=True)
class Tally:
    """Sums over pairs of a predicted and a true value, both from 0 to 1, in equal bins of the predicted one."""

    count: np.ndarray  # [bins]
    predicted: np.ndarray  # [bins] sum
    true: np.ndarray  # [bins] sum
    products: np.ndarray  # [3] sums of predicted^2, true^2, predicted * true over all pairs

    @classmethod
    def of(cls, predicted: np.ndarray, true: np.ndarray, bins: int = BINS) -> Tally:
        """The tally of pairs [n]; those with a NaN are left out."""
        known = np.isfinite(predicted) & np.isfinite(true)
        p, t = np.asarray(predicted, np.float64)[known], np.asarray(true, np.float64)[known]
        at = np.clip((p * bins).astype(np.int64), 0, bins - 1)
        count, predicted_sum, true_sum = (np.bincount(at, weights=w, minlength=bins) for w in (np.ones_like(p), p, t))
        return cls(count, predicted_sum, true_sum, np.array([(p * p).sum(), (t * t).sum(), (p * t).sum()]))

    @classmethod
    def total(cls, tallies: Sequence[Tally]) -> Tally:
        """One tally of all pairs."""
        return cls(*(np.sum([getattr(tally, name) for tally in tallies], axis=0) for name in ("count", "predicted", "true", "products")))

    @classmethod
    def from_lists(cls, lists: dict[str, list[float]]) -> Tally:
        """Inverse of `lists`."""
        return cls(**{name: np.array(values, np.float64) for name, values in lists.items()})

    def lists(self) -> dict[str, list[float]]:
        """As JSON holds it."""
        return {name: getattr(self, name).tolist() for name in ("count", "predicted", "true", "products")}

    def calibration_error(self) -> float:
        """Expected calibration error: mean over the pairs of |mean predicted - mean true| of their bin (Guo et al. 2017, eq. 3)."""
        return float(np.abs(self.predicted - self.true).sum() / self.count.sum())

    def bias(self) -> float:
        """Mean predicted minus mean true: above 0 for a confidence that promises too much."""
        return float((self.predicted.sum() - self.true.sum()) / self.count.sum())

    def correlation(self) -> float:
        """Pearson's r; NaN where either value is always the same."""
        n, p, t = self.count.sum(), self.predicted.sum(), self.true.sum()
        pp, tt, pt = self.products
        spread = (pp - p * p / n) * (tt - t * t / n)
        return float((pt - p * t / n) / np.sqrt(spread)) if spread > 1e-12 * pp * tt else float("nan")
