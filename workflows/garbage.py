"""What may go: what killed writers left behind, and artifacts that no run of some folders needs.

Artifacts go only while nobody uses the store, and none that is younger than a limit: it may belong to a run whose folder is elsewhere.
What goes and is needed again is computed again; nothing else is lost.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from structgen.errors import ConfigError
from structgen.manifest import STAGES, RunManifest, is_running, stage_entries
from structgen.search.template_index import index_key
from structgen.storage.shelf import Item
from structgen.storage.tree import tree_key, tree_parts
from structgen.store import LITTER_AGE, Store
from workflows.runs import find_runs

HIDDEN = (".tmp", ".new", ".old")  # what `replacing` and `publish_folder` write before it takes its name


@dataclass(frozen=True)
class Sweep:
    """What is to be swept."""

    store: Store
    roots: tuple[Path, ...]  # folders with all runs whose artifacts are to stay; none: only litter goes
    older: float  # seconds; younger artifacts stay
    dry: bool = False  # say what would go, and leave it
    listed: bool = False  # name every piece


def collect(sweep: Sweep, console: Console) -> int:
    """Remove, and say what went and how large it was. Raises `ConfigError` where it cannot be known which artifacts are needed."""
    shelf = sweep.store.shelf
    runs = list(find_runs(sweep.roots))
    litter = shelf.litter(LITTER_AGE)
    _tell(sweep, "litter of the store", litter, console)
    hidden = [item for folder in runs if not is_running(folder) for item in _hidden(folder)]
    if runs:
        _tell(sweep, "litter of the runs", hidden, console)
    if not sweep.dry:
        for item in litter:
            shelf.clear(item)
        for item in hidden:
            _remove(Path(item.name))
    if sweep.roots:
        _collect_artifacts(sweep, runs, console)
    return 0


def _collect_artifacts(sweep: Sweep, runs: Sequence[Path], console: Console) -> None:
    with sweep.store.shelf.unused() as alone:
        if not alone:
            console.print(f"artifacts stay: a run uses {sweep.store.root} now", markup=False, highlight=False, soft_wrap=True)
            return
        items = list(sweep.store.shelf.items())
        needed = _with_trees(sweep.store, _needed(sweep, runs), {item.name for item in items})
        going = [item for item in items if item.name not in needed and item.age > sweep.older]
        staying = [item for item in items if item.name in needed or item.age <= sweep.older]
        _tell(sweep, f"artifacts that none of {len(runs)} runs needs", going, console)
        console.print(f"{len(staying):,} artifacts stay, {_size(staying)}", highlight=False)
        for item in () if sweep.dry else going:
            sweep.store.shelf.remove(item.name)


def _needed(sweep: Sweep, runs: Sequence[Path]) -> set[str]:
    """The keys of all artifacts that the runs name."""
    documents = [RunManifest.load(folder).document for folder in runs]
    if not any(document.get("store") == str(sweep.store.root) for document in documents):
        places = ", ".join(map(str, sweep.roots))
        raise ConfigError(f"no run under {places} uses the store {sweep.store.root}; name the folder that holds its runs")
    return {key for document in documents for key in _keys(document)}


def _with_trees(store: Store, keys: set[str], there: set[str]) -> set[str]:
    """Keys, and those of which their artifacts of many files are made."""
    trees = [key for key in keys if tree_key(key) in there]
    return keys | {tree_key(key) for key in trees} | {part for key in trees for part in tree_parts(store, key)}


def _keys(document: Mapping[str, Any]) -> Iterator[str]:
    for job in document["jobs"].values():
        for stage in STAGES:
            for entry in stage_entries(job, stage):
                yield from entry["key"].split(",")
    structures = document.get("settings", {}).get("structures")
    if structures:
        yield index_key(structures)


def _hidden(folder: Path) -> Iterator[Item]:
    """Files and folders of a run that were being written when their writer died."""
    for path in sorted(folder.glob(".*")) + sorted(folder.glob("*/.*")):
        age = time.time() - path.stat().st_mtime
        if path.suffix in HIDDEN and age > LITTER_AGE:
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            yield Item(str(path), sum(file.stat().st_size for file in files), age)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _tell(sweep: Sweep, what: str, items: Sequence[Item], console: Console) -> None:
    verb = "would go" if sweep.dry else "go"
    console.print(f"{len(items):,} {what} {verb}, {_size(items)}", markup=False, highlight=False, soft_wrap=True)
    for item in items if sweep.listed else ():
        text = f"  {item.name}  {item.size:,} bytes, {item.age / 86400:.1f} days old"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _size(items: Sequence[Item]) -> str:
    total = float(sum(item.size for item in items))
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if total < 1024 or unit == "GiB":
            break
        total /= 1024
    return f"{total:,.0f} {unit}" if unit == "bytes" else f"{total:,.1f} {unit}"
