"""What the tests of the workflows share: one tiny checkpoint, the command line, and one Ray cluster for the whole session."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, save_model
from workflows.cli import app

REPOSITORY = Path(__file__).parents[2]
CPUS = 2  # of the cluster that tests share


@dataclass(frozen=True)
class Outcome:
    """What a command printed and its exit status."""

    status: int
    text: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with every part present and every weight non-zero, so that each input reaches the output."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    generator = torch.Generator().manual_seed(0)
    network = AlphaFold3(tiny())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    save_model(network, path, card="Random weights.")
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of sums, and so the last bits, depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands that run in this process set up logging to a stream that ends with them; those of wider fixtures did so before."""
    root = logging.getLogger()
    handlers, level = [handler for handler in root.handlers if not getattr(getattr(handler, "stream", None), "closed", False)], root.level
    root.handlers[:] = handlers
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def command(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `structgen` in this process, in an empty folder with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRUCTGEN_STORE", str(tmp_path / "store"))

    def run(*arguments: str | Path) -> Outcome:
        model = ["--model", str(checkpoint)] if arguments[0] == "predict" and "--model" not in arguments else []
        result = CliRunner().invoke(app, [*map(str, arguments), *model])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.output)

    return run


def start_command(checkpoint: Path, folder: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """`structgen predict` in a process of its own, to be killed."""
    environment = os.environ | {"STRUCTGEN_STORE": str(folder / "store"), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "workflows.cli", "predict", *map(str, arguments), "--model", str(checkpoint)]
    with open(folder / "output.txt", "ab") as output:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=output, stderr=output)


@pytest.fixture(scope="session")
def started_ray() -> Iterator[Callable[[], None]]:
    """Starts this session's cluster, anew where one is there; `shutdown` ends the processes that `init` started, and no others."""
    import ray

    def start() -> None:
        ray.shutdown()
        ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)

    start()
    yield start
    ray.shutdown()


def free_cpus(seconds: float = 60.0) -> float:
    """CPUs of the cluster that nobody holds: at once where that is all, else after a wait."""
    import ray

    until = time.monotonic() + seconds
    while (free := ray.available_resources().get("CPU", 0.0)) < CPUS and time.monotonic() < until:
        time.sleep(0.1)
    return free


@pytest.fixture
def ray_session(started_ray: Callable[[], None], request: pytest.FixtureRequest) -> Iterator[None]:
    """One cluster on this machine for all tests that need one, with all its CPUs free at the start.

    Where a test leaves workers behind, a warning names it, and the next one has a new cluster: it would wait for them without end.
    """
    yield
    if (free := free_cpus()) < CPUS:
        warnings.warn(f"of the cluster's {CPUS} CPUs {free:g} are free a minute after {request.node.name}", stacklevel=1)
        started_ray()


def results(run: Path) -> dict[str, bytes]:
    """Every file of every job's folder but its manifest (which holds the time of writing)."""
    files = [path for path in run.glob("*/**/*") if path.is_file() and not path.name.endswith("_manifest.json")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if ".journal" not in path.parts}


def differing(first: dict[str, bytes], second: dict[str, bytes]) -> dict[str, str]:
    """What is not the same in two sets of results: a short word for each file, where a comparison of dicts would print them whole."""
    words = {}
    for name in sorted(first.keys() | second.keys()):
        ours, theirs = first.get(name), second.get(name)
        if ours is None or theirs is None:
            words[name] = "only in the first" if theirs is None else "only in the second"
        elif ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
            words[name] = f"at byte {at}: {ours[max(0, at - 20) : at + 20]!r} and {theirs[max(0, at - 20) : at + 20]!r}"
    return words
