"""Checkpoints keep every bit, are deterministic, and refuse everything that is not one."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch

from structgen.errors import CheckpointError
from structgen.io.checkpoint import read_checkpoint, write_checkpoint

METADATA = {"config": '{"c_s": 384, "text": "ä"}', "card": "made in a test", "licence": "none", "steps": "7"}


def _tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "trunk.weight": torch.randn(3, 5, generator=draw),
        "trunk.half": torch.randn(7, generator=draw).to(torch.bfloat16),
        "index": torch.arange(4),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
    }


def test_reads_what_was_written(tmp_path: Path) -> None:
    """Names, shapes, types, bits, metadata, and the digest of the file's bytes."""
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, _tensors(), METADATA)
    tensors, metadata, digest = read_checkpoint(path)
    assert metadata == METADATA
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert tensors.keys() == _tensors().keys()
    for name, expected in _tensors().items():
        assert tensors[name].dtype == expected.dtype and torch.equal(tensors[name], expected)
    assert {name: t.shape for name, t in safetensors.torch.load_file(path).items()} == {n: t.shape for n, t in _tensors().items()}


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    """Ten writes, keys in either order, leave one digest and no other file."""
    digests = set()
    for k in range(10):
        order = list(METADATA.items())[:: 1 if k % 2 else -1]
        write_checkpoint(tmp_path / "model.safetensors", dict(list(_tensors().items())[:: 1 if k % 2 else -1]), dict(order))
        digests.add(read_checkpoint(tmp_path / "model.safetensors")[2])
    assert len(digests) == 1
    assert os.listdir(tmp_path) == ["model.safetensors"]


def _written(path: Path) -> bytes:
    write_checkpoint(path, _tensors(), METADATA)
    return path.read_bytes()


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_truncated_files_are_refused(tmp_path: Path, keep: int) -> None:
    """Cut inside the length, the header or the tensors."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(_written(path)[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole safetensors file"):
        read_checkpoint(path)


def test_trailing_bytes_are_refused(tmp_path: Path) -> None:
    """A file that goes on after its tensors is not the file that was written."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(_written(path) + b"x")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read_checkpoint(path)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    """Neither a bare pickle nor a PyTorch file is opened as one."""
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))
    torch.save({"weight": torch.zeros(2), "x": _Bomb(tmp_path / "ran")}, tmp_path / "zip.pt")
    for name in ("bare.pt", "zip.pt"):
        with pytest.raises(CheckpointError, match="must be converted"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_missing_files_folders_and_configurations_are_named(tmp_path: Path) -> None:
    """Each error says which file and what is lacking."""
    with pytest.raises(CheckpointError, match="none: checkpoint cannot be read: No such file"):
        read_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_checkpoint(tmp_path)
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="must hold 'config'; found no metadata"):
        read_checkpoint(tmp_path / "bare.safetensors")


def test_what_cannot_be_held_is_not_written(tmp_path: Path) -> None:
    """No configuration, values that are no text, a type that safetensors lacks: an error, and the file that was there stays."""
    path = tmp_path / "model.safetensors"
    before = _written(path)
    for tensors, metadata, message in (
        (_tensors(), {"card": "x"}, "must hold 'config'; found card"),
        (_tensors(), {"config": 3}, "must be text"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, METADATA, "a cannot be written: safetensors has no type"),
    ):
        with pytest.raises(CheckpointError, match=message):
            write_checkpoint(path, tensors, metadata)
    with pytest.raises(CheckpointError, match="cannot be written: No such file"):
        write_checkpoint(tmp_path / "none" / "model.safetensors", _tensors(), METADATA)
    assert path.read_bytes() == before


def test_views_are_written_as_their_numbers(tmp_path: Path) -> None:
    """Two names for one memory, and a transposed matrix, read back as equal tensors."""
    path, x = tmp_path / "model.safetensors", torch.arange(12.0).reshape(3, 4)
    write_checkpoint(path, {"a": x, "b": x, "c": x.T}, METADATA)
    tensors = read_checkpoint(path)[0]
    assert all(torch.equal(tensors[name], value) for name, value in {"a": x, "b": x, "c": x.T}.items())


class _Counted(Mapping[str, torch.Tensor]):
    """Makes its tensors when asked; `held` is how many of them are alive at most."""

    def __init__(self, count: int) -> None:
        self.count, self.alive, self.held = count, 0, 0

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = torch.full((64,), float(name))
        self.alive += 1
        self.held = max(self.held, self.alive)
        weakref.finalize(tensor, self._gone)
        return tensor

    def _gone(self) -> None:
        self.alive -= 1

    def __iter__(self) -> Iterator[str]:
        return (str(i) for i in range(self.count))

    def __len__(self) -> int:
        return self.count


def test_tensors_are_written_one_at_a_time(tmp_path: Path) -> None:
    """A mapping that makes its tensors is never held as a whole."""
    made = _Counted(40)
    write_checkpoint(tmp_path / "model.safetensors", made, METADATA)
    assert made.held <= 2
    assert {name: tensor[0].item() for name, tensor in read_checkpoint(tmp_path / "model.safetensors")[0].items()} == {
        str(i): float(i) for i in range(40)
    }


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """The process dies just before the new file takes its name: the old one is whole."""
    path = tmp_path / "model.safetensors"
    before = _written(path)
    code = (
        "import os, sys, torch; from pathlib import Path\n"
        "os.replace = lambda *names: os._exit(9)\n"
        "from structgen.io.checkpoint import write_checkpoint\n"
        "write_checkpoint(Path(sys.argv[1]), {'x': torch.ones(9)}, {'config': '{}'})\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_bytes() == before
