"""Searches that pay for many sequences at once: what a batch of jobs lacks, each sequence once, before its jobs go on one by one."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from structgen.errors import StructgenError
from structgen.features.msa import Msa
from structgen.io.a3m import write_a3m
from structgen.search.mmseqs import search_mmseqs
from structgen.search.mmseqs_binary import find_mmseqs
from structgen.search.mmseqs_database import open_database
from structgen.search.server import Query, search_on_server
from structgen.search.server_http import Access, Http, Patience
from structgen.search.sources import FastaSource, MmseqsSource, ServerSource, Source, pairs, require_same
from structgen.store import Store

MMSEQS_BATCH = 500  # sequences of one call: published together, so that a killed run loses no more


@dataclass(frozen=True)
class Part:
    """What one source finds for one sequence: its alignment, or the rows that pair with those of its `partners` in a complex."""

    source: Source
    sequence: str
    partners: tuple[str, ...] = ()  # the distinct sequences of the complex, its own among them; empty: not paired

    @property
    def key(self) -> str:
        """Under which the store knows it."""
        if self.partners and isinstance(self.source, ServerSource):
            return self.source.pair_key(self.sequence, self.partners)
        return self.source.key(self.sequence)


Outcome = tuple[Part, bytes | StructgenError]


@dataclass(frozen=True)
class Means:
    """What a batch is searched with that is no part of its results."""

    threads: int = 1
    access: Access = field(default_factory=Access)
    patience: Patience = field(default_factory=Patience)


def parts_of(sources: Sequence[Source], sequence: str, partners: Sequence[str]) -> list[Part]:
    """All that is searched for one chain: its alignment in every source, then paired rows of a server that is asked for them."""
    alone = [Part(source, sequence) for source in sources]
    return alone + [Part(source, sequence, tuple(partners)) for source in sources if pairs(source) and len(partners) > 1]


def is_batched(part: Part) -> bool:
    """Whether it is found here. jackhmmer is the business of each job: nothing is gained by searching for several at once."""
    return not isinstance(part.source, FastaSource)


def search_missing(
    parts: Iterable[Part], store: Store, means: Means, say: Callable[[str], None] = lambda text: None
) -> dict[Part, StructgenError]:
    """Search for every part that the store lacks and publish it as soon as it is there; returns those that failed, with the reason."""
    wanted = [part for part in dict.fromkeys(parts) if is_batched(part)]
    failed: dict[Part, StructgenError] = {}
    for source, group in _by_source(wanted).items():
        missing = [part for part in group if not store.holds(part.key)]
        if missing:
            say(f"{source.name}: searching for {len(missing)} of {len(group)} alignments; the others are known")
        for part, found in _search(source, missing, store, means, say):
            if isinstance(found, StructgenError):
                failed[part] = found
            else:
                store.publish(part.key, found)
    return failed


def _by_source(parts: Sequence[Part]) -> Mapping[Source, list[Part]]:
    groups: dict[Source, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.source, []).append(part)
    return groups


def _search(source: Source, parts: Sequence[Part], store: Store, means: Means, say: Callable[[str], None]) -> Iterator[Outcome]:
    if not parts:
        return iter(())
    if isinstance(source, MmseqsSource):
        return _mmseqs(source, parts, store, means)
    if isinstance(source, ServerSource):
        return _server(source, parts, means, say)
    raise TypeError(f"{source} is searched job by job")


def _mmseqs(source: MmseqsSource, parts: Sequence[Part], store: Store, means: Means) -> Iterator[Outcome]:
    find_mmseqs()  # where it is not installed the run ends with one error, not every job with the same
    database = open_database(Path(source.path), store)
    require_same(database.digest, source)
    for start in range(0, len(parts), MMSEQS_BATCH):
        batch = parts[start : start + MMSEQS_BATCH]
        try:
            found = search_mmseqs([part.sequence for part in batch], database, source.settings, means.threads)
        except StructgenError as error:
            yield from ((part, error) for part in batch)
        else:
            yield from ((part, packed(found[part.sequence])) for part in batch)


def _server(source: ServerSource, parts: Sequence[Part], means: Means, say: Callable[[str], None]) -> Iterator[Outcome]:
    """A pair is asked for once, and answers for all its chains."""
    http = Http(source.host, means.access, means.patience, random.Random(), say)
    by_query: dict[Query, list[Part]] = {}
    for part in parts:
        query = Query(part.partners, paired=True) if part.partners else Query((part.sequence,))
        by_query.setdefault(query, []).append(part)
    for query, answer in search_on_server(http, source.settings, list(by_query)):
        for part in by_query[query]:
            yield part, answer if isinstance(answer, StructgenError) else answer[part.sequence]


def packed(msa: Msa) -> bytes:
    """Compressed A3M; equal alignments give equal bytes."""
    return gzip.compress(write_a3m(msa), mtime=0)
