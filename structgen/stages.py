"""The four stages of a prediction as plain callables: Search, Featurise, Fold, Write. The loop in process and a cluster run the same ones.

A stage is made once (`__init__` loads) and maps rows to rows. A row is a small dictionary of texts and numbers: it carries keys of the
store, never tensors. What a stage publishes is found again by the next run, so work resumes at the level of a seed. A row whose job
failed carries its error and passes through the stages that follow.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import structgen
from structgen import predict
from structgen.alphafold3.model import Model
from structgen.artifacts import batch_from_bytes, batch_to_bytes, predictions_from_bytes, predictions_to_bytes
from structgen.errors import CheckpointError, InputError
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Job
from structgen.features.msa import Msa
from structgen.features.tokens import tokenise
from structgen.io.a3m import parse_a3m, write_a3m
from structgen.io.writer import Provenance, write_job
from structgen.manifest import Event, Journal, error_kind, error_text
from structgen.search.given import GivenAlignments, find_alignments
from structgen.search.hmmer import load_database, search
from structgen.settings import Settings
from structgen.store import Store, artifact_key

logger = logging.getLogger(__name__)

Row = dict[str, str | int | float]

VERSIONS = {"search": 1, "featurise": 1, "fold": predict.STAGE_VERSION, "write": 1}  # raised when equal inputs would give other bytes
STEP_SECONDS = 0.5  # least time between two reports of a fold's progress


@dataclass(frozen=True)
class Run:
    """What the stages of one run share. Small, so that it travels to every worker."""

    folder: Path
    store: Store
    settings: Settings
    model_name: str
    weights: str  # sha256 of the checkpoint
    evidence: str = ""  # sha256 of the sequence database
    threads: int = 1  # of one fold, the same everywhere: sums of floating-point numbers depend on it


def first_row(job: Job) -> Row:
    """The row with which a job enters the line."""
    return {"slug": job.slug, "job": job.to_json(), "tokens": job.tokens, "error": ""}


def fan_out(row: Row, seeds: Sequence[int]) -> list[Row]:
    """One row a seed, for Fold."""
    return [{**row, "seed": seed} for seed in seeds]


def gather(rows: Sequence[Row]) -> Row:
    """The rows of a job's seeds as one again, for Write; it carries the first error among them."""
    first = next((row for row in rows if row["error"]), rows[0])
    folds = {str(row["seed"]): row["fold"] for row in sorted(rows, key=lambda row: int(row["seed"])) if not row["error"]}
    return {name: value for name, value in first.items() if name not in ("seed", "fold")} | {"folds": json.dumps(folds)}


class Attempt:
    """One stage at work on one row, as it goes on record in the run's journal."""

    def __init__(self, run: Run, stage: str, row: Row) -> None:
        self._run, self._journal = run, Journal(run.folder)
        self._event = Event(str(row["slug"]), stage, "started", seed=int(row.get("seed", -1)))
        self._began = 0.0
        self._reported = 0.0

    def under(self, key: str) -> str:
        """Say under which key the result is known, before anything is computed."""
        self._event = replace(self._event, key=key)
        return key

    def artifact(self, key: str, make: Callable[[], bytes]) -> str:
        """The key, with its artifact in the store: found there, or made and published; of several processes only one makes it."""
        store = self._run.store
        if store.holds(key):
            return key
        with store.exclusive(key):
            if not store.holds(key):
                self.computing()
                store.publish(key, make())
        return key

    def computing(self) -> None:
        """Record that work began."""
        if not self._began:
            self._began = time.monotonic()
            self._emit("started")

    def step(self, done: int, steps: int) -> None:
        """Report how far the work is, not more often than anybody looks."""
        if time.monotonic() - self._reported >= STEP_SECONDS or done == steps:
            self._reported = time.monotonic()
            self._emit("step", step=done, steps=steps)

    def ended(self) -> None:
        """Record success: made now, or found."""
        self._emit("done" if self._began else "reused")

    def failed(self, error: BaseException) -> None:
        """Record why it ended without a result."""
        self._emit("failed", error=error_text(error), kind=error_kind(error))

    def _emit(self, status: Any, **facts: Any) -> None:
        seconds = time.monotonic() - self._began if self._began else 0.0
        self._journal.emit(replace(self._event, status=status, seconds=seconds, time=time.time(), **facts))


