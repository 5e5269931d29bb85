"""PyTorch checkpoints, read as data: tensors mapped from the disk, and never any code of the file's."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from structgen.errors import CheckpointError

DEEPSPEED = "mp_rank_00_model_states.pt"  # the weights in a folder that DeepSpeed writes; `latest` beside it names the sub-folder


def weights_file(path: Path) -> Path:
    """The file with the weights: `path`, or in a folder of DeepSpeed the latest. Raises `CheckpointError` where there is none."""
    if not path.is_dir():
        return path
    try:
        found = path / (path / "latest").read_text(encoding="utf-8").strip() / DEEPSPEED
    except OSError as error:
        raise CheckpointError(f"{path}: a folder without a file `latest` is no checkpoint of DeepSpeed; name the file itself") from error
    if not found.is_file():
        raise CheckpointError(f"{path}: `latest` points to {found}, which does not exist")
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a PyTorch file by name: averaged ones (`ema.params`) where there are any, else `model`, `state_dict` or `module`.

    Nothing but tensors and plain values is unpickled, and tensors stay on the disk until their numbers are used. Raises
    `CheckpointError` for a file that cannot be read, needs more than that, or holds no weights.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not weights by name")
    found = _weights(content)
    strange = [str(name) for name, value in found.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if strange or not found:
        shown = ", ".join(strange[:5]) or "nothing"
        raise CheckpointError(
            f"{path}: expected tensors by name, alone or under `model`, `state_dict`, `module` or `ema.params`; found {shown}"
        )
    return dict(found)


def _weights(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    average = content.get("ema")
    if isinstance(average, Mapping) and isinstance(average.get("params"), Mapping):
        return average["params"]
    return next((content[name] for name in ("model", "state_dict", "module") if isinstance(content.get(name), Mapping)), content)


def _load(path: Path) -> Any:
    _require_pickle(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path}: reading it would run code of the file's ({named[1] if named else 'a pickle that torch.save did not write'}), which "
            "structgen never does. Where you trust the file, save its tensors alone: content = torch.load(FILE, weights_only=False); "
            "torch.save({'model': content['model']}, NEW_FILE), with the name under which it keeps its weights: model, state_dict, "
            "module or, averaged, content['ema']['params']"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise CheckpointError(f"{path}: not a whole PyTorch file ({reason[:120]}); fetch it again") from error


def _require_pickle(path: Path) -> None:
    """A zip archive or a bare pickle, which are the two forms that torch.save writes."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: checkpoint cannot be read: {error.strerror or error}") from error
    if start[8:9] == b"{":
        raise CheckpointError(f"{path}: a safetensors file already; give it to --model as it is")
    if start[:2] != b"PK" and start[:1] != b"\x80":
        raise CheckpointError(f"{path}: not a PyTorch file; it begins with {start[:8]!r}")
