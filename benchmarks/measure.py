"""Several ways to do one thing, timed in turns in one process so that a noisy machine is noisy for all of them, and their memory."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

SMALL_MAPPING, USUAL_MAPPING = 1 << 16, 32 << 20  # bytes from which malloc takes a mapping of its own
M_MMAP_THRESHOLD = -3
LIBC = ctypes.CDLL("libc.so.6")


@dataclass(frozen=True)
class Way:
    """`run` is timed with fresh arguments from `prepare`, which is not."""

    run: Callable[..., object]
    prepare: Callable[[], tuple] = tuple


@dataclass(frozen=True)
class Cost:
    """Medians of the seconds of one call, and the memory that it needs at its peak beyond its arguments, in MiB."""

    cpu: float
    wall: float
    memory: float


@torch.no_grad()
def measure(ways: Mapping[str, Way], *, repeats: int) -> dict[str, Cost]:
    """A B C A B C ...: one call of each way in turn. Call each once before, so that the first counts as any other."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(_timed(way))
    return {
        name: Cost(statistics.median(cpu for cpu, _ in spent), statistics.median(wall for _, wall in spent), _peak(ways[name]))
        for name, spent in times.items()
    }


def _timed(way: Way) -> tuple[float, float]:
    arguments = way.prepare()
    cpu, wall = time.process_time(), time.perf_counter()
    way.run(*arguments)
    return time.process_time() - cpu, time.perf_counter() - wall


def _peak(way: Way) -> float:
    """In one more call, with a mapping for every buffer, so that what is freed leaves the resident set at once."""
    LIBC.mallopt(M_MMAP_THRESHOLD, SMALL_MAPPING)
    arguments = way.prepare()
    gc.collect()
    LIBC.malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:  # resets VmHWM
        file.write("5")
    before = _status("VmRSS")
    way.run(*arguments)
    peak = _status("VmHWM")
    LIBC.mallopt(M_MMAP_THRESHOLD, USUAL_MAPPING)
    return peak - before


def _status(key: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))
