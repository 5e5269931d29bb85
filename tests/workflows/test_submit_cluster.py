"""`structgen submit` to a real Ray head that asks for a token, and its batch script with a stand-in for `srun` alone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.workflows.conftest import REPOSITORY, Command, results
from tests.workflows.test_cli import sequence, write_fasta
from workflows.slurm import script
from workflows.submission import read_work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TOKEN = "0123456789abcdef" * 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Cluster:
    """A head and what a user of it sets."""

    address: str
    environment: dict[str, str]
    folder: Path

    def run(self, *words: str | Path, timeout: float = 400, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["structgen", *map(str, words)], env=self.environment | more, cwd=self.folder, capture_output=True, text=True, timeout=timeout
        )


def user(folder: Path) -> dict[str, str]:
    """The environment of somebody who has `structgen` and `ray` on his path."""
    commands = folder / "bin"
    commands.mkdir()
    (commands / "structgen").write_text(f'#!/bin/sh\nexec {sys.executable} -m workflows.cli "$@"\n')
    (commands / "structgen").chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STRUCTGEN_"))}
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"HOME": str(folder), "PATH": path, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return clean | own | {"RAY_raylet_start_wait_time_s": "240"}  # a busy machine takes longer than Ray waits


def end(process: subprocess.Popen[bytes], leftover: Path) -> None:
    """End a process and what it started, which names the folder `leftover` in its arguments."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(leftover).encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:
            continue


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head on this machine with its dashboard; short paths, since a socket's must be."""
    folder = Path(f"/tmp/sg-{os.getpid()}")
    folder.mkdir(mode=0o700)
    environment = user(folder) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    port = free_port()
    words = ["ray", "start", "--head", "--block", f"--port={free_port()}", f"--dashboard-port={port}", f"--temp-dir={folder}/ray"]
    words += ["--num-cpus=2", "--object-store-memory=200000000", f"--ray-client-server-port={free_port()}"]
    words += [f"--dashboard-agent-listen-port={free_port()}", "--labels=kind=here"]  # other clusters of this machine have the usual ones
    with open(folder / "head.log", "wb") as log:
        head = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    cluster = Cluster(f"http://127.0.0.1:{port}", {k: v for k, v in environment.items() if k != "RAY_AUTH_MODE"}, folder)
    try:
        deadline = time.monotonic() + 300
        while "Ray runtime started" not in (folder / "head.log").read_text():
            assert head.poll() is None and time.monotonic() < deadline, (folder / "head.log").read_text()
            time.sleep(1)
        yield cluster
    finally:
        end(head, folder / "ray")
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def test_submitted_inputs_are_predicted_and_followed(cluster: Cluster, checkpoint: Path, command: Command, tmp_path: Path):
    """Inputs go along, logs and exit status come back, results are those of a prediction here; a bad record gives 2 there and here."""
    (cluster.folder / "in").mkdir()
    write_fasta(cluster.folder / "in" / "a.fasta", [("one", sequence(1)), ("two", sequence(2))])
    out = cluster.folder / "runs" / "x"
    options = ["--set", f"model={json.dumps(str(checkpoint))}", "--set", "sampling.samples=1", "--set", "sampling.steps=4"]
    options += ["--set", "sampling.cycles=1", "--store", str(cluster.folder / "store"), "--address", cluster.address]
    done = cluster.run("submit", "in", "--out", out, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 done" in done.stdout and re.search(r"structgen-in-[0-9a-f]{8}: succeeded", done.stdout)
    there = [str(part) for part in options[:-4]]
    assert command("predict", cluster.folder / "in", "--out", tmp_path / "here", *there).status == 0
    kept = {name: content for name, content in results(tmp_path / "here").items() if name.endswith(("model.cif", "confidences.json"))}
    assert kept and {name: results(out)[name] for name in kept} == kept
    write_fasta(cluster.folder / "in" / "b.fasta", [("bad", "AC4DE")])
    again = cluster.run("submit", "in", "--out", out, *options)
    assert again.returncode == 2 and "2 of 3 done, 1 refused" in again.stdout
    followed = cluster.run("submit", "--logs", re.search(r"submitted (\S+):", again.stdout)[1], "--address", cluster.address)
    assert followed.returncode == 2 and "1 refused" in followed.stdout


def test_without_the_token_nothing_is_told_or_taken(cluster: Cluster, tmp_path: Path):
    """No token, a wrong one, and a right one for a job that is not there: each in words."""
    write_fasta(cluster.folder / "c.fasta", [("one", sequence(1))])
    words = ["submit", "c.fasta", "--out", str(cluster.folder / "no"), "--address", cluster.address]
    none = subprocess.run(
        ["structgen", *words],
        cwd=cluster.folder,
        env={k: v for k, v in cluster.environment.items() if k != "RAY_AUTH_TOKEN"},
        text=True,
        capture_output=True,
    )
    assert none.returncode == 2 and "RAY_AUTH_TOKEN" in none.stderr and "Traceback" not in none.stderr
    wrong = cluster.run(*words, RAY_AUTH_TOKEN="f" * 64)
    assert wrong.returncode == 2 and "RAY_AUTH_TOKEN" in wrong.stderr and "f" * 64 not in wrong.stderr
    absent = cluster.run("submit", "--logs", "absent", "--address", cluster.address)
    assert absent.returncode == 3 and "absent" in absent.stderr and "Traceback" not in absent.stderr
    assert not (cluster.folder / "no").exists()


def test_ctrl_c_detaches_and_cancel_ends(cluster: Cluster, checkpoint: Path):
    """Ctrl-C leaves the job running and names the commands; --cancel ends it as Ctrl-C there would: what is done is on record."""
    write_fasta(cluster.folder / "long.fasta", [(f"j{n}", sequence(n)) for n in range(3)])
    options = ["--set", f"model={json.dumps(str(checkpoint))}", "--set", "sampling.steps=20000", "--set", "sampling.cycles=1"]
    words = ["structgen", "submit", "long.fasta", "--out", str(cluster.folder / "long"), "--address", cluster.address, *options]
    with open(cluster.folder / "long.txt", "wb") as output:
        process = subprocess.Popen(words, cwd=cluster.folder, env=cluster.environment, stdout=output, stderr=output)
    run = cluster.folder / "long" / "run.json"
    deadline = time.monotonic() + 200
    while not (run.exists() and '"running"' in run.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None, (cluster.folder / "long.txt").read_text()
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    said = (cluster.folder / "long.txt").read_text()
    job = re.search(r"submitted (\S+):", said)[1]
    assert f"--cancel {job}` ends it" in said and f"--logs {job}` follows it" in said
    ended = cluster.run("submit", "--cancel", job, "--address", cluster.address)
    assert ended.returncode == 0, ended.stderr
    followed = cluster.run("submit", "--logs", job, "--address", cluster.address)
    assert followed.returncode == 130 and f"{job}: stopped" in followed.stdout, followed.stdout + followed.stderr
    shown = cluster.run("runs", "list", cluster.folder / "long")
    assert "stopped" in shown.stdout and shown.returncode == 0


def test_batch_script_starts_a_cluster_and_predicts(checkpoint: Path, tmp_path: Path):
    """The whole script with a `srun` that runs its command here: head, one node, token, prediction, end; nothing goes on after it."""
    folder = Path(f"/tmp/sl-{os.getpid()}")
    folder.mkdir(mode=0o700)
    environment = user(folder) | {"SLURM_JOB_ID": str(os.getpid())}
    stand_in = '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@" --object-store-memory=100000000\n'
    (folder / "bin" / "srun").write_text(stand_in)
    (folder / "bin" / "srun").chmod(0o755)
    write_fasta(folder / "in.fasta", [("one", sequence(1)), ("two", sequence(2))])
    choices = yaml.safe_load(f"{{seeds: [1], model: {checkpoint}, sampling: {{samples: 1, steps: 4, cycles: 1}}}}")
    submit = {"inputs": [str(folder / "in.fasta")], "out": str(folder / "run"), "store": str(folder / "store")}
    submit |= {"groups": {"fold": {"cpus": 2, "labels": {"kind": "fold"}, "custom": {"msa": 1.0}}}}
    (folder / "job.sh").write_text(script(read_work(choices | {"submit": submit})))
    try:
        done = subprocess.run(["bash", "job.sh"], cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
        logs = "".join(path.read_text() for path in folder.glob("run/slurm-*/*.log"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
        assert "2 of 2 done" in done.stdout
        assert set(json.loads((folder / "run" / "run.json").read_text())["jobs"]) == {"one", "two"}
        time.sleep(2)
        left = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if f"ray-{os.getpid()}".encode() in path.read_bytes()]
        assert left == []
    finally:
        subprocess.run(["rm", "-rf", str(folder), f"/tmp/ray-{os.getpid()}"], check=False)
