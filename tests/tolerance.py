"""The one table of tolerances: a test names a row."""

from __future__ import annotations

import torch

FLOAT64_IDENTITY = 1e-12
FLOAT64_ORACLE = 1e-9
FLOAT32_LAYER = 1e-5
FLOAT32_STACK = 1e-4
BFLOAT16 = 2e-2


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Largest difference relative to the larger of 1 and the largest expected magnitude is at most `tolerance`; NaN fails."""
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)} != {tuple(expected.shape)}"
    scale = max(1.0, expected.abs().max().item() if expected.numel() else 1.0)
    worst = (actual.to(torch.float64) - expected.to(torch.float64)).abs().max().item() / scale if actual.numel() else 0.0
    assert worst <= tolerance, f"relative difference {worst:.3e} exceeds {tolerance:.0e}"
