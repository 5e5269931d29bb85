"""How deep a chain's alignment is at every residue, by how much its rows have in common with the query."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from structgen.errors import InputError, StructgenError
from structgen.features.chemistry import GAP
from structgen.features.job import Kind
from structgen.features.msa import Msa
from structgen.io.a3m import parse_a3m
from structgen.store import Store

BANDS = (0.9, 0.7, 0.5, 0.3, 0.0)  # lower bounds of identity, the closest relatives first
_MOST_BYTES = 512 * 2**20  # of an alignment's text: what is compressed may unfold to anything


def coverage(msa: Msa) -> np.ndarray:
    """[len(BANDS), n] uint32: rows with a residue in the column, by the share of a row's residues that equal the query's. Row 0 counts."""
    present = msa.rows != GAP
    same = ((msa.rows == msa.rows[0]) & present).sum(1)
    identity = same / np.maximum(present.sum(1), 1)
    band = np.argmax(identity[:, None] >= np.array(BANDS), axis=1)
    return np.stack([present[band == k].sum(0) for k in range(len(BANDS))]).astype(np.uint32)


def coverages(store: Path, keys: Sequence[str], chains: Sequence[tuple[str, Kind]]) -> dict[int, np.ndarray]:
    """`coverage` by the index of a chain, for (sequence, kind) of all chains. Artifacts that are gone or something else are passed over.

    An alignment belongs to the chains whose sequence is its first row.
    """
    found = {}
    for key in dict.fromkeys(keys):
        text = _alignment(store, key)
        for index, (sequence, kind) in enumerate(chains):
            if text and index not in found and (msa := _of_chain(text, sequence, kind)) is not None:
                found[index] = coverage(msa)
    return found


def _alignment(store: Path, key: str) -> str:
    """The A3M text of an artifact of Search, empty where it is gone or holds something else (templates are artifacts too)."""
    try:
        with gzip.GzipFile(fileobj=BytesIO(Store(store).read(key))) as file:
            content = file.read(_MOST_BYTES + 1)
        return content.decode() if len(content) <= _MOST_BYTES else ""
    except (OSError, EOFError, ValueError, zlib.error, StructgenError):
        return ""


def _of_chain(text: str, sequence: str, kind: Kind) -> Msa | None:
    try:
        return parse_a3m(text, "", sequence, kind)
    except InputError:
        return None
