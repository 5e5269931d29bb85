"""Checkpoints: named tensors and text metadata in one safetensors file. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from structgen.errors import CheckpointError
from structgen.store import replacing

REQUIRED = "config"  # the network's configuration as JSON: a checkpoint needs no other file
LENGTH = 8  # bytes of the header's length, which opens the file
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Put the checkpoint at `path`, whole or not at all; equal contents give equal bytes.

    Every tensor is asked for twice, for its shape and for its numbers, and let go each time: a mapping that makes its tensors when
    they are asked for is never in memory as a whole. Raises `CheckpointError` for metadata without `config` or with values that are not
    text, for a type that safetensors does not have, and for a folder that cannot be written to.
    """
    _require_config(path, metadata)
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise CheckpointError(f"{path}: metadata must be text, found {metadata!r:.200}")
    known = {name: tensors[name].to("meta") for name in sorted(tensors)}
    names = sorted(known, key=lambda name: -known[name].itemsize)  # wide types first, so that every tensor is aligned
    header = _header({name: known[name] for name in names}, metadata, path)
    try:
        with replacing(path) as file:
            file.write(header)
            for name in names:
                file.write(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    except OSError as error:
        raise CheckpointError(f"{path}: checkpoint cannot be written: {error.strerror or error}") from error


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> bytes:
    """The length of the header and the header itself: type, shape and place of every tensor."""
    places: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            raise CheckpointError(f"{path}: {name} cannot be written: safetensors has no type {tensor.dtype}")
        places[name] = {"dtype": TYPES[tensor.dtype], "shape": tuple(tensor.shape), "data_offsets": (start, start + tensor.nbytes)}
        start += tensor.nbytes
    text = json.dumps(places, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH)
    return len(text).to_bytes(LENGTH, "little") + text


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Tensors (on the CPU) and metadata by name, and the sha256 of the file.

    Raises `CheckpointError` for a file that is missing, truncated, not safetensors or without `config` in its metadata.
    """
    try:
        digest = file_digest(path)
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except OSError as error:
        raise CheckpointError(f"{path}: checkpoint cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); checkpoints of Protenix and OpenFold3 (PyTorch files) must be converted "
            "with `structgen convert`, and a damaged copy fetched again"
        ) from error
    _require_config(path, metadata)
    return tensors, metadata, digest


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes. Raises `OSError`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_config(path: Path, metadata: Mapping[str, str]) -> None:
    if REQUIRED not in metadata:
        found = ", ".join(sorted(metadata)) or "no metadata"
        raise CheckpointError(f"{path}: not a checkpoint of structgen: its metadata must hold {REQUIRED!r}; found {found}")
