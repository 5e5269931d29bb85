"""One `search` command: the evidence of a batch, found where databases or the network are, for folds that happen where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import structgen
from structgen.alphafold3.config import Sampling
from structgen.artifacts import templates_from_bytes
from structgen.carried import ChainEvidence, write_archive, write_list
from structgen.errors import ConfigError
from structgen.features.job import Chain, Job, Kind
from structgen.features.pairing import species_key
from structgen.homologues import read_msa
from structgen.manifest import RunManifest, job_errors, run_lock, stage_entries
from structgen.run import Run, first_row
from structgen.settings import Settings, resolve
from structgen.stages import Search
from workflows import authentication, evidence, session
from workflows.progress import display, followed


@dataclass(frozen=True)
class Line:
    """What was found for one chain."""

    job: str
    chain: Chain
    rows: int
    species: int  # by which rows can pair with those of other chains
    templates: int
    note: str


def search(request: session.Request, export: Path | None, console: Console) -> int:
    """Find what is asked for, say what it is, and put the list into the run's folder. Returns the exit status as `predict` does."""
    settings = resolve(request.choices, model=request.model, sampling=Sampling())
    if settings.evidence:
        raise ConfigError("evidence: it was searched already; give it to `structgen predict --evidence`")
    jobs, rejected = session.read(request, settings)
    if not jobs:
        session.print_errors(console, [str(error) for error in rejected])
        return 2
    run = _run(request, settings, jobs, console)
    with run_lock(run.folder), run.store.in_use():
        manifest = RunManifest.load(run.folder)
        manifest.plan({job.slug: session.about(job) for job in jobs}, seeds=settings.seeds, finished=set(), **_facts(run, rejected))
        manifest.save()
        with followed(manifest, display(console, manifest, len(settings.seeds))) as shown:
            able = evidence.search_batches(run, jobs, request.deadline, shown.say)
            _work(request, run, able)
        done = [job for job in able if stage_entries(manifest.jobs[job.slug], "search")[0]["status"] == "done"]
        listed = write_list(run.folder, _chains(run, done))
        packed = write_archive(export, listed, run.store) if export else 0
        _report(manifest, _lines(run, done), console)
        if export:
            console.print(f"{packed} artifacts: {export}", markup=False, highlight=False, soft_wrap=True)
        return _status(manifest)


def _run(request: session.Request, settings: Settings, jobs: Sequence[Job], console: Console) -> Run:
    store = request.store
    return Run(
        folder=request.out.resolve(),
        store=store,
        settings=settings,
        model_name="",
        weights="",
        sources=evidence.sources(settings, jobs, store),
        templates=evidence.index(settings, store, console),
    )


def _facts(run: Run, rejected: Sequence[Exception]) -> dict[str, Any]:
    settings = run.settings.to_json() | {"evidence": evidence.digests(run), "structures": run.templates}
    refused = [{"where": getattr(error, "where", ""), "error": str(error)} for error in rejected]
    return {"software": structgen.__version__, "settings": settings, "store": str(run.store.root), "rejected": refused}


def _work(request: session.Request, run: Run, jobs: Sequence[Job]) -> None:
    where = request.cluster
    rows = [first_row(job) for job in jobs]
    if not where:
        stage = Search(run)
        for row in rows:
            stage(row)
        return
    authentication.declare(where)
    from workflows import cluster
    from workflows.search_tasks import search_on_cluster

    with cluster.connected(where):
        cluster.check_nodes([run.folder], run.store)
        with closing(search_on_cluster(run, rows, request.resources.search)) as ended:
            for _ in ended:
                continue


def _chains(run: Run, jobs: Sequence[Job]) -> list[ChainEvidence]:
    """Every protein that can be asked for again by its sequence: alone, and in its complex where rows were paired for this."""
    stage, found = Search(run), {}
    for job in jobs:
        for alone in (False, True) if stage.partners(job) else (False,):
            for chain in stage.carried(job, alone=alone):
                if all(map(run.store.holds, chain.keys)):
                    found[chain.sequence, chain.partners] = chain
    return [found[key] for key in sorted(found)]


def _lines(run: Run, jobs: Sequence[Job]) -> Iterator[Line]:
    stage = Search(run)
    for job in jobs:
        found = stage.found(job)
        for chain, msa, templates in zip(job.chains, found[::2], found[1::2], strict=True):
            if chain.kind is not Kind.LIGAND:
                descriptions = read_msa(run.store, msa.key, chain.kind).descriptions if msa.key else ("query",)
                species = len({key for line in descriptions[1:] if (key := species_key(line))})
                used = len(templates_from_bytes(run.store.read(templates.key)).used) if templates.key else 0
                yield Line(job.slug, chain, len(descriptions), species, used, "; ".join(filter(None, (msa.note, templates.note))))


def _report(manifest: RunManifest, lines: Iterator[Line], console: Console) -> None:
    """A line a chain, then the errors."""

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for line in lines:
        found = f"{line.rows:>6} rows  {line.species:>5} species  {line.templates} templates"
        say(f"{line.job} {line.chain.id}  {len(line.chain.sequence):>5} residues  {found}  {line.note}")
    failures = [(job["source"], text) for job in manifest.jobs.values() for _, _, text in job_errors(job)]
    rejected = manifest.document["rejected"]
    entries = [entry for job in manifest.jobs.values() for entry in stage_entries(job, "search")]
    searched = sum(entry["attempts"] > 0 and entry["status"] == "done" for entry in entries)
    ended = sum(entry["status"] == "done" for entry in entries)
    say(f"{ended} of {len(manifest.jobs) + len(rejected)} done, {searched} of them searched: {manifest.run}")
    texts = [entry["error"] for entry in rejected]
    texts += [text if text.startswith(source) else f"{source}: search: {text}" for source, text in failures]
    session.print_errors(console, texts)


def _status(manifest: RunManifest) -> int:
    failures = [kind for job in manifest.jobs.values() for _, kind, _ in job_errors(job)]
    if "run" in failures:
        return 3
    return 2 if failures or manifest.document["rejected"] else 0
