"""Folders that appear whole: what happens when two writers meet, and when a name cannot be taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from structgen.io.folder import publish_folder


def _fill(text: str):
    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner/file").write_text(text)

    return fill


def test_of_two_writers_the_first_to_finish_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer takes the name just before this one does: no error, no mixture, nothing left over."""
    target, rename = tmp_path / "job", os.rename

    def late(source: Path, name: Path) -> None:
        target.mkdir()
        _fill("other")(target)
        rename(source, name)

    monkeypatch.setattr(os, "rename", late)
    publish_folder(target, _fill("mine"))
    assert (target / "inner/file").read_text() == "other"
    assert os.listdir(tmp_path) == ["job"]


def test_a_name_that_cannot_be_taken_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing rename with nothing at the target is reported and leaves no litter."""

    def failing(source: Path, name: Path) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(PermissionError):
        publish_folder(tmp_path / "job", _fill("mine"))
    assert os.listdir(tmp_path) == []


def test_names_with_wildcards_sweep_only_their_own(tmp_path: Path) -> None:
    """A hidden folder of another target is left alone, whatever the characters of the name."""
    other = tmp_path / ".job.elsewhere.999999999.new"
    other.mkdir()
    publish_folder(tmp_path / "j*b", _fill("mine"))
    publish_folder(tmp_path / "job", _fill("mine"))
    assert other.is_dir() and sorted(os.listdir(tmp_path)) == [other.name, "j*b", "job"]
