"""The four stages of a prediction as plain callables: Search, Featurise, Fold, Write. The loop in process and a cluster run the same ones.

A stage is made once (`__init__` loads) and maps rows to rows. A row is a small dictionary of texts and numbers: it carries keys of the
store, never tensors. What a stage publishes is found again by the next run, so work resumes at the level of a seed. A row whose job
failed carries its error and passes through the stages that follow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from dataclasses import replace
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
from structgen.carried import ChainEvidence, absent, load_carried
from structgen.errors import CheckpointError, InputError
from structgen.features.atoms import build_atoms
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.templates import MOST, forced_templates
from structgen.features.tokens import Tokens, check_size, tokenise
from structgen.homologues import Found, Homologues, read_msa
from structgen.io.writer import Provenance, write_job
from structgen.run import (
    Evidence,
    Row,
    Run,
    features_key,
    fold_key,
    found_templates_key,
    own_templates_key,
    write_key,
)
from structgen.search.batch import Part
from structgen.search.template_index import load_index
from structgen.search.templates import find_templates, own_template_digests, own_templates, wants_templates

TRAINED_ON_PROTEINS = ("structgen-base", "structgen-small")
"""Models to which everything else is new."""

_OTHER = {Kind.DNA: "DNA", Kind.RNA: "RNA", Kind.LIGAND: "ligands"}


class Search:
    """The alignment and the templates of every chain: one artifact for each distinct sequence and source, whatever jobs it is part of.

    What the job itself says of a chain comes first, then what the run says (see `Homologues`); a chain with nothing stands alone.
    Templates are the job's own, or searched among the run's structures with that alignment. The row says which it was.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._homologues = run, Homologues(run)
        self._carried = load_carried(Path(run.settings.evidence)) if run.settings.evidence else None

    def __call__(self, row: Row) -> Row:
        return on_record(self._run, "search", row, self._work)

    def _work(self, row: Row, attempt: Attempt) -> Row:
        job = Job.from_json(str(row["job"]))
        evidence, everything = self.evidence(job), self.found(job)
        keys = [*evidence.msas, *evidence.templates, *(key for found in everything for key in found.searched)]
        attempt.under(",".join(key for key in dict.fromkeys(keys) if key))  # all that a sweep of the store must leave
        for found in everything:
            if found.key and not self._run.store.holds(found.key):
                for step in found.steps:
                    attempt.artifact(*step)
        return {**row, **evidence.to_row()}

    def evidence(self, job: Job) -> Evidence:
        """What the chains have and what to say of it; nothing is searched for this."""
        found = self.found(job)
        msas, templates = found[::2], found[1::2]
        said = [(chain, each.note) for chain, *pair in zip(job.chains, msas, templates, strict=True) for each in pair]
        return Evidence(
            msas=tuple(each.key for each in msas),
            templates=tuple(each.key for each in templates),
            notes=tuple(f"chain {chain.id}: {note}" for chain, note in said if note),
        )

    def found(self, job: Job) -> list[Found]:
        """Alignment and templates of the first chain, of the second one, and so on."""
        partners = self._homologues.partners(job)
        result = []
        for chain in job.chains:
            msa = self._homologues.of(chain, partners)
            result += [msa, self._templates(chain, msa.key, partners)]
        return result

    def parts(self, job: Job) -> list[Part]:
        """All that is searched for the job's alignments."""
        return self._homologues.parts(job)

    def partners(self, job: Job) -> tuple[str, ...]:
        """The distinct proteins of a complex whose rows a server pairs; nothing where none does."""
        return self._homologues.partners(job)

    def carried(self, job: Job, *, alone: bool) -> list[ChainEvidence]:
        """What can be carried to another machine: all but what the job itself says. `alone`: as if its chains were no complex."""
        partners = () if alone else self.partners(job)
        result = []
        for chain in job.chains:
            if chain.kind is Kind.PROTEIN and chain.msa is None:
                msa = self._homologues.of(chain, partners)
                found = self._templates(replace(chain, templates=None), msa.key, partners)
                result.append(ChainEvidence(chain.sequence, partners, msa.key, msa.note, found.key, found.note))
        return result

    def unknown(self, job: Job) -> list[str]:
        """What would have to be searched for, in words; nothing where all is in the store."""
        holds = self._run.store.holds
        chains = [chain for chain in job.chains for _ in range(2)]
        lacks = [
            f"chain {chain.id}: {found.note}"
            for chain, found in zip(chains, self.found(job), strict=True)
            if found.key and not holds(found.key) and not all(map(holds, found.searched))
        ]
        return lacks

    def _templates(self, chain: Chain, msa: str, partners: tuple[str, ...]) -> Found:
        """The templates, which the alignment of key `msa` finds."""
        run, protein = self._run, chain.kind is Kind.PROTEIN
        carried = self._carried if protein and chain.templates is None and not run.settings.structures else None
        if carried and chain.msa is not None:
            return Found(note="no templates were carried for a chain with an alignment of its own")
        searched = protein and (bool(run.settings.structures) or carried is not None)
        if not chain.templates and (chain.templates is not None or not searched):
            return Found(note="no templates, as the job says" * searched)
        known = carried.of(chain.sequence, partners) if carried else None
        if known and not known.templates:
            return Found(note=known.templates_note)
        if not run.takes_templates:
            _require_no_force(chain, f"{run.model_name}, which was trained without templates,")
            whose = "those of the job" if chain.templates else "they"
            return Found(note=f"{run.model_name} was trained without templates: {whose} are not used")
        if known:
            missing = partial(absent, str(run.store.root), "a template that was carried here")
            return Found(known.templates, known.templates_note, ((known.templates, missing),))
        if not wants_templates(chain):
            _require_no_force(chain, "a chain that is too short for templates")
            return Found(note="too short for templates")
        if chain.templates:
            key = own_templates_key(chain, own_template_digests(chain))
            return Found(key, _own_note(len(chain.templates)), ((key, partial(_own_template_bytes, chain)),))
        key = found_templates_key(run, chain.sequence, msa)
        note = f"templates searched in {Path(run.settings.structures).name}"
        return Found(key, note, ((key, partial(self._find, chain.sequence, msa)),), (key,))

    def _find(self, sequence: str, msa: str) -> bytes:
        run = self._run
        index = load_index(run.store, run.templates)
        alignment = read_msa(run.store, msa) if msa else None
        found = find_templates(sequence, alignment, index, Path(run.settings.structures), run.settings.template_search)
        return templates_to_bytes(found)


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
        features, seed, job = str(row["features"]), int(row["seed"]), Job.from_json(str(row["job"]))

        def make() -> bytes:
            torch.set_num_threads(self._run.threads)
            tokens = tokenise(build_atoms(job))
            batch, sampling = batch_from_bytes(self._run.store.read(features)), self._run.settings.sampling
            at_once, forced = int(row.get("at_once", 0)), forced_templates(job)
            samples = predict.fold(tokens, batch, self._model, sampling, seed, at_once=at_once, forced=forced, on_step=attempt.step)
            return predictions_to_bytes(samples)

        return {**row, "fold": attempt.artifact(attempt.under(fold_key(self._run, job, features, seed)), make)}


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
        provenance = _without(self._provenance(job, tokens, evidence), json.loads(str(row.get("lost", "{}"))))
        write_job(self._run.folder, job, tokens, predictions, provenance)
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


