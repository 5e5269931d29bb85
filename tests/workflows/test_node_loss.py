"""A cluster that loses the only node which can fold: the work says what is missing, waits, and goes on when a node comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows.conftest import REPOSITORY

SCENARIO = """
import sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from structgen.alphafold3.config import Sampling
from structgen.run import Run
from structgen.settings import Settings
from structgen.store import Store
from tests.workflows.test_node_loss import Slow
from workflows.predict import Line, predict_on_cluster

folder = Path(sys.argv[1])
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
able = nodes.add_node(num_cpus=2)
ray.init(address=nodes.address, log_to_driver=False)
run = Run(folder / "run", Store(folder / "store"), Settings(model="m", sampling=Sampling()), model_name="m", weights="w", threads=2)
rows = [{"slug": f"job{n}", "tokens": n, "error": ""} for n in range(4)]
waited, ended = [], []

def say(text):
    global able
    print(text, flush=True)
    if text.startswith("waiting") and not waited:
        able = nodes.add_node(num_cpus=2)
        waited.append(text)

for row in predict_on_cluster(Line(run, Slow, Slow, Slow, Slow), rows, say=say, patience=300.0):
    ended.append(row)
    if len(ended) == 1:
        nodes.remove_node(able, allow_graceful=False)
assert [row["error"] for row in ended] == [""] * 4, ended
assert "fold needs 2 CPU on one node; missing CPU (most on one node: 1), 1 live node" in waited[0], waited
print("all ended")
ray.shutdown()
nodes.shutdown()
"""


class Slow:
    """A stage that takes half a second and adds what the next one needs."""

    def __init__(self, run: object) -> None:
        self._run = run

    def __call__(self, row: dict) -> dict:
        import time

        time.sleep(0.5)
        return row | {"fold": "key"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_work_waits_for_a_lost_resource_and_goes_on(tmp_path: Path):
    """Not a silent stall: the missing resource is named while the work waits; after a node joins, every job ends well."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_AUTH_MODE": "disabled"}
    words = [sys.executable, "-c", SCENARIO, str(tmp_path)]
    ended = subprocess.run(words, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 0 and "all ended" in ended.stdout, ended.stdout[-2000:] + ended.stderr[-4000:]
