"""A run to its page: one file with everything in it, or a page with a folder of data that are loaded when a job is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from structgen.errors import ConfigError
from structgen.io.folder import publish_folder
from structgen.report.account import JobAccount, RunAccount, read_run
from structgen.report.index import index
from structgen.report.page import GENERATOR, TAIL, block, head, script
from structgen.report.payload import job_payload, sample_payload

DEFAULT_LIMIT = 32 * 2**20  # bytes: what browsers open at once on any machine


@dataclass(frozen=True)
class Written:
    """What was written: the page, its bytes (of a folder: with its data), jobs, samples with and without their structure in it."""

    page: Path
    size: int
    jobs: int
    samples: int
    left_out: int


def write_page(run: Path, page: Path, limit: int = DEFAULT_LIMIT) -> Written:
    """One HTML file, which appears whole or not at all. Equal runs give equal bytes.

    The best sample of every job is in it; the others follow, best jobs first, while the file is smaller than `limit` bytes.
    Raises `ConfigError` where `run` holds no run, or `page` is no name of an HTML file.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{page}: a report is an HTML file; name it {page.with_suffix('.html').name}")
    account = read_run(run)
    page.parent.mkdir(parents=True, exist_ok=True)
    temporary = page.with_name(f".{page.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            written, left_out = _fill(account, file, limit)
            file.flush()
            os.fsync(file.fileno())
        size = temporary.stat().st_size
        os.replace(temporary, page)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return Written(page, size, len(account.jobs), written, left_out)


def write_folder(run: Path, folder: Path) -> Written:
    """`index.html` and `data/`, in place of an earlier report of that name; it opens from a disk as from a server.

    Raises `ConfigError` where `run` holds no run, or something else than a report is at `folder`.
    """
    account = read_run(run)
    _check_replaceable(folder)

    def fill(new: Path) -> None:
        (new / "data").mkdir()
        for name, payload in _payloads(account):
            (new / "data" / f"{name}.js").write_text(script(name, payload), encoding="ascii")
        (new / "index.html").write_text(head(index(account), split=True) + TAIL, encoding="utf-8")

    publish_folder(folder, fill)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Written(folder / "index.html", size, len(account.jobs), sum(len(job.samples) for job in account.jobs), 0)


def _fill(account: RunAccount, file: BinaryIO, limit: int) -> tuple[int, int]:
    """Write the page; returns how many samples are in it and how many are not."""
    file.write(head(index(account), split=False).encode())
    written = left_out = 0
    for name, payload in _first(account):
        file.write(block(name, payload).encode("ascii"))
        written += "-" in name
    for name, job, k in _further(account):
        if file.tell() >= limit:
            left_out += 1
        else:
            file.write(block(name, sample_payload(job, job.samples[k])).encode("ascii"))
            written += 1
    file.write(TAIL.encode())
    return written, left_out


def _first(account: RunAccount) -> Iterator[tuple[str, bytes]]:
    """Every job, with its best sample where it has one."""
    for number, job in enumerate(account.jobs):
        yield f"job{number}", job_payload(job, account.store)
        if job.samples:
            yield f"job{number}-0", sample_payload(job, job.samples[0])


def _further(account: RunAccount) -> Iterator[tuple[str, JobAccount, int]]:
    for number, job in enumerate(account.jobs):
        yield from ((f"job{number}-{k}", job, k) for k in range(1, len(job.samples)))


def _payloads(account: RunAccount) -> Iterator[tuple[str, bytes]]:
    yield from _first(account)
    for name, job, k in _further(account):
        yield name, sample_payload(job, job.samples[k])


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    with suppress(OSError), open(folder / "index.html", encoding="utf-8") as file:
        if f'content="{GENERATOR}"' in file.read(4096):
            return
    raise ConfigError(f"{folder} holds something else than a report; choose another folder with --out or move it away")
