"""Set before torch is imported: shapes are checked, one thread, and Ray leaves no trace under HOME."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("STRUCTGEN_TYPED", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads would only wait for each other
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_AUTH_TOKEN_PATH", os.path.join(tempfile.gettempdir(), "structgen-test-ray-token"))

import pytest
import torch


@pytest.fixture
def rng() -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(0)
