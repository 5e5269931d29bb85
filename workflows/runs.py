"""The runs under some folders: which there are and how far, what one of them did, and its work taken up again."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from structgen.errors import ConfigError, StructgenError
from structgen.manifest import STAGES, RunManifest, is_running, job_errors, job_status, stage_entries
from workflows import session
from workflows.recorded import restored


@dataclass(frozen=True)
class Summary:
    """One run at a glance."""

    folder: str
    state: str  # running, done, failed (all that can be done is), stopped, or damaged
    done: int = 0
    jobs: int = 0
    failed: int = 0
    refused: int = 0
    model: str = ""
    changed: str = ""  # when its account was last written, UTC


def find_runs(roots: Sequence[Path]) -> Iterator[Path]:
    """Every folder with a run.json at or under the roots, by name. Raises `ConfigError` for a root that is not there."""
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"{root} is no folder")
        for folder, inner, files in os.walk(root):
            inner[:] = [] if "run.json" in files else sorted(name for name in inner if not name.startswith("."))
            if "run.json" in files:
                yield Path(folder)


def listing(roots: Sequence[Path], console: Console, *, as_json: bool) -> int:
    """One line a run. Exit status 3 where an account is damaged."""
    found = [_summary(folder) for folder in find_runs(roots)]
    if as_json:
        console.print_json(json.dumps([asdict(one) for one in found]))
    else:
        for one in found:
            lost = [f"{count} {word}" for count, word in ((one.failed, "failed"), (one.refused, "refused")) if count]
            text = f"{one.state:<8} {one.done:>6}/{one.jobs:<6} {one.changed:<20} {one.folder}  {', '.join([one.model, *lost])}"
            console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)
        if not found:
            console.print(f"no run under {', '.join(map(str, roots))}", markup=False, highlight=False, soft_wrap=True)
    return 3 if any(one.state == "damaged" for one in found) else 0


def _summary(folder: Path) -> Summary:
    changed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((folder / "run.json").stat().st_mtime))
    try:
        manifest = RunManifest.load(folder)
    except (StructgenError, TypeError, KeyError, ValueError):
        return Summary(str(folder), "damaged", changed=changed)
    counts = Counter(job_status(job) for job in manifest.jobs.values())
    refused = len(manifest.document["rejected"])
    return Summary(
        str(folder),
        state=_state(folder, counts, refused),
        done=counts["done"],
        jobs=len(manifest.jobs) + refused,
        failed=counts["failed"],
        refused=refused,
        model=manifest.document.get("model", ""),
        changed=changed,
    )


def _state(folder: Path, counts: Mapping[str, int], refused: int) -> str:
    if is_running(folder):
        return "running"
    if counts["running"] + counts["waiting"]:
        return "stopped"
    return "failed" if counts["failed"] + refused else "done"


def show(folder: Path, console: Console, *, job: str, as_json: bool) -> int:
    """What is asked of a run, and what was done for each of its jobs: stages, attempts, seconds, errors."""
    manifest = _load(folder)
    slugs = [slug for slug in manifest.jobs if not job or slug == job]
    if job and not slugs:
        raise ConfigError(f"{folder} has no job {job!r}; it has {', '.join(list(manifest.jobs)[:20])}")
    if as_json:
        console.print_json(json.dumps(manifest.document | {"jobs": {slug: manifest.jobs[slug] for slug in slugs}}))
        return 0
    _print_facts(manifest, console)
    for slug in slugs:
        _print_job(slug, manifest.jobs[slug], console)
    for refused in manifest.document["rejected"]:
        console.print(f"refused  {refused['error']}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _print_facts(manifest: RunManifest, console: Console) -> None:
    document = manifest.document
    request = document.get("request", {})
    seconds = sum(entry["seconds"] for job in manifest.jobs.values() for stage in STAGES for entry in stage_entries(job, stage))
    facts = {
        "run": manifest.run,
        "state": _summary(manifest.run).state,
        "model": f"{document.get('model', '')} {document.get('settings', {}).get('weights', '')[:12]}",
        "store": document.get("store", ""),
        "inputs": " ".join(request.get("inputs", [])),
        "asked in": request.get("folder", ""),
        "cluster": request.get("cluster") or "in process",
        "began": document.get("began", ""),
        "work": f"{seconds:.1f} s in all stages",
        "structgen": document.get("software", ""),
    }
    for name, value in facts.items():
        console.print(f"{name:<10} {value}", markup=False, highlight=False, soft_wrap=True)


def _print_job(slug: str, job: Mapping[str, Any], console: Console) -> None:
    console.print(f"{job_status(job):<8} {slug}  {job['tokens']} tokens", markup=False, highlight=False, soft_wrap=True)
    for stage, name, entry in _entries(job):
        work = f"{entry['attempts']} attempts  {entry['seconds']:8.1f} s  {entry['key'][:12]}"
        text = f"         {stage:<10}{name:<12}{entry['status']:<8} {work}"
        console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)
    for stage, _, error in job_errors(job):
        console.print(f"         {stage}: {error}", markup=False, highlight=False, soft_wrap=True)


def _entries(job: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for stage in STAGES:
        entry = job["stages"].get(stage)
        if entry is not None:
            yield from ((stage, f"seed {seed}", one) for seed, one in entry.items()) if stage == "fold" else [(stage, "", entry)]


def resume(folder: Path, console: Console, *, accept_changes: bool, cluster: str | None) -> int:
    """Ask again for just what a run was made by. Returns the exit status as `predict` does.

    Raises `InputError` where its inputs, evidence, weights or the software are not the same any more and that is not accepted.
    """
    manifest = _load(folder)
    request = restored(manifest.document, folder.resolve())
    where = request.cluster if cluster is None else cluster
    return session.predict(replace(request, exact=not accept_changes, cluster=where), console)


def _load(folder: Path) -> RunManifest:
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder} holds no run: there is no run.json in it")
    return RunManifest.load(folder)
