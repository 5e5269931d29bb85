"""Coefficients found on a machine for a model, kept in a file; and the estimate that is made of them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from structgen.alphafold3.config import Config
from structgen.cost.counts import PHASES, featurise_terms, memory, operations
from structgen.cost.fit import Coefficients, fit, value
from structgen.cost.measured import Measurement
from structgen.cost.work import Work
from structgen.errors import ConfigError
from structgen.precision import Precision
from structgen.store import canonical_json, replace_file

SCHEMA = 1
REFERENCE = Path(__file__).parent / "reference.json"


@dataclass(frozen=True)
class Subject:
    """What was calibrated; coefficients of another one are a guess."""

    machine: str  # processor, cores and version of torch
    device: str
    model: str  # sha256 of the checkpoint
    precision: Precision
    threads: int

    @property
    def key(self) -> str:
        """Name of its file."""
        return hashlib.sha256(canonical_json(asdict(self)).encode("ascii")).hexdigest()[:24]


@dataclass(frozen=True)
class Estimate:
    """What a fold will take."""

    phases: dict[str, float]  # seconds of each
    mib: dict[str, float]  # of each, above `resident`
    resident: float  # MiB of the process with its model

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())

    @property
    def peak(self) -> float:
        """MiB of the process at its peak."""
        return self.resident + max(self.mib.values())


@dataclass(frozen=True)
class Calibration:
    """Coefficients of every phase, in seconds and MiB a term, and the memory of a process that has loaded the model."""

    subject: Subject
    seconds: dict[str, Coefficients]
    mib: dict[str, Coefficients]
    featurise: Coefficients
    resident: float  # MiB without the weights
    measured: bool  # on this machine and for this model

    def estimate(self, config: Config, work: Work, weights: float) -> Estimate:
        """Of a fold with a network whose own tensors take `weights` MiB."""
        times, sizes = operations(config, work), memory(config, work, self.subject.precision)
        return Estimate(
            {phase: value(self.seconds[phase], times[phase]) for phase in PHASES},
            {phase: value(self.mib[phase], sizes[phase]) for phase in PHASES},
            self.resident + weights,
        )

    def featurising(self, work: Work) -> float:
        """Seconds of Featurise."""
        return value(self.featurise, featurise_terms(work))

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are kept."""
        return {"schema": SCHEMA, **asdict(self)}


def calibrated(subject: Subject, config: Config, measurements: Sequence[Measurement]) -> Calibration:
    """The coefficients that fit measured folds of one model best.

    With one thread the seconds are those of the processor, which other work on the machine does not stretch; else those of the clock.
    """
    works = [m.work for m in measurements]
    times = [operations(config, work) for work in works]
    sizes = [memory(config, work, subject.precision) for work in works]
    by_processor = subject.threads == 1 and subject.device == "cpu"
    spent = {phase: [m.phases[phase].cpu if by_processor else m.phases[phase].wall for m in measurements] for phase in PHASES}
    return Calibration(
        subject,
        {phase: fit([row[phase] for row in times], spent[phase]) for phase in PHASES},
        {phase: fit([row[phase] for row in sizes], [max(m.phases[phase].mib, 0.1) for m in measurements]) for phase in PHASES},
        fit([featurise_terms(work) for work in works], [m.featurise.cpu for m in measurements]),
        min(m.resident - m.weights for m in measurements),
        measured=True,
    )


def subject(model: str, precision: Precision, threads: int) -> Subject:
    """This machine with a model of that digest."""
    return Subject(f"{_processor()}, {os.cpu_count()} cores, torch {torch.__version__}", "cpu", model, precision, threads)


def load(wanted: Subject, folder: Path | None = None) -> Calibration:
    """The calibration of exactly this, or the reference that ships with the package, not `measured`, under another name."""
    path = (folder or calibrations()) / f"{wanted.key}.json"
    if not path.is_file():
        return _named(reference(), wanted)
    try:
        found = parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a calibration ({error}); run `structgen calibrate` again, or remove the file") from error
    return found if found.subject == wanted else _named(reference(), wanted)


def save(found: Calibration, folder: Path | None = None) -> Path:
    """Keep a calibration; returns its file."""
    place = folder or calibrations()
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = place / f"{found.subject.key}.json"
    replace_file(path, json.dumps(found.to_json(), indent=1, sort_keys=True).encode("utf-8") + b"\n")
    return path


@lru_cache(maxsize=1)
def reference() -> Calibration:
    """Of the default model on the machine named in the file: right in proportion elsewhere, not in scale."""
    return parse(json.loads(REFERENCE.read_text(encoding="utf-8")))


def parse(values: Mapping[str, Any]) -> Calibration:
    """Inverse of `Calibration.to_json`. Raises KeyError, TypeError or ValueError for anything else."""
    if values["schema"] != SCHEMA:
        raise ValueError(f"schema {values['schema']}, expected {SCHEMA}")
    rest = {name: item for name, item in values.items() if name not in ("schema", "subject")}
    return Calibration(subject=Subject(**values["subject"]), **rest)


def calibrations() -> Path:
    """$STRUCTGEN_CALIBRATION, else structgen/calibration in the user's cache folder."""
    if chosen := os.environ.get("STRUCTGEN_CALIBRATION"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "structgen" / "calibration"


def _named(of: Calibration, wanted: Subject) -> Calibration:
    return Calibration(wanted, of.seconds, of.mib, of.featurise, of.resident, measured=False)


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    found = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines) if k.strip().lower() in _IDENTITY}
    return " ".join([platform.machine(), *(found[name] for name in _IDENTITY if name in found)])


_IDENTITY = ("model name", "cpu family", "model")
