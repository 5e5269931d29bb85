"""Checkpoints: named tensors and text metadata in one safetensors file. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from structgen.errors import CheckpointError
from structgen.store import replace_file

REQUIRED = "config"  # the network's configuration as JSON: a checkpoint needs no other file
LENGTH = 8  # bytes of the header's length, which opens the file


def write_checkpoint(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Put the checkpoint at `path`, whole or not at all; equal contents give equal bytes.

    Raises `CheckpointError` for metadata without `config` or with values that are not text, and for tensors that safetensors
    cannot hold (two names for one memory, not contiguous).
    """
    _require_config(path, metadata)
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise CheckpointError(f"{path}: metadata must be text, found {metadata!r:.200}")
    try:
        content = safetensors.torch.save(tensors, metadata)
    except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path}: tensors cannot be written: {error}") from error
    replace_file(path, _sorted_header(content))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Tensors (on the CPU) and metadata by name, and the sha256 of the file.

    Raises `CheckpointError` for a file that is missing, truncated, not safetensors or without `config` in its metadata.
    """
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except OSError as error:
        raise CheckpointError(f"{path}: checkpoint cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); "
            "other formats, PyTorch's among them, must be converted, and a damaged copy fetched again"
        ) from error
    _require_config(path, metadata)
    return tensors, metadata, digest


def _require_config(path: Path, metadata: dict[str, str]) -> None:
    if REQUIRED not in metadata:
        found = ", ".join(sorted(metadata)) or "no metadata"
        raise CheckpointError(f"{path}: not a checkpoint of structgen: its metadata must hold {REQUIRED!r}; found {found}")


def _sorted_header(content: bytes) -> bytes:
    """The same file with the header's keys in order: safetensors writes the metadata in a random one."""
    length = int.from_bytes(content[:LENGTH], "little")
    header = json.loads(content[LENGTH : LENGTH + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH)
    return b"".join((len(text).to_bytes(LENGTH, "little"), text, memoryview(content)[LENGTH + length :]))
