"""A submission to a running Ray cluster by its job API: sent, followed, cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient
from rich.console import Console

from structgen.errors import ClusterError, ConfigError, InputError
from structgen.io.jobs.read import job_files
from workflows.options import INPUT_ERROR, RUN_ERROR, STOPPED
from workflows.submission import Work, shell

logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of every upload

STARTING = "No available agent"  # what a head says whose node does not take jobs yet
PATIENCE = 60.0  # seconds for it to take them
AGAIN = 5  # times that a connection which breaks while logs are followed is made again
PAUSE = 1.0  # seconds before that, and between looks at a job that is ending
LARGEST_UPLOAD = 100 * 2**20  # bytes; what is larger belongs on shared storage


@dataclass(frozen=True)
class Jobs:
    """The jobs of the cluster whose dashboard has this address."""

    address: str

    def submit(self, work: Work, inputs: tuple[Path, ...], *, in_place: bool, console: Console) -> str:
        """Send a prediction; returns the job's id. Inputs go along, unless they are on storage that the cluster sees."""
        env = dict(work.submission.runtime_env)
        if (inputs and not in_place) and "working_dir" in env:
            raise ConfigError("submit.runtime_env.working_dir: inputs go along in its place; use --in-place for inputs that are there")
        with _packed(inputs) if inputs and not in_place else contextlib.nullcontext() as folder:
            names = tuple(sorted(path.name for path in folder.iterdir())) if folder else tuple(map(str, inputs)) or work.submission.inputs
            if not names:
                raise ConfigError("nothing to predict: name inputs, or list those of the cluster in submit.inputs")
            env |= {"working_dir": str(folder)} if folder else {}
            entrypoint = shell(work.command(names, "auto"))
            number = f"{work.submission.name}-{uuid.uuid4().hex[:8]}"
            with self._client() as client:
                _send(client, entrypoint=entrypoint, submission_id=number, runtime_env=env or None)
        console.print(f"submitted {number}: {entrypoint}", markup=False, highlight=False, soft_wrap=True)
        return number

    def follow(self, job: str, console: Console) -> int:
        """Print what the job says until it ends; returns its exit status. Ctrl-C leaves it running, and says how to come back."""
        try:
            with self._client() as client:
                asyncio.run(_tail(client, job, lambda text: console.out(text, end="", highlight=False)))
                return _ended(client, job, console)
        except KeyboardInterrupt:
            again = f"structgen submit --address {self.address}"
            console.print(f"\ndetached; {job} goes on. `{again} --logs {job}` follows it, `{again} --cancel {job}` ends it", markup=False)
            return STOPPED

    def cancel(self, job: str, console: Console) -> int:
        """End a job; what it has done stays, and the same submission goes on from there."""
        with self._client() as client:
            stopped = client.stop_job(job)
            state = client.get_job_status(job)
        console.print(f"{job}: {'is being ended' if stopped else state.value.lower()}", markup=False, highlight=False)
        return 0

    @contextlib.contextmanager
    def _client(self) -> Iterator[JobSubmissionClient]:
        """Failures of the job API in words."""
        try:
            yield JobSubmissionClient(self.address)
        except AuthenticationError as error:
            raise ConfigError(f"{self.address}: {_first_line(error)}; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH") from error
        except (ConnectionError, requests.RequestException, aiohttp.ClientError) as error:
            raise ClusterError(f"{self.address} cannot be reached: {_first_line(error)}; is this the dashboard of the head?") from error
        except RuntimeError as error:
            raise ClusterError(f"{self.address}: {_first_line(error)}") from error


def _send(client: JobSubmissionClient, **job: Any) -> None:
    """Submit, to a head that has just been started too."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.submit_job(**job)
            return
        except RuntimeError as error:
            if STARTING not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


async def _tail(client: JobSubmissionClient, job: str, out: Callable[[str], Any]) -> None:
    """All that a job prints, once, also where the connection breaks now and then."""
    seen = 0
    for tries in range(AGAIN + 1):
        passed = 0
        try:
            async for text in client.tail_job_logs(job):
                out(text[max(0, seen - passed) :])
                passed += len(text)
                seen = max(seen, passed)
            return
        except (aiohttp.ClientError, RuntimeError, ConnectionError):
            if tries == AGAIN or client.get_job_status(job).is_terminal():  # raises where there is no such job
                raise
            await asyncio.sleep(PAUSE)


def _ended(client: JobSubmissionClient, job: str, console: Console) -> int:
    """What became of the job, and the exit status that `structgen predict` gave there."""
    info = client.get_job_info(job)
    while not info.status.is_terminal():
        asyncio.run(asyncio.sleep(PAUSE))
        info = client.get_job_info(job)
    console.print(f"{job}: {info.status.value.lower()}", markup=False, highlight=False)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        return STOPPED
    if info.driver_exit_code is None or info.driver_exit_code < 0:
        console.print(_first_line(info.message), markup=False, highlight=False, soft_wrap=True)
    return INPUT_ERROR if info.driver_exit_code == INPUT_ERROR else RUN_ERROR


@contextlib.contextmanager
def _packed(inputs: tuple[Path, ...]) -> Iterator[Path]:
    """A folder with copies of the inputs under their own names, which becomes the job's working folder."""
    with tempfile.TemporaryDirectory(prefix="structgen-submit-") as name:
        folder = Path(name)
        for path in inputs:
            _require_input(path)
            target = folder / path.resolve().name
            if target.exists():
                raise InputError("two inputs have one name", where=str(path), remedy="rename one, or use --in-place on shared storage")
            if path.is_dir():
                shutil.copytree(path, target)
            else:
                shutil.copy2(path, target)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if size > LARGEST_UPLOAD:
            found = f"{size:,} bytes"
            remedy = "put them on storage that the cluster sees, and use --in-place"
            raise InputError("inputs are too large to go along", where=str(inputs[0]), found=found, remedy=remedy)
        yield folder


def _require_input(path: Path) -> None:
    if not path.exists():
        raise InputError("cannot be read: no such file or folder", where=str(path))
    job_files(path)


def _first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
