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
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import structgen
from structgen import predict
from structgen.alphafold3.config import Config
from structgen.alphafold3.model import Model
from structgen.artifacts import (
    batch_from_bytes,
    batch_to_bytes,
    predictions_from_bytes,
    predictions_to_bytes,
    templates_from_bytes,
    templates_to_bytes,
)
from structgen.attempt import Attempt, on_record
from structgen.errors import CheckpointError, InputError
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.msa import Msa
from structgen.features.templates import MOST
from structgen.features.tokens import Tokens, check_size, tokenise
from structgen.io.a3m import parse_a3m, write_a3m
from structgen.io.writer import Provenance, write_job
from structgen.run import (
    Evidence,
    Row,
    Run,
    features_key,
    fold_key,
    found_templates_key,
    given_key,
    own_key,
    own_templates_key,
    searched_key,
    write_key,
)
from structgen.search.given import GivenAlignments, find_alignments, own_alignment, own_digests
from structgen.search.hmmer import load_database, search
from structgen.search.template_index import load_index
from structgen.search.templates import find_templates, own_template_digests, own_templates, wants_templates
from structgen.store import Store

TRAINED_ON_PROTEINS = ("structgen-small",)
"""Models to which everything else is new."""

TRAINED_WITHOUT_TEMPLATES = ("structgen-small",)
"""Models that have the part for templates with weights as they were drawn."""

_OTHER = {Kind.DNA: "DNA", Kind.RNA: "RNA", Kind.LIGAND: "ligands"}


Source = tuple[str, Callable[[], bytes], str]
"""Key of a piece of evidence (empty where there is none), how to make it, and what to say of it."""


class Search:
    """The alignment and the templates of every chain: one artifact for each distinct sequence and source, whatever jobs it is part of.

    What the job itself says of a chain comes first, then a given alignment, then a search of the database; a chain with none of them
    stands alone. Templates are the job's own, or searched among the run's structures with that alignment. The row says which it was.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._given = find_alignments(Path(run.settings.msa)) if run.settings.msa else None

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "search", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        job = Job.from_json(str(row["job"]))
        evidence = self.evidence(job)
        attempt.under(",".join(key for key in (*evidence.msas, *evidence.templates) if key))
        for chain in job.chains:
            key, make, _ = self._source(chain)
            for source in ((key, make), self._templates(chain, key)[:2]):
                if source[0]:
                    attempt.artifact(*source)
        return {**row, **evidence.to_row()}

    def evidence(self, job: Job) -> Evidence:
        """What the chains have and what to say of it; nothing is searched for this."""
        msas = [self._source(chain) for chain in job.chains]
        templates = [self._templates(chain, key) for chain, (key, _, _) in zip(job.chains, msas, strict=True)]
        said = [(chain, source[2]) for chain, *sources in zip(job.chains, msas, templates, strict=True) for source in sources]
        return Evidence(
            msas=tuple(key for key, _, _ in msas),
            templates=tuple(key for key, _, _ in templates),
            notes=tuple(f"chain {chain.id}: {note}" for chain, note in said if note),
        )

    def _source(self, chain: Chain) -> Source:
        """The alignment. Only proteins are searched."""
        if chain.msa is not None:
            digests = own_digests(chain)
            key = own_key(chain, digests) if digests else ""
            return (
                key,
                partial(self._own, chain),
                f"alignment{'s' * (len(digests) > 1)} of the job" if key else "no alignment, as the job says",
            )
        if chain.kind is not Kind.PROTEIN:
            return "", bytes, ""
        sequence = chain.sequence
        settings, files = self._run.settings, self._given.files_of(sequence) if self._given else ()
        if self._given and files:
            digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
            return given_key(sequence, digests), partial(self._read, self._given, sequence), self._given.note_on(sequence)
        if settings.seqdb:
            return searched_key(self._run, sequence), partial(self._search, sequence), f"searched in {Path(settings.seqdb).name}"
        return "", bytes, self._given.note_on(sequence) if self._given else ""

    def _templates(self, chain: Chain, msa: str) -> Source:
        """The templates, which the alignment of key `msa` finds."""
        run, searched = self._run, bool(self._run.settings.templates) and chain.kind is Kind.PROTEIN
        if not chain.templates and (chain.templates is not None or not searched):
            return "", bytes, "no templates, as the job says" * searched
        if not run.takes_templates:
            whose = "those of the job" if chain.templates else "they"
            return "", bytes, f"{run.model_name} was trained without templates: {whose} are not used"
        if not wants_templates(chain):
            return "", bytes, "too short for templates"
        if chain.templates:
            key = own_templates_key(chain, own_template_digests(chain))
            return key, lambda: templates_to_bytes(own_templates(chain)), _own_note(len(chain.templates))
        key = found_templates_key(run, chain.sequence, msa)
        return key, partial(self._find, chain.sequence, msa), f"templates searched in {Path(run.settings.templates).name}"

    def _find(self, sequence: str, msa: str) -> bytes:
        run = self._run
        index = load_index(run.store, run.templates)
        alignment = read_msa(run.store, msa) if msa else None
        found = find_templates(sequence, alignment, index, Path(run.settings.templates), run.settings.template_search)
        return templates_to_bytes(found)

    def _own(self, chain: Chain) -> bytes:
        msa = own_alignment(chain)
        if msa is None:
            raise InputError(f"chain {chain.id} has no alignment of its own")
        return msa_to_bytes(msa)

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
    """A job and its evidence to the network's input: one artifact for each set of chains and evidence, whatever the job's name."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "featurise", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        job, evidence, store = Job.from_json(str(row["job"])), Evidence.of_row(row), self._run.store

        def make() -> bytes:
            tokens = tokenise(build_atoms(job))
            check_size(tokens, self._run.settings.limits.tokens, job.source)
            msas = [read_msa(store, key, chain.kind) if key else None for key, chain in zip(evidence.msas, job.chains, strict=True)]
            templates = [templates_from_bytes(store.read(key)) if key else None for key in evidence.templates]
            return batch_to_bytes(featurise(tokens, msas, self._run.settings.alignment, templates))

        return {**row, "features": attempt.artifact(attempt.under(features_key(self._run, job, evidence)), make)}