def on_record(run: Run, stage: str, row: Row, work: Callable[[Row, Attempt], Row]) -> Row:
    """The row that `work` makes of a row. No exception of one job leaves it: the row carries the error on."""
    if row["error"]:
        return row
    attempt = Attempt(run, stage, row)
    try:
        result = work(row, attempt)
    except Exception as error:
        logger.info("%s: %s failed", row["slug"], stage, exc_info=True)
        return _failed(attempt, row, error)
    attempt.ended()
    return result


def failed(run: Run, stage: str, row: Row, error: BaseException) -> Row:
    """The row of a job whose stage could not even run (its worker died), on record."""
    return _failed(Attempt(run, stage, row), row, error)


def _failed(attempt: Attempt, row: Row, error: BaseException) -> Row:
    attempt.failed(error)
    return {**row, "error": error_text(error)}


class Search:
    """The alignment of every chain: one artifact for each distinct sequence and source, whatever jobs it is part of.

    A given alignment comes first, then a search of the database; a chain with neither stands alone. The row says which it was.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._given = find_alignments(Path(run.settings.msa)) if run.settings.msa else None

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "search", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        chains = Job.from_json(str(row["job"])).chains
        sources = [self._source(chain.sequence) for chain in chains]
        attempt.under(",".join(key for key, _, _ in sources if key))
        for key, make, _ in sources:
            if key:
                attempt.artifact(key, make)
        notes = [f"chain {chain.id}: {note}" for chain, (_, _, note) in zip(chains, sources, strict=True) if note]
        return {**row, "msas": json.dumps([key for key, _, _ in sources]), "notes": json.dumps(notes)}

    def _source(self, sequence: str) -> tuple[str, Callable[[], bytes], str]:
        """Key of the alignment (empty where there is none), how to make it, and what to say of it."""
        settings, files = self._run.settings, self._given.files_of(sequence) if self._given else ()
        if self._given and files:
            digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
            key = artifact_key("search", VERSIONS["search"], parameters={"sequence": sequence, "given": True}, inputs=digests)
            return key, partial(self._read, self._given, sequence), self._given.note_on(sequence)
        if settings.seqdb:
            parameters = {"sequence": sequence, "jackhmmer": dataclasses.asdict(settings.search)}
            key = artifact_key("search", VERSIONS["search"], parameters=parameters, inputs=[self._run.evidence])
            return key, partial(self._search, sequence), f"searched in {Path(settings.seqdb).name}"
        return "", bytes, self._given.note_on(sequence) if self._given else ""

    def _read(self, given: GivenAlignments, sequence: str) -> bytes:
        msa = given.alignment_of(sequence)
        if msa is None:
            raise InputError("alignment is gone", where=str(given.path), remedy="run the same command again")
        return msa_to_bytes(msa)

    def _search(self, sequence: str) -> bytes:
        database = load_database(Path(self._run.settings.seqdb))
        if database.digest != self._run.evidence:
            raise InputError("database changed since the run began", where=str(database.path), remedy="run the same command again")
        return msa_to_bytes(search(sequence, database, self._run.settings.search))


class Featurise:
    """A job and its alignments to the network's input: one artifact for each set of chains and alignments, whatever the job's name."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "featurise", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        job, keys = Job.from_json(str(row["job"])), json.loads(str(row["msas"]))
        chains = [[chain.kind.value, chain.sequence] for chain in job.chains]
        limits = self._run.settings.alignment
        parameters = {"chains": chains, "alignment": dataclasses.asdict(limits)}
        key = attempt.under(artifact_key("featurise", VERSIONS["featurise"], parameters=parameters, inputs=keys))

        def make() -> bytes:
            msas = [read_msa(self._run.store, one) if one else None for one in keys]
            return batch_to_bytes(featurise(tokenise(build_atoms(job)), msas, limits))

        return {**row, "features": attempt.artifact(key, make)}


