"""`structgen sample backbone`: backbones of a length from a model that was trained without sequences, and what can be said of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import structgen
from structgen import heads
from structgen.features.atoms import build_atoms
from structgen.features.chains import ChainSet
from structgen.features.featurise import featurise
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import Tokens, tokenise
from structgen.io.pdb import write_pdb
from structgen.io.provenance import Provenance
from structgen.metrics.backbone import score_backbone
from structgen.metrics.tm import tm_score
from structgen.predict import fold
from structgen.prediction import Prediction
from structgen.store import replace_file
from structgen.tasks.backbone import ATOMS, HIDDEN

COMPARED = 400  # training chains of the nearest lengths
CA = 1


@dataclass(frozen=True)
class BackboneRequest:
    """What was asked for."""

    model: Path
    length: int
    count: int
    steps: int | None
    seed: int
    chains: Path | None
    out: Path


def sample_backbones(request: BackboneRequest, console: Console) -> int:
    """Draw, write `backbone_K.pdb`, measure, and write `backbones.json`."""
    tokens, drawn, provenance = draw(request)
    request.out.mkdir(parents=True, exist_ok=True)
    for k, one in enumerate(drawn):
        replace_file(request.out / f"backbone_{k}.pdb", write_pdb(tokens.structure, one, provenance, entry=f"backbone_{k}").encode())
    found = judged([backbone_of(tokens, one) for one in drawn], ChainSet(request.chains) if request.chains else None)
    replace_file(request.out / "backbones.json", (json.dumps(found, indent=1) + "\n").encode())
    console.print(f"{len(drawn)} backbones of {request.length} residues in {request.out}", markup=False, highlight=False)
    for name, value in found["mean"].items():
        console.print(f"  {name}: {value}", markup=False, highlight=False)
    return 0


def draw(request: BackboneRequest) -> tuple[Tokens, list[Prediction], Provenance]:
    """Samples of a chain of glycines. The same request gives the same bytes."""
    model = heads.load(str(request.model))
    own = model.config.sampling
    sampling = dataclasses.replace(own, samples=request.count, steps=request.steps or own.steps)
    chain = Chain("A", Kind.PROTEIN, HIDDEN * request.length)
    tokens = tokenise(build_atoms(Job(name="backbone", slug="backbone", chains=(chain,), source="structgen sample backbone")))
    drawn = fold(tokens, featurise(tokens, [None]), model, sampling, request.seed)
    settings = {"length": request.length, "steps": sampling.steps}
    provenance = Provenance(
        software=structgen.__version__, model=model.name, model_sha256=model.digest, settings=settings, seeds=(request.seed,), msa_depth={}
    )
    return tokens, drawn, provenance


def backbone_of(tokens: Tokens, one: Prediction) -> np.ndarray:
    """[n, 4, 3]: N, CA, C, O."""
    inside = (tokens.atom_slot < ATOMS) & (tokens.structure.atom_names != "OXT")
    return one.positions[inside].reshape(-1, ATOMS, 3)


def judged(backbones: Sequence[np.ndarray], chains: ChainSet | None) -> dict[str, Any]:
    """Scores of every backbone and their means, how much they differ, and how near the training chains are."""
    rows: list[dict[str, float]] = [{k: round(v, 4) for k, v in dataclasses.asdict(score_backbone(x)).items()} for x in backbones]
    traces = [x[:, CA] for x in backbones]
    if chains is not None:
        known = training_traces(chains, len(traces[0]))
        for row, trace in zip(rows, traces, strict=True):
            row["nearest_tm"] = round(max(without_gaps(trace, other) for other in known), 4)
    pairs = [tm_score(traces[i], traces[j]) for i, j in combinations(range(len(traces)), 2)]
    mean = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    return {"mean": mean | {"tm_between_samples": round(float(np.mean(pairs)), 4) if pairs else None}, "backbones": rows}


def training_traces(chains: ChainSet, length: int) -> list[np.ndarray]:
    """CA traces of the training chains whose lengths are nearest, resolved as a whole."""
    order = sorted(chains.split("train"), key=lambda i: (abs(chains.length(i) - length), i))[: 2 * COMPARED]
    whole = [record for i in order if (record := chains[i]).mask[:, CA].all()]
    return [record.positions[:, CA] for record in whole[:COMPARED]]


def without_gaps(trace: np.ndarray, other: np.ndarray) -> float:
    """TM-score of the best of three gapless overlaps (starts, middles, ends together): less than a structural alignment would find."""
    size = min(len(trace), len(other))
    places = {(a, b) for a, b in ((0, 0), ((len(trace) - size) // 2, (len(other) - size) // 2), (len(trace) - size, len(other) - size))}
    return max(tm_score(trace[a : a + size], other[b : b + size], len(trace)) for a, b in places)
