"""What the page carries as bytes: text by columns, PAE as differences of bytes, everything as safetensors under gzip.

The browser undoes each of these in a few lines (`assets/data.js`). Equal values give equal bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import safetensors.numpy

PAE_STEP = 0.125  # angstrom
PAE_UNDEFINED = 255  # 31.875 angstrom and more are 254

_LEVEL = 9


def by_columns(text: str) -> bytes:
    """The UTF-8 of a text in which each run of lines of equal length, newlines among them, is stored column after column.

    Tables of atoms have such lines, and shrink by a third more when digits of one place stand together. Lossless, see `by_rows`.
    """
    return b"".join(block.T.tobytes() for block in _blocks(text.encode()))


def by_rows(content: bytes, lengths: list[tuple[int, int]]) -> str:
    """Inverse of `by_columns`; `lengths` is what `line_blocks` says of the text."""
    parts, at = [], 0
    for width, rows in lengths:
        parts.append(np.frombuffer(content, np.uint8, width * rows, at).reshape(width, rows).T.tobytes())
        at += width * rows
    return b"".join(parts).decode()


def line_blocks(text: str) -> list[tuple[int, int]]:
    """(bytes in a line, lines) of each run of lines of equal length."""
    return [(block.shape[1], block.shape[0]) for block in _blocks(text.encode())]


def _blocks(content: bytes) -> Iterator[np.ndarray]:
    """Runs of equally long lines as [lines, bytes]; the last line may lack its newline."""
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
    bounds = np.unique(np.concatenate(([0], ends, [len(content)])))
    at = 0
    for width, run in groupby(np.diff(bounds).tolist()):
        rows = sum(1 for _ in run)
        yield np.frombuffer(content, np.uint8, width * rows, at).reshape(rows, width)
        at += width * rows


def quantise_pae(pae: np.ndarray) -> np.ndarray:
    """[N, N] angstrom as bytes: steps of `PAE_STEP`, then the difference (modulo 256) to the row above, which compresses better.

    The error is at most half a step up to 31.8 angstrom. NaN is `PAE_UNDEFINED`.
    """
    finite = np.isfinite(pae)
    steps = np.clip(np.rint(np.where(finite, pae, 0).astype(np.float64) / PAE_STEP), 0, PAE_UNDEFINED - 1)
    whole = np.where(finite, steps, PAE_UNDEFINED).astype(np.uint8)
    return np.diff(whole, axis=0, prepend=np.zeros((1, whole.shape[1]), np.uint8))


def restore_pae(packed: np.ndarray) -> np.ndarray:
    """[N, N] float32 angstrom of `quantise_pae`'s bytes, NaN where undefined."""
    whole = np.cumsum(packed, axis=0, dtype=np.uint8)
    return np.where(whole == PAE_UNDEFINED, np.nan, whole * np.float32(PAE_STEP)).astype(np.float32)


def pack(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """JSON facts and arrays as one compressed safetensors file."""
    metadata = {"facts": strict_json(facts)}
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return gzip.compress(safetensors.numpy.save(whole, metadata), _LEVEL, mtime=0)


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Inverse of `pack`."""
    plain = gzip.decompress(content)
    header = json.loads(plain[8 : 8 + int.from_bytes(plain[:8], "little")])
    return json.loads(header["__metadata__"]["facts"]), safetensors.numpy.load(plain)


def strict_json(value: Any) -> str:
    """Compact ASCII JSON in which NaN and infinities, which files of others may hold, are null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    return json.dumps(finite, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
