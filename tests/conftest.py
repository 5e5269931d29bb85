"""Set before torch is imported: shapes are checked, one thread, and Ray leaves no trace under HOME."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

os.environ.setdefault("STRUCTGEN_TYPED", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads would only wait for each other
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 starves its workers on a machine that does something else too
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")  # a new one would import torch again
os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_AUTH_TOKEN_PATH", os.path.join(tempfile.gettempdir(), "structgen-test-ray-token"))

import pytest
import torch

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell ignore it, and so would all that tests start


@pytest.fixture
def rng() -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """An S3-compatible server for the whole session."""
    from tests.s3_server import serving

    with serving() as address:
        yield address


@pytest.fixture
def s3(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of that server, which the environment names with its credentials; its bucket is `artifacts`."""
    from tests.s3_server import ENVIRONMENT

    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": s3_address}).items():
        monkeypatch.setenv(name, value)
    return s3_address
