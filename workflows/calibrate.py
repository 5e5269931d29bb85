"""`structgen calibrate`: a few folds of the real model on this machine, each in its own process, and the coefficients that fit them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from rich.console import Console

from structgen import heads
from structgen.alphafold3.config import Sampling
from structgen.cost import calibration
from structgen.cost.calibration import Calibration, calibrated
from structgen.cost.measured import Case, Measurement, case_text
from structgen.errors import ConfigError, StructgenError
from structgen.features.job import Kind
from structgen.precision import Precision, native_precision

STEPS = 10  # of a measured fold: every step costs the same


@dataclass(frozen=True)
class Size:
    """A fold of a calibration."""

    residues: int
    rows: int
    samples: int
    cycles: int = 1
    kind: Kind = Kind.PROTEIN


FULL = (
    Size(32, 1, 5),
    Size(64, 64, 2),
    Size(48, 8, 2, kind=Kind.RNA),
    Size(96, 1024, 5),
    Size(128, 8192, 1, cycles=2),
    Size(192, 64, 3),
    Size(256, 256, 5),
    Size(384, 16, 5),
    Size(512, 1, 1),
)
QUICK = (Size(32, 1, 5), Size(24, 8, 2, kind=Kind.RNA), Size(64, 64, 2), Size(96, 128, 5), Size(128, 4096, 1, cycles=2), Size(192, 16, 2))
"""Sizes that tell the terms apart: lengths for powers of N, samples and rows not in step with it, RNA for atoms not in step with tokens."""


@dataclass(frozen=True)
class Wanted:
    """What is calibrated."""

    model: str
    precision: Precision
    threads: int  # 0: as many as torch takes
    quick: bool = False


def wanted(model: str, precision: str, threads: int, *, quick: bool) -> Wanted:
    """What the command line asks for. Raises `ConfigError` for a precision that there is not."""
    if precision not in ("", "float32", "bfloat16"):
        raise ConfigError(f"--precision {precision}: expected float32 or bfloat16")
    return Wanted(model, native_precision() if not precision else cast(Precision, precision), threads, quick)


def calibrate(wanted: Wanted, console: Console) -> Calibration:
    """Measure, fit and keep. Says how well the fit describes what was measured."""
    model = heads.load(wanted.model, precision=wanted.precision)
    threads = wanted.threads or torch.get_num_threads()
    sizes = QUICK if wanted.quick else FULL
    measured = []
    for number, size in enumerate(sizes, 1):
        console.print(f"[{number}/{len(sizes)}] {size.residues} {size.kind.value} residues", markup=False, highlight=False)
        measured.append(measure_apart(case_of(size, wanted, model.config.sampling, threads)))
    found = calibrated(calibration.subject(model.digest, wanted.precision, threads), model.config, measured)
    weights = measured[0].weights
    for line in _table(found, [(m, found.estimate(model.config, m.work, weights)) for m in measured]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Kept in {calibration.save(found)}", markup=False, highlight=False, soft_wrap=True)
    return found


def case_of(size: Size, wanted: Wanted, sampling: Sampling, threads: int) -> Case:
    """A size as a fold of the model."""
    chosen = dataclasses.replace(sampling, cycles=size.cycles, samples=size.samples, steps=STEPS)
    return Case(wanted.model, wanted.precision, threads, size.residues, size.rows, chosen, size.kind, repeats=2)


def measure_apart(case: Case) -> Measurement:
    """Measure in a process of its own. Raises `StructgenError` when that fails, with what it said last."""
    command = [sys.executable, "-m", "structgen.cost.measured", case_text(case)]
    environment = os.environ | {"OMP_NUM_THREADS": str(case.threads)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        said = ended.stderr.strip().splitlines()[-1:] or ["nothing was said; it may have run out of memory"]
        raise StructgenError(f"a fold of {case.residues} residues ended with status {ended.returncode}: {said[0]}")
    return Measurement.from_json(json.loads(ended.stdout))


def _table(found: Calibration, rows: Sequence[tuple[Measurement, calibration.Estimate]]) -> list[str]:
    lines = ["tokens  atoms   rows  samples   measured s  estimate s   measured MiB  estimate MiB"]
    for m, e in rows:
        work, seconds = m.work, m.cpu if found.subject.threads == 1 else m.wall
        sizes = f"{work.tokens:6}  {work.atoms:5}  {work.rows:5}  {work.samples:7}"
        lines.append(f"{sizes}   {seconds:10.2f}  {e.seconds:10.2f}   {m.peak:12.0f}  {e.peak:12.0f}")
    return lines
