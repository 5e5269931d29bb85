"""What `structgen evaluate` is asked for, checked, to the source that it judges and the files that it writes."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from structgen import heads
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import Model
from structgen.configuration import from_mapping
from structgen.data.archive import Archive
from structgen.data.archive_chains import ArchiveChains
from structgen.errors import ConfigError
from structgen.features.chains import ChainSet, read_holdout
from structgen.search.template_index import build_index
from structgen.search.templates import TemplateSettings
from structgen.settings import NO_TEMPLATES, parse_assignments
from structgen.stages import takes_templates
from structgen.store import open_store
from workflows.baselines import Baselines, Chains, Structures, Trained
from workflows.card import write_card
from workflows.evaluate import Source, evaluate
from workflows.evaluate_model import ModelSource, Protocol
from workflows.evaluate_run import RunSource
from workflows.evaluation_tables import report
from workflows.evidence import without_templates

EVIDENCE = ("sequence", "profile")
SETTINGS = ("template_search", "sampling")  # sections of --set
ONE_OF_TWO = "evaluate a run (RUN --truth DIR) or a model (--model FILE --chains DIR): give one of them"


@dataclass(frozen=True)
class Folding:
    """A model, and which chains it folds how."""

    model: str
    split: str
    primary: bool
    limit: int
    evidence: tuple[str, ...]
    samples: int
    steps: int | None
    cycles: int | None
    seed: int


@dataclass(frozen=True)
class Writing:
    """Where results go, and what the card says beside them."""

    out: Path | None
    card: Path | None = None
    training: tuple[Path, ...] = ()
    hardware: str = "not recorded"
    trained_on: str = ""  # all training chains of the set when not given


@dataclass(frozen=True)
class EvaluateRequest:
    """A run with its truth, or a model with chains; and what either is compared with."""

    run: Path | None
    truth: Path | None
    folding: Folding | None
    chains: Path | None
    holdout: Path | None
    templates: str
    max_template_date: str
    threads: int
    writing: Writing
    assignments: tuple[str, ...] = ()


def run_evaluation(request: EvaluateRequest, console: Console) -> int:
    """Judge, write and print. Exit status 3 where a job of a run has no truth.

    Raises `ConfigError` for a request that is neither of a run nor of a model, or of both.
    """
    _check(request)
    logging.getLogger("workflows.evaluate").setLevel(logging.INFO)
    if request.threads:
        torch.set_num_threads(request.threads)
    chains = None if request.chains is None else open_chains(request.chains, request.holdout)
    model = heads.load(request.folding.model) if request.folding else None
    baselines = Baselines(Trained(chains, seed=1) if chains else None, _structures(request, model, console))
    source, out = _source(request, model, chains, baselines)
    summary = evaluate(source, request.writing.out or out)
    console.print(report(summary), markup=False, highlight=False, soft_wrap=True)
    if request.writing.card:
        own = request.writing
        write_card(request.writing.card, summary, own.training, own.hardware, own.trained_on, own.out or out)
    missing = summary.get("jobs_without_truth", [])
    if missing:
        console.print(f"no truth for {', '.join(missing)}", markup=False, highlight=False, soft_wrap=True)
    return 3 if missing else 0


def _source(request: EvaluateRequest, model: Model | None, chains: Chains | None, baselines: Baselines) -> tuple[Source, Path]:
    """What is judged, and where results go if the user does not say."""
    if request.folding and model and chains:
        out = Path("runs") / f"{model.name}_{request.folding.split}"
        return _model_source(request, request.folding, model, chains, baselines), out
    if request.run and request.truth:
        return RunSource(request.run, request.truth, baselines), request.run / "evaluation"
    raise ConfigError(ONE_OF_TWO)


def _check(request: EvaluateRequest) -> None:
    folding = request.folding
    if bool(request.run) == bool(folding):
        raise ConfigError(ONE_OF_TWO)
    if request.run and not request.truth:
        raise ConfigError(f"{request.run}: a run is judged beside experimental structures: give --truth DIR")
    if request.run and request.writing.card:
        raise ConfigError("--card is written of a model: give --model FILE --chains DIR")
    if folding and not request.chains:
        raise ConfigError("--model folds known chains: give --chains DIR, a set of chains or an archive of `structgen data build`")
    if unknown := sorted(parse_assignments(list(request.assignments)).keys() - set(SETTINGS)):
        raise ConfigError(f"--set {unknown[0]}: expected a setting of {' or '.join(SETTINGS)}")
    if folding and (wrong := [name for name in folding.evidence if name not in EVIDENCE]):
        raise ConfigError(f"--evidence {wrong[0]}: expected {' or '.join(EVIDENCE)}")


def open_chains(path: Path, holdout: Path | None) -> Chains:
    """The chains of a set, of which those of the table are held out, or of an archive, which knows its own."""
    return ArchiveChains(Archive(path)) if (path / "build.json").exists() else ChainSet(path, holdout)


def _structures(request: EvaluateRequest, model: Model | None, console: Console) -> Structures | None:
    """What is searched for templates: what the user names, else the model's own library."""
    if request.templates == NO_TEMPLATES or not (request.templates or (model and model.library)):
        return None
    takes = model is None or takes_templates(model.config)
    if model is not None and not takes:
        if not request.templates:
            return None
        text = f"Templates: {without_templates(model.name)} but the baseline that copies them"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    path = Path(request.templates).absolute() if request.templates else model.library if model and model.library else Path()
    settings = from_mapping(TemplateSettings, _chosen(request, "template_search"), "template_search")
    settings = dataclasses.replace(settings, max_date=request.max_template_date or settings.max_date)
    return Structures(path, build_index(path, open_store("")), settings)


def _chosen(request: EvaluateRequest, section: str) -> dict[str, Any]:
    return dict(parse_assignments(list(request.assignments)).get(section, {}))


def _model_source(request: EvaluateRequest, folding: Folding, model: Model, chains: Chains, baselines: Baselines) -> ModelSource:
    own = model.config.sampling
    named = {"samples": folding.samples, "steps": folding.steps or own.steps, "cycles": folding.cycles or own.cycles}
    sampling = from_mapping(Sampling, dataclasses.asdict(own) | named | _chosen(request, "sampling"), "sampling")
    protocol = Protocol(
        model=model.name,
        weights=model.digest,
        split=folding.split,
        primary=folding.primary,
        limit=folding.limit,
        evidence=folding.evidence,
        seed=folding.seed,
        sampling=sampling,
    )
    held = {row.id: row for row in read_holdout(request.holdout)} if request.holdout else {}
    return ModelSource(protocol, model, chains, baselines, held)
