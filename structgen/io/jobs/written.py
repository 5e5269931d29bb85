"""What a writer gives: the bytes, the files beside them, and what the format could not hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from structgen.features.job import Chain, Job


@dataclass(frozen=True)
class Loss:
    """What a format does not hold: an item of the table of formats, and the values that are lost."""

    item: str
    what: str

    def __str__(self) -> str:
        return f"{self.item}: {self.what}"


@dataclass(frozen=True)
class Written:
    """One job in a format."""

    data: bytes
    losses: tuple[Loss, ...] = ()
    beside: Mapping[str, bytes] = field(default_factory=dict)  # files by name, to lie in the same folder


def json_bytes(value: Any) -> bytes:
    """JSON as people read it: indented, its text as it is."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def entities(job: Job) -> list[list[Chain]]:
    """Runs of neighbouring chains that differ by their id alone."""
    return [list(group) for _, group in groupby(job.chains, key=_likeness)]


def _likeness(chain: Chain) -> tuple[Any, ...]:
    return *chain.content, chain.msa, chain.templates, chain.description


def without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that say something."""
    return {key: value for key, value in values.items() if value not in (None, "", [], {}, ())}


def shown_ids(chains: Sequence[Chain]) -> str:
    """Ids as a loss names them."""
    return ", ".join(chain.id for chain in chains)
