"""A folder that appears under its name with all its files, or not at all, whenever the writer is killed."""

from __future__ import annotations

import glob
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from structgen.store import fsync_folder


def publish_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a hidden folder beside `target`, make it durable, and give it the name in place of an earlier folder.

    A reader finds the earlier folder, none for a moment, or the new one. Of two writers at once the first to finish wins. What killed
    writers of this machine left behind is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    new, old = _hidden(target, "new"), _hidden(target, "old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    try:
        fill(new)
        _make_durable(new)
        if target.exists():
            os.rename(target, old)
        _take_name(new, target)
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def _take_name(new: Path, target: Path) -> None:
    try:
        os.rename(new, target)
    except OSError:
        if not target.exists():
            raise
    fsync_folder(target.parent)


def _make_durable(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(Path(parent) / name, "rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(parent))


def _hidden(target: Path, purpose: str) -> Path:
    return target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.{purpose}")


def _sweep(target: Path) -> None:
    """Remove the hidden folders for this target whose process is gone."""
    mine = glob.escape(f".{target.name}.{socket.gethostname()}.")
    for left in target.parent.glob(f"{mine}*.*"):
        process = left.name.split(".")[-2]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
