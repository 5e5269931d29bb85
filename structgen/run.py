"""What the stages of a run share: its settings, its rows, and the keys under which its results are known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structgen
from structgen.features.fingerprint import fingerprint
from structgen.features.job import Chain, Job
from structgen.features.templates import forced_templates
from structgen.predict import STAGE_VERSION
from structgen.search.sources import SEARCH_VERSION, Source
from structgen.settings import Settings
from structgen.store import Store, artifact_key

Row = dict[str, str | int | float]

TEMPLATES_VERSION, FEATURISE_VERSION, WRITE_VERSION = 2, 1, 1  # raised when equal inputs would give other bytes


@dataclass(frozen=True)
class Run:
    """What the stages of one run share. Small, so that it travels to every worker."""

    folder: Path
    store: Store
    settings: Settings
    model_name: str
    weights: str  # sha256 of the checkpoint
    terms: str = ""  # of the model, as its checkpoint states them
    sources: tuple[Source, ...] = ()  # where homologues are searched
    templates: str = ""  # digest of the index of structures; empty: none is searched
    takes_templates: bool = True  # whether the model has learnt to use them
    threads: int = 1  # of one fold, the same everywhere: sums of floating-point numbers depend on it


@dataclass(frozen=True)
class Evidence:
    """Keys of every chain's alignment and templates, empty where it has none, and what to say of them."""

    msas: tuple[str, ...]
    templates: tuple[str, ...]
    notes: tuple[str, ...]

    def to_row(self) -> Row:
        """As texts of a row."""
        return {field.name: json.dumps(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def of_row(cls, row: Row) -> Evidence:
        """Inverse of `to_row`."""
        return cls(**{field.name: tuple(json.loads(str(row[field.name]))) for field in dataclasses.fields(cls)})


def first_row(job: Job) -> Row:
    """The row with which a job enters the line."""
    row: Row = {"slug": job.slug, "job": job.to_json(), "tokens": job.residues, "error": ""}
    return row | {"seeds": ",".join(map(str, job.seeds))} if job.seeds else row


def seeds_of(run: Run, row: Row) -> tuple[int, ...]:
    """The seeds of a job: its own, else the run's."""
    return tuple(map(int, str(row["seeds"]).split(","))) if row.get("seeds") else run.settings.seeds


def fan_out(row: Row, seeds: Sequence[int]) -> list[Row]:
    """One row a seed, for Fold."""
    return [{**row, "seed": seed} for seed in seeds]


def gather(rows: Sequence[Row]) -> Row:
    """The rows of a job's seeds as one again, for Write.

    Seeds that failed are named in `lost` and do not hold back the others; where none was folded the row carries their first error.
    """
    in_order = sorted(rows, key=lambda row: int(row["seed"]))
    folded = [row for row in in_order if not row["error"]]
    folds = {str(row["seed"]): row["fold"] for row in folded}
    lost = {str(row["seed"]): row["error"] for row in in_order if row["error"]}
    whole = {name: value for name, value in (folded or in_order)[0].items() if name not in ("seed", "fold")}
    return whole | {"folds": json.dumps(folds)} | ({"lost": json.dumps(lost)} if lost else {})


def given_key(sequence: str, digests: Sequence[str]) -> str:
    """Of an alignment that the user gave, by the sha256 of its files."""
    return artifact_key("search", SEARCH_VERSION, parameters={"sequence": sequence, "given": True}, inputs=digests)


def own_key(chain: Chain, digests: Sequence[str]) -> str:
    """Of an alignment that a job gives its chain, by role and sha256 of its parts."""
    parameters = {"sequence": chain.sequence, "kind": chain.kind.value, "own": True}
    return artifact_key("search", SEARCH_VERSION, parameters=parameters, inputs=digests)


def own_templates_key(chain: Chain, digests: Sequence[str]) -> str:
    """Of the templates that a job gives its chain, by what is taken of them and their contents."""
    return artifact_key("templates", TEMPLATES_VERSION, parameters={"sequence": chain.sequence, "own": True}, inputs=digests)


def found_templates_key(run: Run, sequence: str, msa: str) -> str:
    """Of templates that are searched in the run's index with the alignment of that key, or with the sequence where it is empty."""
    parameters = {"sequence": sequence, "hmmsearch": dataclasses.asdict(run.settings.template_search)}
    return artifact_key("templates", TEMPLATES_VERSION, parameters=parameters, inputs=[run.templates, msa])


def features_key(run: Run, job: Job, evidence: Evidence) -> str:
    """Of a job's features: all that is chemical about it, its evidence, and what is taken of this. Its name does not matter."""
    parameters = fingerprint(job) | {"alignment": dataclasses.asdict(run.settings.alignment)}
    parameters |= {"templates": list(evidence.templates)} if any(evidence.templates) else {}
    return artifact_key("featurise", FEATURISE_VERSION, parameters=parameters, inputs=evidence.msas)


def fold_key(run: Run, job: Job, features: str, seed: int) -> str:
    """Of the samples of one seed of a job with these features. The number of threads is not part of it: a run that goes on elsewhere keeps
    what it has."""
    parameters: dict[str, Any] = {"sampling": dataclasses.asdict(run.settings.sampling), "precision": run.settings.precision, "seed": seed}
    forced = [[*at, radius] for at, radius in forced_templates(job).items()]
    parameters |= {"forced": forced} if forced else {}
    return artifact_key("fold", STAGE_VERSION, parameters=parameters, inputs=[features], weights=run.weights)


def write_key(run: Run, job: Job, evidence: Evidence, folds: Mapping[str, str]) -> str:
    """Of a job's folder: its samples, and all that is said about their making."""
    parameters = {"software": structgen.__version__, "model": run.model_name, "job": job.to_json(), "notes": list(evidence.notes)}
    inputs = [*evidence.msas, *evidence.templates, *folds.values()]
    return artifact_key("write", WRITE_VERSION, parameters=parameters, inputs=inputs, weights=run.weights)
