"""What run.json holds of a request, so that it can be made again exactly, and be refused where it would not be the same any more."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structgen
from structgen.configuration import from_mapping
from structgen.errors import ConfigError, InputError
from structgen.features.job import Given, Job
from structgen.io.jobs.read import job_files
from structgen.io.textfile import files_in
from structgen.run import Run
from structgen.search.given import SUFFIXES
from structgen.settings import differences
from structgen.store import open_store
from workflows import evidence
from workflows.request import Request

_SHOWN = 10  # changes that an error names


def account(request: Request, run: Run, jobs: Sequence[Job]) -> dict[str, Any]:
    """The facts of a run by which it can be repeated: the request, and what it rests on."""
    settings = run.settings.to_json() | {"weights": run.weights, "evidence": evidence.digests(run), "structures": run.templates}
    return {
        "software": structgen.__version__,
        "model": run.model_name,
        "settings": settings,
        "store": str(run.store.root),
        "request": _plain(request),
        "files": _files(request, jobs),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def restored(document: Mapping[str, Any], folder: Path) -> Request:
    """The request that a run was made by, for the folder where it lies now. Raises `ConfigError` where there is none on record."""
    if "request" not in document:
        raise ConfigError(f"{folder} does not say by which request it was made; run that command again")
    values = dict(document["request"])
    place = values.pop("folder")
    try:
        os.chdir(place)  # paths of a configuration file are relative to where the command was given
    except OSError as error:
        raise ConfigError(f"{place}, where {folder} was started, cannot be entered: {error.strerror}") from error
    hints = typing.get_type_hints(Request)
    nested = {name: from_mapping(hints[name], value) for name, value in values.items() if isinstance(value, dict) and name != "choices"}
    own = {"inputs": tuple(map(Path, values["inputs"])), "out": folder, "store": open_store(values["store"])}
    return Request(**{**values, **nested, **own})


def require_unchanged(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises `InputError` that names what a recorded run rests on and is not the same now."""
    changes = [*_changed_files(before.get("files", {}), now["files"]), *differences(before.get("settings", {}), now["settings"])]
    changes += differences({"structgen": before.get("software")}, {"structgen": now["software"]})
    if changes:
        more = [f"and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
        raise InputError(
            "is not what it was when the run began",
            where="; ".join(changes[:_SHOWN] + more),
            remedy="put it back, or go on with what is there now: --accept-changes",
        )


def _plain(request: Request) -> dict[str, Any]:
    values = {name: _value(getattr(request, name)) for name in (field.name for field in dataclasses.fields(request))}
    values |= {"inputs": [str(path) for path in request.inputs], "folder": os.getcwd()}
    return {name: value for name, value in values.items() if name not in ("out", "exact")} | {"store": str(request.store.root)}


def _value(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _files(request: Request, jobs: Sequence[Job]) -> dict[str, str]:
    """sha256 of every file of the inputs, of those that they name, and of the given alignments; empty for what cannot be read."""
    named = [Path(given.path) for job in jobs for given in _given(job) if given.path]
    found = [*_inputs(request), *named, *_alignments(str(request.choices.get("msa", "")))]
    return {str(path.absolute()): _digest(path) for path in sorted(set(found))}


def _inputs(request: Request) -> Iterator[Path]:
    for path in request.inputs:
        try:
            yield from job_files(path)
        except InputError:
            yield path


def _alignments(place: str) -> list[Path]:
    path = Path(place)
    return (files_in(path, SUFFIXES) if path.is_dir() else [path]) if place else []


def _given(value: Any) -> Iterator[Given]:
    """Every file that a job names."""
    if isinstance(value, Given):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _given(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _given(item)


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for path in sorted(before.keys() | now.keys()):
        if not now.get(path) and before.get(path):
            yield f"{path} is gone"
        elif path not in before:
            yield f"{path} is new"
        elif before[path] != now.get(path):
            yield f"{path} changed"
