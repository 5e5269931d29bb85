"""One `predict` command: what is asked, what is there already, the work, and the account of it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from structgen import heads
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import Model
from structgen.cost.plan import memory_here
from structgen.errors import ConfigError, InputError
from structgen.features.job import Job
from structgen.io.jobs.read import read_jobs
from structgen.io.jobs.unsupported import unsupported
from structgen.manifest import RunManifest, is_running, job_errors, job_status, run_lock, stage_entries
from structgen.run import Run
from structgen.settings import Settings, differences, resolve
from structgen.stages import Featurise, Fold, Search, Write, is_complete, result_key, takes_templates
from workflows import authentication, evidence
from workflows.planning import planner, rows_to_run
from workflows.predict import Line, load_fold, predict_here, predict_on_cluster
from workflows.progress import Display, display, followed, standing
from workflows.recorded import account, require_unchanged
from workflows.request import Request


def predict(request: Request, console: Console) -> int:
    """Do what is asked, or what is left of it. Returns the exit status: 0 all done, 2 some input was wrong, 3 some work failed."""
    checked = resolve(request.choices, model=request.model, sampling=Sampling())  # before anything is read or loaded
    jobs, rejected = read(request, checked)
    if not jobs:
        print_errors(console, [str(error) for error in rejected])
        return 2
    model = heads.load(request.model, precision=checked.precision)
    settings = resolve(request.choices, model=request.model, sampling=model.config.sampling)
    takes = takes_templates(model.config)
    if settings.structures and not takes:
        console.print(f"Templates: {evidence.without_templates(model.name)}", markup=False, highlight=False, soft_wrap=True)
    settings = evidence.with_library(settings, model.library if takes else None)
    store = request.store
    run = Run(
        folder=request.out.resolve(),
        store=store,
        settings=settings,
        model_name=model.name,
        weights=model.digest,
        terms=model.terms,
        sources=evidence.sources(settings, jobs, store),
        templates=evidence.index(settings, store, console) if takes else "",
        takes_templates=takes,
        threads=request.threads or torch.get_num_threads(),
    )
    evidence.require_known(run, jobs, offline=request.offline)
    with run_lock(run.folder), run.store.in_use():
        run.store.sweep()
        manifest = RunManifest.load(run.folder)
        facts = account(request, run, jobs)
        if request.exact:
            require_unchanged(manifest.document, facts)
        finished = _finished(manifest, run, jobs)
        plan(manifest, facts, jobs, rejected=rejected, finished=finished, console=console)
        left = [job for job in jobs if job.slug not in finished]
        if left:
            with followed(manifest, _shown(request, manifest, console)) as shown:
                able = evidence.search_batches(run, left, request.deadline, shown.say)
                _work(request, run, model, able, shown)
        return report(manifest, console)


def read(request: Request, settings: Settings) -> tuple[list[Job], list[InputError]]:
    """The jobs that can be run, and an error for everything else. Seeds that the run names come before those of the jobs."""
    jobs, rejected = read_jobs(request.inputs, replace(request.options, limits=settings.limits), format=request.format)
    refused = {job.slug: unsupported(job) for job in jobs}
    named = "seeds" in request.choices
    able = [replace(job, seeds=()) if named else job for job in jobs if not refused[job.slug]]
    return able, rejected + [error for errors in refused.values() for error in errors]


def _finished(manifest: RunManifest, run: Run, jobs: Sequence[Job]) -> set[str]:
    """Slugs of the jobs whose folder is complete and was written from just what this run would write it from."""
    search = Search(run)
    written = {slug: job["stages"].get("write", {}) for slug, job in manifest.jobs.items()}
    done = [job for job in jobs if written.get(job.slug, {}).get("status") == "done"]
    return {job.slug for job in done if written[job.slug]["key"] == result_key(run, search, job) and is_complete(run.folder / job.slug)}


def plan(
    manifest: RunManifest,
    facts: Mapping[str, Any],
    jobs: Sequence[Job],
    *,
    rejected: Sequence[InputError],
    finished: Set[str],
    console: Console,
) -> None:
    """Put this run's plan into the manifest and save it; say what an earlier run in the folder means for this one."""
    settings = facts["settings"]
    changed = differences(manifest.document.get("settings", settings), settings)
    if changed:
        console.print("Settings differ from the last run in this folder; what depends on them is computed again:", highlight=False)
        for line in changed:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    elif manifest.jobs:
        console.print(
            f"Resuming {manifest.run}: {len(finished)} of {len(jobs)} jobs are done", markup=False, highlight=False, soft_wrap=True
        )
    refused = [{"where": error.where, "error": str(error)} for error in rejected]
    manifest.plan({job.slug: about(job) for job in jobs}, seeds=settings["seeds"], finished=finished, rejected=refused, **facts)
    manifest.save()


