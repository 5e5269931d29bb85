"""Where a run searches for homologues: databases, by what they hold, and a server. Each says under which key its result is known."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from structgen.errors import InputError
from structgen.search.hmmer import JackhmmerSettings
from structgen.search.mmseqs import MmseqsSettings
from structgen.search.server import ServerSettings
from structgen.store import artifact_key

SEARCH_VERSION = 1  # raised when equal inputs would give other bytes


@dataclass(frozen=True)
class Source(ABC):
    """Small, so that it travels to every worker. What it holds decides every result, except where it lies."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For what a report says."""

    @abstractmethod
    def key(self, sequence: str) -> str:
        """Of the alignment of this sequence, whatever job it is part of."""


@dataclass(frozen=True)
class FastaSource(Source):
    """A FASTA file that jackhmmer searches in process, one sequence at a time."""

    path: str
    digest: str  # sha256 of the file
    settings: JackhmmerSettings

    @property
    def name(self) -> str:
        return Path(self.path).name

    def key(self, sequence: str) -> str:
        parameters = {"sequence": sequence, "jackhmmer": dataclasses.asdict(self.settings)}
        return artifact_key("search", SEARCH_VERSION, parameters=parameters, inputs=[self.digest])


@dataclass(frozen=True)
class MmseqsSource(Source):
    """A database that mmseqs2 searches, many sequences at a time."""

    path: str
    digest: str
    settings: MmseqsSettings

    @property
    def name(self) -> str:
        return Path(self.path).name

    def key(self, sequence: str) -> str:
        parameters = {"sequence": sequence, "mmseqs": dataclasses.asdict(self.settings)}
        return artifact_key("search", SEARCH_VERSION, parameters=parameters, inputs=[self.digest])


@dataclass(frozen=True)
class ServerSource(Source):
    """A server that is asked for many sequences at a time. Its databases are whatever it has; what it said once is kept."""

    host: str
    settings: ServerSettings

    @property
    def name(self) -> str:
        return self.host.partition("://")[2]

    def key(self, sequence: str) -> str:
        parameters = {"sequence": sequence, "server": self.host, "mode": self.settings.mode}
        return artifact_key("search", SEARCH_VERSION, parameters=parameters, inputs=[])

    def pair_key(self, sequence: str, partners: Sequence[str]) -> str:
        """Of the rows that pair with those of the other chains of a complex; `partners` are its distinct sequences, its own too."""
        parameters = {"sequence": sequence, "partners": list(partners), "server": self.host, "mode": self.settings.pair_mode}
        return artifact_key("search", SEARCH_VERSION, parameters=parameters, inputs=[])


def pairs(source: Source) -> bool:
    """Whether it is asked for rows of different chains that go together. Where it is not, rows are paired by their species, much later."""
    return isinstance(source, ServerSource) and source.settings.pairing != "none"


def joined_key(sequence: str, parts: Sequence[str]) -> str:
    """Of the rows of several alignments of one sequence, one below the other."""
    return artifact_key("search", SEARCH_VERSION, parameters={"sequence": sequence, "joined": True}, inputs=parts)


def require_same(found: str, source: FastaSource | MmseqsSource) -> None:
    """Raises `InputError` where a database is not any more what the run began with."""
    if found != source.digest:
        raise InputError("database changed since the run began", where=source.path, remedy="run the same command again")