class Fold:
    """Features and a seed to the samples of that seed: one artifact for each. Holds the weights."""

    def __init__(self, run: Run, model: Model) -> None:
        if model.digest != run.weights:
            raise CheckpointError(f"model {run.settings.model!r} is another file here (sha256 {model.digest}) than where the run was begun")
        self._run, self._model = run, model

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "fold", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        features, seed = str(row["features"]), int(row["seed"])

        def make() -> bytes:
            torch.set_num_threads(self._run.threads)
            tokens = tokenise(build_atoms(Job.from_json(str(row["job"]))))
            batch = batch_from_bytes(self._run.store.read(features))
            samples = predict.fold(tokens, batch, self._model, self._run.settings.sampling, seed, on_step=attempt.step)
            return predictions_to_bytes(samples)

        return {**row, "fold": attempt.artifact(attempt.under(fold_key(self._run, features, seed)), make)}


class Write:
    """All samples of a job to its folder of results, in place of earlier ones."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "write", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        job, folds, evidence = Job.from_json(str(row["job"])), json.loads(str(row["folds"])), Evidence.of_row(row)
        attempt.under(write_key(self._run, job, evidence, folds))
        attempt.computing()
        predictions = [sample for key in folds.values() for sample in predictions_from_bytes(self._run.store.read(key))]
        tokens = tokenise(build_atoms(job))
        write_job(self._run.folder, job, tokens, predictions, self._provenance(job, tokens, evidence))
        return {**row, "folder": job.slug}

    def _provenance(self, job: Job, tokens: Tokens, evidence: Evidence) -> Provenance:
        run, settings = self._run, self._run.settings
        msas, templates = (list(zip(job.chains, keys, strict=True)) for keys in (evidence.msas, evidence.templates))
        return Provenance(
            software=structgen.__version__,
            model=run.model_name,
            model_sha256=run.weights,
            settings=dataclasses.asdict(settings.sampling) | {"precision": settings.precision},
            seeds=job.seeds or settings.seeds,
            msa_depth={chain.id: len(read_msa(run.store, key, chain.kind).rows) if key else 1 for chain, key in msas},
            templates={chain.id: templates_from_bytes(run.store.read(key)).used for chain, key in templates if key},
            notes=(*job.notes, *tokens.structure.notes, *_reach(run.model_name, job), *evidence.notes),
            source=job.source,
            terms=run.terms,
            device=f"cpu {platform.machine()}",
        )


def _own_note(count: int) -> str:
    used = f", of which the first {MOST} are used" if count > MOST else ""
    return f"{count} template{'s' * (count > 1)} of the job{used}"


def takes_templates(config: Config) -> bool:
    """Whether a model has the part that reads templates, and was trained with it."""
    return config.template.blocks > 0 and config.name not in TRAINED_WITHOUT_TEMPLATES


def _reach(model: str, job: Job) -> list[str]:
    """What to say of a job that goes beyond what its model was trained on."""
    other = [name for kind, name in _OTHER.items() if any(chain.kind is kind for chain in job.chains)]
    other += ["modified residues"] if any(chain.modifications for chain in job.chains) else []
    if model not in TRAINED_ON_PROTEINS or not other:
        return []
    return [f"{model} was trained on proteins alone: where it puts {', '.join(other)} means nothing"]


def read_msa(store: Store, key: str, kind: Kind = Kind.PROTEIN) -> Msa:
    """An alignment of such a chain that Search published."""
    return parse_a3m(gzip.decompress(store.read(key)).decode("utf-8"), f"artifact {key}", kind=kind)


def msa_to_bytes(msa: Msa) -> bytes:
    """Compressed A3M; equal alignments give equal bytes."""
    return gzip.compress(write_a3m(msa), mtime=0)


def result_key(run: Run, search: Search, job: Job) -> str:
    """The key under which Write will put the job's folder, known before anything is computed."""
    evidence = search.evidence(job)
    features = features_key(run, job, evidence)
    folds = {str(seed): fold_key(run, features, seed) for seed in sorted(job.seeds or run.settings.seeds)}
    return write_key(run, job, evidence, folds)


def is_complete(folder: Path) -> bool:
    """Whether a job's folder holds every file that its manifest names, unchanged. What a user put beside them does not matter."""
    try:
        files = json.loads((folder / f"{folder.name}_manifest.json").read_bytes())["files"]
        return all(hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest for path, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False
