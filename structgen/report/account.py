"""What a run's folder says of its jobs, best first. Nothing in it is trusted: a folder may come from anybody, or be half a copy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from structgen.errors import ConfigError, InputError
from structgen.manifest import RunManifest, job_errors, job_status, stage_entries
from structgen.store import ArtifactError

_KEY = re.compile(r"[0-9a-f]{64}")
_LARGEST_JSON = 256 * 2**20  # bytes

UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, InputError, ArtifactError)
"""What reading a file that is damaged, or not what it should be, may raise."""


@dataclass(frozen=True)
class SampleAccount:
    """One sample's files: `<stem>_model.cif` and so on, in `folder`."""

    seed: int
    sample: int
    score: float
    folder: Path
    stem: str

    def path(self, ending: str) -> Path:
        """The file of that ending, whether it is there or not."""
        return self.folder / f"{self.stem}_{ending}"


@dataclass(frozen=True)
class JobAccount:
    """One job of a run: what `run.json` says of it and, where it is done, its manifest. `problem` says why a done job has no results."""

    slug: str
    name: str
    source: str
    tokens: int
    status: str  # done, failed, running, waiting
    seconds: Mapping[str, float]  # by stage
    errors: tuple[tuple[str, str], ...]  # (stage, text)
    evidence: tuple[str, ...]  # keys of the artifacts of Search
    manifest: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[SampleAccount, ...] = ()  # best first
    problem: str = ""

    @cached_property
    def best(self) -> Mapping[str, Any]:
        """The scores of the first sample, empty where there is none."""
        return read_json(self.samples[0].path("summary_confidences.json")) if self.samples else {}


@dataclass(frozen=True)
class RunAccount:
    """A run: its jobs, the best ranking score first, those without a score after them in the order of the input."""

    name: str
    software: str
    model: str
    settings: Mapping[str, Any]
    store: str
    rejected: tuple[str, ...]  # why records of the input were refused
    jobs: tuple[JobAccount, ...]


def read_run(folder: Path) -> RunAccount:
    """The account of a run. Raises `ConfigError` where the folder holds none."""
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder} holds no run: there is no run.json in it; give the folder of --out")
    document = RunManifest.load(folder).document
    try:
        jobs = [_job(folder, slug, about) for slug, about in document["jobs"].items()]
        return RunAccount(
            name=folder.resolve().name,
            software=str(document.get("software", "")),
            model=str(document.get("model", "")),
            settings=dict(document.get("settings", {})),
            store=str(document.get("store", "")),
            rejected=tuple(str(entry.get("error", entry)) for entry in document.get("rejected", [])),
            jobs=tuple(sorted(jobs, key=lambda job: -job.samples[0].score if job.samples else float("inf"))),
        )
    except UNREADABLE as error:
        raise ConfigError(f"{folder / 'run.json'} is not the account of a run ({type(error).__name__}: {error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file, empty where that is absent, huge or something else."""
    try:
        value = json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_JSON else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _job(run: Path, slug: str, about: Mapping[str, Any]) -> JobAccount:
    plain = _job_alone(slug, about)
    if plain.status != "done":
        return plain
    if Path(slug).name != slug or slug in ("", ".", ".."):
        return _with(plain, problem=f"{slug!r} is not the name of a folder")
    folder = run / slug
    manifest = read_json(folder / f"{slug}_manifest.json")
    try:
        samples = tuple(_sample(folder, slug, *entry) for entry in manifest["ranking"])
    except UNREADABLE:
        return _with(plain, problem=f"the results are not in {folder}: its manifest is missing or damaged")
    if not samples or not read_json(samples[0].path("summary_confidences.json")):
        return _with(plain, problem=f"the results are not in {folder}: the scores of its best sample are missing or damaged")
    return _with(plain, manifest=manifest, samples=samples)


def _job_alone(slug: str, about: Mapping[str, Any]) -> JobAccount:
    """The job without its results."""
    stages = about["stages"]
    entry = stages.get("search", {})
    return JobAccount(
        slug=slug,
        name=str(about.get("name", slug)),
        source=str(about.get("source", "")),
        tokens=int(about.get("tokens", 0)),
        status=job_status(about),
        seconds={stage: sum(float(e.get("seconds", 0)) for e in stage_entries(about, stage)) for stage in stages},
        errors=tuple((stage, text) for stage, _, text in job_errors(about)),
        evidence=tuple(key for key in str(entry.get("key", "")).split(",") if _KEY.fullmatch(key)),
    )


def _sample(folder: Path, slug: str, seed: int, sample: int, score: float) -> SampleAccount:
    name = f"seed-{int(seed)}_sample-{int(sample)}"
    if not isfinite(score):
        raise ValueError(f"ranking score {score}")
    return SampleAccount(int(seed), int(sample), float(score), folder / name, f"{slug}_{name}")


def _with(job: JobAccount, **changes: Any) -> JobAccount:
    return JobAccount(**{**{name: value for name, value in vars(job).items() if name != "best"}, **changes})
