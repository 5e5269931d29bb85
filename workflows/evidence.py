"""What a run knows of its proteins before the first fold: its databases, one search for the whole batch, and what must not be searched."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from structgen.alphafold3.model import Model
from structgen.attempt import failed
from structgen.carried import is_archive, require_artifacts, unpack
from structgen.errors import InputError, StructgenError
from structgen.features.job import Job, Kind
from structgen.run import Run, first_row
from structgen.search.batch import Means, Part, search_missing
from structgen.search.digests import file_digest
from structgen.search.given import find_alignments, require_use
from structgen.search.mmseqs_database import open_database
from structgen.search.server_http import Access, Patience, check_host
from structgen.search.sources import FastaSource, MmseqsSource, ServerSource, Source
from structgen.search.template_index import build_index
from structgen.settings import Settings
from structgen.stages import Search, takes_templates
from structgen.store import Store
from workflows.progress import reading

_SHOWN = 5  # chains that an error names


def sources(settings: Settings, jobs: Sequence[Job], store: Store) -> tuple[Source, ...]:
    """Where the run searches, in the order of the rows. Raises `InputError` or `ConfigError` for evidence that cannot be used.

    Evidence that was carried here comes into the store.
    """
    if settings.msa:
        proteins = [chain for job in jobs for chain in job.chains if chain.kind is Kind.PROTEIN and chain.msa is None]
        require_use(find_alignments(Path(settings.msa)), [chain.sequence for chain in proteins])
    if settings.evidence:
        _take_in(Path(settings.evidence), store)
    fasta = [FastaSource(path, file_digest(Path(path), store, "a FASTA database"), settings.search) for path in settings.seqdb]
    mmseqs = [MmseqsSource(path, open_database(Path(path), store).digest, settings.mmseqs) for path in settings.mmseqs_db]
    servers = [ServerSource(settings.msa_server.rstrip("/"), settings.server)] if settings.msa_server else []
    for server in servers:
        check_host(server.host, Access.from_environment())
    return (*fasta, *mmseqs, *servers)


def _take_in(path: Path, store: Store) -> None:
    if is_archive(path):
        unpack(path, store)
    require_artifacts(path, store)


def with_library(settings: Settings, library: Path | None) -> Settings:
    """The settings with the model's own library where no templates are named. Evidence that was carried here has its own with it."""
    return settings if settings.templates or settings.evidence or library is None else replace(settings, templates=str(library))


def without_templates(model: str) -> str:
    """What to say of structures that are named for a model that takes none."""
    return f"{model} was trained without templates: it does not use them, and --templates changes nothing"


def templates_of(model: Model) -> str:
    """What a model does with templates, in words."""
    if not takes_templates(model.config):
        return "uses no templates"
    return f"uses templates, searched in {model.library.name}" if model.library else "uses templates, where --templates names structures"


def index(settings: Settings, store: Store, console: Console) -> str:
    """The digest of the run's structures, every one of which has been read, or nothing where no templates are searched."""
    if not settings.structures:
        return ""
    with reading(console, "Structures") as seen:
        found = build_index(Path(settings.structures), store, seen)
    lost = [f"; not read: {file.name}: {file.problem}" for file in found.unreadable]
    more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
    chains = sum(len(file.chains) for file in found.files)
    text = f"Templates: {chains:,} protein chains of {len(found.files):,} files{''.join(lost[:1])}{more}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return found.digest


def digests(run: Run) -> list[str]:
    """What tells the run's sources from others of the same names, for its record."""
    return [source.digest if isinstance(source, FastaSource | MmseqsSource) else source.name for source in run.sources]


def require_known(run: Run, jobs: Sequence[Job], *, offline: bool) -> None:
    """Raises `InputError` where a run that must not search lacks evidence; all of it is told before anything is computed."""
    if not offline and not run.settings.evidence:
        return
    search = Search(run)
    lacking = [f"{job.source}: {text}" for job in jobs for text in _lacking(search, job)]
    if lacking:
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        remedy = "run `structgen search` with the same inputs and databases where these can be searched, and carry its evidence here"
        message = f"{len(lacking)} chain(s) lack evidence, and nothing is searched offline"
        raise InputError(message, where=str(run.store.root), found="; ".join(lacking[:_SHOWN]) + more, remedy=remedy)


def _lacking(search: Search, job: Job) -> list[str]:
    try:
        return search.unknown(job)
    except InputError as error:
        return [str(error)]


def search_batches(run: Run, jobs: Sequence[Job], deadline: float, say: Callable[[str], None]) -> list[Job]:
    """Search at once for all that pays in batches; returns the jobs that can go on. The others are on record as failed."""
    search = Search(run)
    parts = {job.slug: _parts(search, job) for job in jobs}
    means = Means(len(os.sched_getaffinity(0)), Access.from_environment(), Patience(deadline=deadline))
    lost = search_missing([part for group in parts.values() for part in group], run.store, means, say)
    reasons = {job.slug: next((lost[part] for part in parts[job.slug] if part in lost), None) for job in jobs}
    for job in jobs:
        if reason := reasons[job.slug]:
            failed(run, "search", first_row(job), reason)
    return [job for job in jobs if not reasons[job.slug]]


def _parts(search: Search, job: Job) -> list[Part]:
    """Nothing where the job's own files cannot be read: the stage says so, in its own place."""
    try:
        return search.parts(job)
    except StructgenError:
        return []
