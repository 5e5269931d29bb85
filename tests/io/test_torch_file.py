"""PyTorch files are read as data: from every container that the public models use, and without running anything of theirs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from structgen.errors import CheckpointError
from structgen.io.torch_file import read_weights, weights_file

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2, dtype=torch.int64)}
AVERAGES = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
CONTAINERS: dict[str, tuple[Any, dict[str, torch.Tensor]]] = {
    "flat": (WEIGHTS, WEIGHTS),
    "model": ({"model": WEIGHTS, "optimizer": {"state": {0: torch.ones(1)}}, "step": 7}, WEIGHTS),
    "state_dict": ({"state_dict": WEIGHTS, "epoch": 1, "hyper_parameters": {"lr": 0.1}}, WEIGHTS),
    "module": ({"module": WEIGHTS, "dp_world_size": 8}, WEIGHTS),
    "averages": ({"state_dict": WEIGHTS, "ema": {"params": AVERAGES, "decay": 0.999}}, AVERAGES),
}


@pytest.mark.parametrize(("content", "expected"), CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_container_is_opened(content: Any, expected: dict[str, torch.Tensor], zipped: bool, tmp_path: Path) -> None:
    """Names, types and numbers, in the present format and in the one before it."""
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "x.pt")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_the_latest_of_deepspeed_is_taken(tmp_path: Path) -> None:
    """A folder stands for the file that `latest` leads to."""
    (tmp_path / "global_step7").mkdir()
    torch.save({"module": WEIGHTS}, tmp_path / "global_step7" / "mp_rank_00_model_states.pt")
    with pytest.raises(CheckpointError, match="without a file `latest`"):
        weights_file(tmp_path)
    (tmp_path / "latest").write_text("global_step8\n")
    with pytest.raises(CheckpointError, match="does not exist"):
        weights_file(tmp_path)
    (tmp_path / "latest").write_text("global_step7\n")
    assert read_weights(weights_file(tmp_path)).keys() == WEIGHTS.keys()


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_never_run(zipped: bool, tmp_path: Path) -> None:
    """A file that needs more than tensors is refused with what it needs and what to do."""
    torch.save({"model": WEIGHTS, "x": _Bomb(tmp_path / "ran")}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"run code of the file's \(posix.mkdir\).*save its tensors alone: "):
        read_weights(tmp_path / "x.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(_Bomb(tmp_path / "ran"), protocol=2))
    with pytest.raises(CheckpointError, match=r"torch\.save did not write|posix\.mkdir"):
        read_weights(tmp_path / "bare.pt")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    """Missing, empty, cut off, of another kind, without tensors."""
    torch.save({"model": WEIGHTS}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    contents = {
        "not a PyTorch file": b"",
        "it begins with b'hello'": b"hello",
        "not a whole PyTorch file": whole[:-20],
        "a safetensors file already": b"\x10\0\0\0\0\0\0\0{}              ",
    }
    for message, content in contents.items():
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_weights(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="No such file"):
        read_weights(tmp_path / "none.pt")
    for value, message in (([1], "holds a list"), ({"step": 1}, "expected tensors by name.*found step"), ({}, "found nothing")):
        torch.save(value, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=message):
            read_weights(tmp_path / "x.pt")
