"""Rows F14 to F16: the variants of SD3's table 1, as runs of the trainer, and how they are ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.trajectories import TABLE, Variant, fronts, rank_correlation, ranks, run_of
from structgen.tasks.generator import GeneratorTraining
from structgen.vision.formulations import TRAJECTORIES
from workflows.training_run import task_settings

DRAWS = 4000


@pytest.mark.parametrize("variant", TABLE, ids=lambda variant: variant.name)
def test_F14_F15_F16_every_row_of_the_table_is_a_run(variant: Variant, measured):
    """The trainer reads it, its trajectory is the one it names, and it draws times by the density that it names: the largest distance of
    the shares of draws from the integral of the density is what chance leaves (Kolmogorov and Smirnov)."""
    settings = task_settings(run_of(variant, Path("out"), 10, 4))
    assert isinstance(settings, GeneratorTraining) and variant.name.startswith(settings.trajectory.value.split("/")[0])
    objective = TRAJECTORIES[settings.trajectory].objective(settings.times())
    t = objective.times.draw(torch.empty(DRAWS, dtype=torch.float64), torch.Generator().manual_seed(0)).sort().values
    first, last = TRAJECTORIES[settings.trajectory].bounds
    spaced = torch.linspace(np.log(first / 10), np.log(last), 40_001, dtype=torch.float64).exp()
    mass = torch.cumulative_trapezoid((objective.times.log_density(spaced)).exp().nan_to_num(), spaced)
    inside = (t > 1.01 * first) & (t < 0.99 * last)
    expected = torch.from_numpy(np.interp(t.numpy(), spaced[1:].numpy(), mass.numpy()))
    found = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    worst = (found - expected)[inside].abs().max().item() * DRAWS**0.5
    measured("F15", f"{variant.name}: distance of drawn times from their density, in units of 1 / sqrt(n)", worst, 2.0)
    assert worst < 2.0


def test_F16_ranks_are_fronts_that_nothing_beats(rng):
    """SD3, section 5.1: in every front no point is beaten by one of the same or a later front, and every point of a later one is beaten by
    one of the front before; equal points share a rank."""
    points = [tuple(row) for row in torch.randint(0, 6, (40, 2), generator=rng).tolist()]
    found = fronts(points)

    def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a[0] <= b[0] and a[1] <= b[1] and (a[0] < b[0] or a[1] < b[1])

    for i, rank in enumerate(found):
        assert not any(beats(points[j], points[i]) for j, other in enumerate(found) if other >= rank)
        assert rank == 1 or any(beats(points[j], points[i]) for j, other in enumerate(found) if other == rank - 1)
    assert fronts([(1.0, 2.0), (1.0, 2.0), (2.0, 2.0)]) == [1, 1, 2]


def test_F16_ranks_are_averaged_over_settings():
    """A variant that is best with few steps and second with many has 1.5; the correlation of an order with itself is 1, reversed -1."""
    rows = [
        {"averaged": {"5": (1.0, 0.1), "20": (2.0, 0.2)}, "plain": {"5": (1.0, 0.1), "20": (2.0, 0.2)}},
        {"averaged": {"5": (2.0, 0.3), "20": (1.0, 0.1)}, "plain": {"5": (2.0, 0.3), "20": (1.0, 0.1)}},
    ]
    assert ranks(rows) == ([1.5, 1.5], [1.0, 2.0], [2.0, 1.0])
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1) and rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert {variant.changes["trajectory"] for variant in TABLE} == {"rf", "eps/linear", "v/linear", "v/cos", "edm", "edm/rf", "edm/cos"}
