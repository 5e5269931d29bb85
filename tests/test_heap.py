"""Freed memory goes back to the system: large blocks at once, the rest when the heap is trimmed."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")

START = """
import torch
from structgen.cost.measured import status_mib
from structgen.heap import return_large, trim
return_large()
held = lambda: status_mib("VmRSS")
"""
LARGE = """
warm = torch.ones(7 << 20); del warm  # 28 MiB: malloc's own limit would move there
large = [torch.ones(5 << 20) for _ in range(6)]  # 20 MiB each
before = held(); large = large[-1:]  # the last one stays, so that the heap cannot become shorter
print(before - held())
"""
SMALL = """
small = [torch.ones(1 << 18) for _ in range(100)]  # 1 MiB each
small = small[-1:]
before = held(); trim()
print(before - held())
"""


@pytest.mark.parametrize(("use", "freed"), [(LARGE, 100), (SMALL, 99)], ids=["large", "small"])
def test_what_was_freed_goes_back(use: str, freed: float):
    """In a process of its own, whose heap has no history."""
    ended = subprocess.run([sys.executable, "-c", START + use], capture_output=True, text=True, check=True)
    assert float(ended.stdout) > 0.9 * freed
