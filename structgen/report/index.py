"""The table of all jobs: one row a job, numbers or null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from structgen.report.account import JobAccount, RunAccount, read_json

COLUMNS = (
    "name", "slug", "status", "score", "plddt", "ptm", "iptm", "clash", "stereo", "chains", "tokens", "depth", "samples", "seconds",
    "source", "note",
)  # fmt: skip
"""`stereo`: stereocentres of the wrong hand; `depth`: rows of the shallowest alignment; `note`: the first error or problem."""


def index(run: RunAccount) -> dict[str, Any]:
    """The run and its table, as JSON."""
    return {
        "name": run.name,
        "software": run.software,
        "model": run.model,
        "settings": dict(run.settings),
        "rejected": list(run.rejected),
        "columns": list(COLUMNS),
        "rows": [_row(job) for job in run.jobs],
    }


def _row(job: JobAccount) -> list[Any]:
    best, depths = job.best, _numbers(job.manifest.get("msa_depth"))
    values = {
        "name": job.name,
        "slug": job.slug,
        "status": "missing" if job.problem else job.status,
        "score": job.samples[0].score if job.samples else None,
        "plddt": _number(best.get("mean_plddt")),
        "ptm": _number(best.get("ptm")),
        "iptm": _number(best.get("iptm")),
        "clash": _number(best.get("has_clash")),
        "stereo": _wrong_centres(job),
        "chains": len(best.get("chain_ids") or []) or None,
        "tokens": job.tokens,
        "depth": min(depths) if depths else None,
        "samples": len(job.samples),
        "seconds": round(sum(job.seconds.values()), 3),
        "source": job.source,
        "note": job.problem or (f"{job.errors[0][0]}: {job.errors[0][1]}" if job.errors else ""),
    }
    return [values[name] for name in COLUMNS]


def _wrong_centres(job: JobAccount) -> float | None:
    geometry = read_json(job.samples[0].path("extras.json")).get("geometry") if job.samples else None
    checks = geometry.get("stereocentres") if isinstance(geometry, Mapping) else None
    return sum(_numbers(dict(enumerate(checks.get("wrong") or ())))) if isinstance(checks, Mapping) else None


def _numbers(values: Any) -> list[float]:
    return [number for value in values.values() if (number := _number(value)) is not None] if isinstance(values, Mapping) else []


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and value == value else None
