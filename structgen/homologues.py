"""Where the alignment of a chain comes from: the job itself, a given file, evidence that was carried here, or the run's searches."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from structgen.carried import absent, load_carried
from structgen.errors import InputError
from structgen.features.job import Chain, Job, Kind
from structgen.features.msa import Msa
from structgen.io.a3m import parse_a3m
from structgen.run import Run, given_key, own_key
from structgen.search.batch import Part, is_batched, packed, parts_of
from structgen.search.given import GivenAlignments, find_alignments, joined, own_alignment, own_digests
from structgen.search.hmmer import load_database, search
from structgen.search.sources import FastaSource, joined_key, pairs, require_same
from structgen.store import Store

Step = tuple[str, Callable[[], bytes]]
"""Key of an artifact and how to make it."""


@dataclass(frozen=True)
class Found:
    """A piece of evidence: its key (empty where there is none), what to say of it, and what makes it, the last step itself."""

    key: str = ""
    note: str = ""
    steps: tuple[Step, ...] = ()
    searched: tuple[str, ...] = ()  # keys of what has to be searched for it


class Homologues:
    """The alignments of a run's chains. Nothing is searched by asking."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._given = find_alignments(Path(run.settings.msa)) if run.settings.msa else None
        self._carried = load_carried(Path(run.settings.evidence)) if run.settings.evidence else None

    def of(self, chain: Chain, partners: tuple[str, ...] = ()) -> Found:
        """What the job says of the chain comes first, then given files, then what was carried, then searches. Only proteins are searched.

        Raises `InputError` for a file that cannot be read, and for a protein of which nothing was carried.
        """
        if chain.msa is not None:
            return self._own(chain)
        if chain.kind is not Kind.PROTEIN:
            return Found()
        sequence = chain.sequence
        if self._given and self._given.files_of(sequence):
            return self._from_files(self._given, sequence)
        if self._carried:
            found = self._carried.of(sequence, partners)
            steps = ((found.msa, partial(absent, str(self._run.store.root), "an alignment that was carried here")),)
            return Found(found.msa, found.note, steps if found.msa else ())
        if self._run.sources:
            return self._searched(sequence, partners)
        return Found(note=self._given.note_on(sequence) if self._given else "")

    def partners(self, job: Job) -> tuple[str, ...]:
        """The distinct proteins of a complex whose rows are paired by who searches for them; nothing where nobody does."""
        if not (self._carried and self._carried.is_paired) and not any(pairs(source) for source in self._run.sources):
            return ()
        sequences = {chain.sequence for chain in job.chains if self._is_searched(chain)}
        return tuple(sorted(sequences)) if len(sequences) > 1 else ()

    def parts(self, job: Job) -> list[Part]:
        """All that is searched for a job."""
        if not self._run.sources or self._carried:
            return []
        partners = self.partners(job)
        chains = [chain for chain in job.chains if self._is_searched(chain)]
        return [part for chain in chains for part in parts_of(self._run.sources, chain.sequence, partners)]

    def _is_searched(self, chain: Chain) -> bool:
        given = self._given is not None and bool(self._given.files_of(chain.sequence))
        return chain.kind is Kind.PROTEIN and chain.msa is None and not given

    def _own(self, chain: Chain) -> Found:
        digests = own_digests(chain)
        if not digests:
            return Found(note="no alignment, as the job says")
        key = own_key(chain, digests)
        return Found(key, f"alignment{'s' * (len(digests) > 1)} of the job", ((key, partial(_own_bytes, chain)),))

    def _from_files(self, given: GivenAlignments, sequence: str) -> Found:
        key = given_key(sequence, [hashlib.sha256(file.read_bytes()).hexdigest() for file in given.files_of(sequence)])
        return Found(key, given.note_on(sequence), ((key, partial(_read, given, sequence)),))

    def _searched(self, sequence: str, partners: tuple[str, ...]) -> Found:
        """One search is known by its own key; several are joined, so that another one costs nothing but itself."""
        parts = parts_of(self._run.sources, sequence, partners)
        keys = tuple(part.key for part in parts)
        steps: tuple[Step, ...] = tuple((part.key, partial(self._search, part)) for part in parts)
        note = f"searched in {', '.join(source.name for source in self._run.sources)}"
        if len(parts) == 1:
            return Found(keys[0], note, steps, keys)
        key = joined_key(sequence, keys)
        return Found(key, note, (*steps, (key, partial(_join, self._run.store, keys))), keys)

    def _search(self, part: Part) -> bytes:
        """Of a database that is searched chain by chain; what is found in batches is in the store by now."""
        source = part.source
        if is_batched(part) or not isinstance(source, FastaSource):
            return absent(str(self._run.store.root), f"what {source.name} found")
        database = load_database(Path(source.path))
        require_same(database.digest, source)
        return packed(search(part.sequence, database, source.settings))


def _own_bytes(chain: Chain) -> bytes:
    msa = own_alignment(chain)
    if msa is None:
        raise InputError(f"chain {chain.id} has no alignment of its own")
    return packed(msa)


def _read(given: GivenAlignments, sequence: str) -> bytes:
    msa = given.alignment_of(sequence)
    if msa is None:
        raise InputError("alignment is gone", where=str(given.path), remedy="run the same command again")
    return packed(msa)


def _join(store: Store, keys: tuple[str, ...]) -> bytes:
    return packed(joined([read_msa(store, key) for key in keys]))


def read_msa(store: Store, key: str, kind: Kind = Kind.PROTEIN) -> Msa:
    """An alignment of such a chain that Search published."""
    return parse_a3m(gzip.decompress(store.read(key)).decode("utf-8"), f"artifact {key}", kind=kind)
