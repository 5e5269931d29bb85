"""Non-negative least squares of the relative error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from structgen.cost.fit import fit, value


@pytest.mark.parametrize("seed", range(8))
def test_fit_is_that_of_scipy(seed: int):
    """The same minimum as Lawson and Hanson's algorithm, with coefficients that want to be negative among them."""
    rng = np.random.default_rng(seed)
    rows = rng.random((9, 4)) * [1, 100, 1e4, 1e-3]
    measured = rows @ (rng.normal(size=4) * [1, 0.01, 1e-4, 1e3]) + rng.random(9) + 5
    found = fit([dict(zip("abcd", row, strict=True)) for row in rows], measured)
    expected, _ = nnls(rows / measured[:, None], np.ones(9))
    assert [found[name] for name in "abcd"] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_exact_sums_are_found_again_and_unknown_terms_count_nothing():
    true = {"calls": 0.5, "dense": 2.0, "cubic": 0.0}
    terms = [{"calls": 1.0, "dense": n**2, "cubic": n**3} for n in (1.0, 2.0, 3.0, 5.0)]
    assert fit(terms, [value(true, row) for row in terms]) == pytest.approx(true, abs=1e-9)
    assert value(true, {"calls": 2.0, "other": 7.0}) == 1.0


def test_term_that_is_always_zero_gets_no_coefficient():
    assert fit([{"a": 1.0, "b": 0.0}, {"a": 2.0, "b": 0.0}], [3.0, 6.0]) == {"a": pytest.approx(3.0), "b": 0.0}
