"""What is asked for: a job is a complex, a chain one molecule in it. Jobs come from files and travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from structgen.errors import InputError
from structgen.features.atoms import Kind


@dataclass(frozen=True)
class Chain:
    """One molecule: `id` is 1 to 4 letters or digits, `sequence` one-letter codes in capitals."""

    id: str
    kind: Kind
    sequence: str


@dataclass(frozen=True)
class Job:
    """One complex to predict. `name` is the user's, `slug` a safe and unique folder name, `source` the file and record."""

    name: str
    slug: str
    chains: tuple[Chain, ...]
    source: str = ""
    notes: tuple[str, ...] = ()  # how the input was read where more than one reading was possible

    @property
    def tokens(self) -> int:
        """Tokens of the network: one a standard residue (SI 2.6)."""
        return sum(len(chain.sequence) for chain in self.chains)

    def to_json(self) -> str:
        """The job as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Inverse of `to_json`. Raises `InputError` for text that is not such a job."""
        try:
            return _from_values(json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"job cannot be read: {type(error).__name__} {error}", found=repr(text[:60]), expected="JSON as written by structgen"
            ) from error


def _from_values(values: dict[str, Any]) -> Job:
    chains = tuple(Chain(str(c["id"]), Kind(c["kind"]), str(c["sequence"])) for c in values["chains"])
    unknown = set(values) - {"name", "slug", "chains", "source", "notes"}
    if unknown or not chains:
        raise ValueError(f"unknown key {min(unknown)!r}" if unknown else "no chains")
    return Job(str(values["name"]), str(values["slug"]), chains, str(values.get("source", "")), tuple(map(str, values.get("notes", ()))))


def chain_ids(count: int) -> tuple[str, ...]:
    """Ids by position as the PDB gives them: A to Z, then AA, BA, ..., ZA, AB, ... (the first letter turns fastest)."""
    return tuple(_chain_id(i) for i in range(count))


def _chain_id(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters += chr(ord("A") + letter)
    return letters


def protein_chains(sequences: Sequence[str]) -> tuple[Chain, ...]:
    """Chains A, B, ... of proteins."""
    return tuple(Chain(id, Kind.PROTEIN, sequence) for id, sequence in zip(chain_ids(len(sequences)), sequences, strict=True))
