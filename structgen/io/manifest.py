"""A job's manifest: what its folder holds, from what and with what it was made. Its presence says that the folder is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """Everything that `<job>_manifest.json` says. Paths are relative to the job's folder; digests are sha256."""

    name: str  # the user's name of the job
    slug: str  # the folder's and the files' name
    source: str
    input_sha256: str  # of `<job>_job.json`
    software: str
    model: str
    model_sha256: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    msa_depth: Mapping[str, int]
    ranking: tuple[tuple[int, int, float], ...]  # (seed, sample, ranking score), the best first
    notes: tuple[str, ...]
    warnings: tuple[str, ...]  # what is missing or undefined in the files, in words
    pdb_chains: Mapping[str, str]  # chain id to the character in the PDB files, where these differ
    files: Mapping[str, str]  # path to digest, the manifest itself not among them
    device: str
    seconds: Mapping[str, float]
    written: str  # ISO 8601, UTC
    templates: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # by chain id, see `features.templates.Used`
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Readable JSON with sorted keys."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"
