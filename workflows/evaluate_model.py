"""`structgen evaluate --model FILE --chains DIR|ARCHIVE`: held-out chains, folded from their sequence, with a profile, with templates."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import Model
from structgen.alphafold3.ranking import best
from structgen.errors import ConfigError
from structgen.features.atoms import build_atoms
from structgen.features.chains import ChainRecord, Holdout, in_judged_order
from structgen.features.examples import show_profile
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.templates import Templates
from structgen.features.tokens import Tokens, tokenise
from structgen.metrics.sample import SLOTS, Known, Sample, laid_traces, score_sample
from structgen.predict import fold
from structgen.prediction import Prediction
from structgen.search.copied import copied_trace
from structgen.stages import takes_templates
from workflows.baselines import Baselines, Chains, closed_row, trace_row
from workflows.evaluate import Row, Source
from workflows.scoreboard import WITH_TEMPLATES


@dataclass(frozen=True)
class Protocol:
    """What the evaluation of a model is."""

    model: str  # name
    weights: str  # sha256
    split: str
    primary: bool
    limit: int  # chains, the first by the hash of their names; 0: all
    evidence: tuple[str, ...]  # "sequence": the sequence alone; "profile": the archive's profile, for chains that have one
    seed: int
    sampling: Sampling


@dataclass(frozen=True, eq=False)
class ModelSource(Source):
    """Chains of a split, folded when their row is asked for; `held` are the rows of a table of held-out chains by name."""

    settings: Protocol
    model: Model
    chains: Chains
    baselines: Baselines
    held: dict[str, Holdout] = field(default_factory=dict)

    def protocol(self) -> Row:
        return dataclasses.asdict(dataclasses.replace(self.settings, limit=0)) | self.baselines.searched()

    def targets(self) -> list[str]:
        chosen, alone = selection(self.chains, self.settings), "sequence" in self.settings.evidence
        return [self.chains.name(i) for i in chosen if alone or self.chains.has_profile(i)]

    def facts(self) -> Row:
        return {"limit": self.settings.limit, "data": archive_facts(self.chains)}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {self.chains.name(i): i for i in self.chains.split(self.settings.split)}

    def row(self, key: str) -> Row:
        started, record = time.monotonic(), self.chains[self._numbers[key]]
        known = known_of(record)
        structures = self.baselines.structures
        evidence = [name for name in self.settings.evidence if name != "profile" or record.profile is not None]
        found = {name: structures.templates(record.sequence, shown(record, name)) for name in evidence} if structures else {}
        templates = found.get(evidence[0])
        traces = self.baselines.traces(record.sequence, templates)
        row = {
            "target": record.id,
            "length": len(record.sequence),
            "identity": self._identity(record, templates),
            "template": dataclasses.asdict(templates.used[0]) if templates else None,
            "baselines": {name: trace_row(trace, known.trace, known.resolved) for name, trace in traces.items()},
            "predictions": dict(self._predictions(record, known, evidence, found)),
        }
        return row | {"seconds": round(time.monotonic() - started, 2)}

    def _identity(self, record: ChainRecord, templates: Templates | None) -> str:
        """The bin of the nearest known relative; empty where none is searched."""
        if held := self.held.get(record.id):
            return held.bin
        return "" if templates is None else identity_bin(templates.used[0].identity if templates else None)

    def _predictions(
        self, record: ChainRecord, known: Known, kinds: Sequence[str], found: dict[str, Templates]
    ) -> Iterator[tuple[str, Row]]:
        """By evidence; with templates only where structures are searched and the model takes them."""
        for evidence in kinds:
            templates = found.get(evidence)
            tokens, samples = predicted(record, self.model, self.settings, evidence)
            own = sample_rows(tokens, samples, known)
            if templates is not None:
                copied = copied_trace(templates)
                own["identity"] = self._identity(record, templates)
                own["template"] = dataclasses.asdict(templates.used[0]) if templates else None
                own["copied"] = trace_row(copied, known.trace, known.resolved)
                trace = samples[own["ranked"]].positions[tokens.centre_atom]
                own["closed"] = closed_row(templates, trace, known.trace, known.resolved)
            yield evidence, own
            if templates is not None and takes_templates(self.model.config):
                given = predicted(record, self.model, self.settings, evidence, templates) if len(templates) else (tokens, samples)
                yield evidence + WITH_TEMPLATES, sample_rows(*given, known)


def shown(record: ChainRecord, evidence: str) -> np.ndarray | None:
    """The frequencies of homologues that an evidence shows."""
    return record.profile if evidence == "profile" else None


def sample_rows(tokens: Tokens, samples: list[Prediction], known: Known) -> Row:
    """The rows of all samples, the number of the one ranked first, and that one's CA atoms beside the truth."""
    ranked, judged = best(samples), [_sample(tokens, one) for one in samples]
    rows = [score_sample(one, known) for one in judged]
    return {"ranked": ranked, "samples": rows, "traces": laid_traces(judged[ranked], known)}


def _sample(tokens: Tokens, one: Prediction) -> Sample:
    name = f"seed-{one.seed}_sample-{one.sample}"
    return Sample(name, tokens, one.positions, one.atom_plddt, one.pae, one.summary.ptm, one.summary.ranking_score)


def known_of(record: ChainRecord) -> Known:
    """A chain of an archive as the truth of its own job."""
    return Known(record.positions[:, :SLOTS].astype(np.float64), record.mask[:, :SLOTS], (0,))


def identity_bin(identity: float | None) -> str:
    """Per cent of identity of the best template, from-to; the bins of the held-out table and those outside of it."""
    if identity is None:
        return "none found"
    return next(f"{low}-{high}" for low, high in ((0, 30), (30, 50), (50, 70), (70, 95), (95, 101)) if 100 * identity < high)


def selection(chains: Chains, protocol: Protocol) -> list[int]:
    """The chains to judge, in their order. Raises `ConfigError` where the split is empty."""
    judged = chains.split(protocol.split, primary=protocol.primary)
    if not judged:
        primary = "primary " if protocol.primary else ""
        remedy = "`homolog` needs --holdout, or an archive that was built with one"
        raise ConfigError(f"no {primary}chain in the split {protocol.split!r}; {remedy}")
    return in_judged_order(judged, chains.name)[: protocol.limit or None]


def predicted(
    record: ChainRecord, model: Model, protocol: Protocol, evidence: str, templates: Templates | None = None
) -> tuple[Tokens, list[Prediction]]:
    """The samples of a whole chain by the sequence alone or by its profile."""
    job = Job(name=record.id, slug="judged", chains=(Chain("A", Kind.PROTEIN, record.sequence),), source=record.id)
    tokens = tokenise(build_atoms(job))
    batch = featurise(tokens, [None], templates=() if templates is None else (templates,))
    frequencies = shown(record, evidence)
    if frequencies is not None:
        batch = show_profile(batch, frequencies)
    return tokens, fold(tokens, batch, model, protocol.sampling, protocol.seed)


def archive_facts(chains: Chains) -> Row:
    """How much there is to train on and to judge by."""
    splits = {name: chains.split(name) for name in ("train", "val", "test")}
    counted: dict[str, Any] = {
        name: {"chains": len(split), "clusters": len(chains.clusters(split)), "residues": sum(map(chains.length, split))}
        for name, split in splits.items()
    }
    return counted | {"with_profile": sum(chains.has_profile(i) for i in splits["train"])}