def about(job: Job) -> dict[str, Any]:
    """What the manifest says of a job beside its stages."""
    seeds = {"seeds": list(job.seeds)} if job.seeds else {}
    return {"name": job.name, "source": job.source, "tokens": job.residues} | seeds


def _shown(request: Request, manifest: RunManifest, console: Console) -> Display:
    """The terminal, and on a cluster its metrics too."""
    shown = display(console, manifest, len(manifest.document["settings"]["seeds"]))
    if not request.cluster:
        return shown
    authentication.declare(request.cluster)
    from workflows.metrics import Metered

    return Metered(shown, request.out.name, request.resources.fold.gpus)


def _work(request: Request, run: Run, model: Model, jobs: Sequence[Job], shown: Display) -> None:
    if not jobs:
        return
    line = Line(run, Search, Featurise, load_fold, Write, request.resources)
    where = request.cluster
    if not where:
        here = replace(line, fold=lambda run: Fold(run, model))
        memory = request.resources.memory_of(memory_here())
        for _ in predict_here(here, rows_to_run(run, planner(run.settings, model, run.threads, memory), jobs)):
            continue
        return
    from workflows import cluster

    with cluster.connected(where):
        cluster.check_nodes([run.folder], run.store)
        memory = request.resources.memory_of(cluster.largest_memory(line.demands["fold"]))
        rows = rows_to_run(run, planner(run.settings, model, run.threads, memory), jobs)
        patience = 0.0 if where == "local" else cluster.PATIENCE
        with closing(predict_on_cluster(line, rows, say=shown.say, patience=patience)) as ended:
            for _ in ended:
                continue


def report(manifest: RunManifest, console: Console) -> int:
    """Say how a run ended, every error once; returns the exit status."""
    counts = Counter(job_status(job) for job in manifest.jobs.values())
    rejected = manifest.document["rejected"]
    failures = [(job, *failure) for job in manifest.jobs.values() for failure in job_errors(job)]
    parts = [f"{counts['done']} of {len(manifest.jobs) + len(rejected)} done"]
    parts += [f"{len(rejected)} refused"] if rejected else []
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    parts += [f"{counts['running'] + counts['waiting']} to do"] if counts["running"] + counts["waiting"] else []
    console.print(f"{', '.join(parts)}: {manifest.run}", markup=False, highlight=False, soft_wrap=True)
    texts = [entry["error"] for entry in rejected]
    texts += [text if text.startswith(job["source"]) else f"{job['source']}: {stage}: {text}" for job, stage, _, text in failures]
    print_errors(console, texts)
    if counts["done"]:
        console.print(f"To look at it: structgen report {shlex.quote(str(manifest.run))}", markup=False, highlight=False, soft_wrap=True)
    if any(kind == "run" for _, _, kind, _ in failures):
        return 3
    return 2 if texts else 0


def print_errors(console: Console, texts: Sequence[str]) -> None:
    if texts:
        console.print(f"{len(texts)} error{'s' if len(texts) > 1 else ''}:", highlight=False)
    for text in texts:
        console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)


def status(folder: Path, console: Console) -> int:
    """Say how far the run in a folder is; returns the exit status that it has earned so far."""
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder} holds no run: there is no run.json in it")
    manifest = RunManifest.load(folder)
    seeds = len(manifest.document["settings"]["seeds"])
    for slug, job in manifest.jobs.items():
        folds = stage_entries(job, "fold")
        done = sum(entry["status"] == "done" for entry in folds)
        now = [f"step {entry['step']}/{entry['steps']}" for entry in folds if entry["status"] == "running" and "step" in entry]
        wanted = len(job["seeds"]) if "seeds" in job else seeds
        text = f"{job_status(job):<8} {slug}  {job['tokens']} tokens, {done} of {wanted} seeds folded {' '.join(now)}"
        console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)
    for stage, counts in standing(manifest).items():
        more = "".join(f", {counts[name]} {name}" for name in ("running", "waiting", "failed") if counts[name])
        console.print(f"{stage:<9} {counts['done']} of {counts['of']} done{more}, {counts['seconds']:.1f} s", highlight=False)
    console.print("running" if is_running(folder) else "not running", highlight=False)
    return report(manifest, console)