def _require_no_force(chain: Chain, whose: str) -> None:
    """Raises `InputError` for a chain that must keep to a template with what does not."""
    if any(template.force for template in chain.templates or ()):
        remedy = "take a model that reads templates, or do not force them"
        raise InputError(f"{whose} cannot keep to a template", where=f"chain {chain.id}", found="a forced template", remedy=remedy)


def _own_template_bytes(chain: Chain) -> bytes:
    return templates_to_bytes(own_templates(chain))


def _without(provenance: Provenance, lost: dict[str, str]) -> Provenance:
    """The same where some seeds failed: they are no part of the results, and a note says why."""
    seeds = tuple(seed for seed in provenance.seeds if str(seed) not in lost)
    notes = tuple(f"seed {seed} is missing: {error}" for seed, error in lost.items())
    return dataclasses.replace(provenance, seeds=seeds, notes=(*provenance.notes, *notes))


def _own_note(count: int) -> str:
    used = f", of which the first {MOST} are used" if count > MOST else ""
    return f"{count} template{'s' * (count > 1)} of the job{used}"


def takes_templates(config: Config) -> bool:
    """Whether a model has the part that reads templates, and was trained with it."""
    return config.template.blocks > 0 and config.template.trained


def _reach(model: str, job: Job) -> list[str]:
    """What to say of a job that goes beyond what its model was trained on."""
    other = [name for kind, name in _OTHER.items() if any(chain.kind is kind for chain in job.chains)]
    other += ["modified residues"] if any(chain.modifications for chain in job.chains) else []
    if model not in TRAINED_ON_PROTEINS or not other:
        return []
    return [f"{model} was trained on proteins alone: where it puts {', '.join(other)} means nothing"]


def result_key(run: Run, search: Search, job: Job) -> str:
    """The key under which Write will put the job's folder, known before anything is computed."""
    evidence = search.evidence(job)
    features = features_key(run, job, evidence)
    folds = {str(seed): fold_key(run, job, features, seed) for seed in sorted(job.seeds or run.settings.seeds)}
    return write_key(run, job, evidence, folds)


def is_complete(folder: Path) -> bool:
    """Whether a job's folder holds every file that its manifest names, unchanged. What a user put beside them does not matter."""
    try:
        files = json.loads((folder / f"{folder.name}_manifest.json").read_bytes())["files"]
        return all(hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest for path, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False