class Fold:
    """Features and a seed to the samples of that seed: one artifact for each. Holds the weights."""

    def __init__(self, run: Run, model: Model) -> None:
        if model.digest != run.weights:
            raise CheckpointError(f"model {run.settings.model!r} is another file here (sha256 {model.digest}) than where the run was begun")
        self._run, self._model = run, model

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "fold", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        settings, seed = self._run.settings, int(row["seed"])
        parameters = {"sampling": dataclasses.asdict(settings.sampling), "precision": settings.precision, "seed": seed}
        key = artifact_key("fold", VERSIONS["fold"], parameters=parameters, inputs=[str(row["features"])], weights=self._run.weights)

        def make() -> bytes:
            torch.set_num_threads(self._run.threads)
            tokens = tokenise(build_atoms(Job.from_json(str(row["job"]))))
            batch = batch_from_bytes(self._run.store.read(str(row["features"])))
            return predictions_to_bytes(predict.fold(tokens, batch, self._model, settings.sampling, seed, on_step=attempt.step))

        return {**row, "fold": attempt.artifact(attempt.under(key), make)}


class Write:
    """All samples of a job to its folder of results, which is left as it is when it is complete and holds just these."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "write", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        store, job = self._run.store, Job.from_json(str(row["job"]))
        folds = json.loads(str(row["folds"]))
        provenance = self._provenance(job, json.loads(str(row["msas"])), json.loads(str(row["notes"])))
        key = attempt.under(
            artifact_key(
                "write", VERSIONS["write"], parameters=dataclasses.asdict(provenance) | {"job": str(row["job"])}, inputs=[*folds.values()]
            )
        )
        if store.holds(key) and _is_complete(self._run.folder / job.slug, json.loads(store.read(key))["files"]):
            return {**row, "folder": job.slug}
        attempt.computing()
        predictions = [sample for fold in folds.values() for sample in predictions_from_bytes(store.read(fold))]
        manifest = write_job(self._run.folder, job.slug, job.name, tokenise(build_atoms(job)), predictions, provenance)
        store.publish(key, manifest.to_json().encode())
        return {**row, "folder": job.slug}

    def _provenance(self, job: Job, msas: Sequence[str], notes: Sequence[str]) -> Provenance:
        run, settings = self._run, self._run.settings
        depth = {chain.id: len(read_msa(run.store, key).rows) if key else 1 for chain, key in zip(job.chains, msas, strict=True)}
        return Provenance(
            software=structgen.__version__,
            model=run.model_name,
            model_sha256=run.weights,
            settings=dataclasses.asdict(settings.sampling) | {"precision": settings.precision},
            seeds=settings.seeds,
            msa_depth=depth,
            notes=(*job.notes, *notes),
            source=job.source,
        )


def read_msa(store: Store, key: str) -> Msa:
    """An alignment that Search published."""
    return parse_a3m(gzip.decompress(store.read(key)).decode("utf-8"), f"artifact {key}")


def msa_to_bytes(msa: Msa) -> bytes:
    """Compressed A3M; equal alignments give equal bytes."""
    return gzip.compress(write_a3m(msa), mtime=0)


def _is_complete(folder: Path, files: dict[str, str]) -> bool:
    """Whether the folder holds a finished result with these digests. What a user put beside the files does not matter."""
    present = [(folder / path).is_file() for path in (*files, f"{folder.name}_manifest.json")]
    return all(present) and all(hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest for path, digest in files.items())
