"""What importing the core costs."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys, time
import torch
before = set(sys.modules)
started = time.process_time()
import structgen.generative
print(time.process_time() - started)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def probe() -> tuple[float, set[str]]:
    out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout.splitlines()
    return float(out[0]), set(out[1].split())


def test_importing_adds_nothing_to_torch_and_little_time():
    """No package but structgen itself and the standard library; under 0.3 s of processor time (best of 3, for a busy machine)."""
    runs = [probe() for _ in range(3)]
    assert runs[0][1] - set(sys.stdlib_module_names) == {"structgen"}
    assert min(seconds for seconds, _ in runs) < 0.3
