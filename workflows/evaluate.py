"""A model on held-out chains, beside what knows nothing: `python -m workflows.evaluate --model FILE --chains DIR --out FILE.json`.

One row a chain and evidence goes to FILE.jsonl as soon as it is known; the same command goes on where it was cut off. FILE.json is the
summary, and `--card README.md` writes the model card from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyhmmer.easel import DigitalSequenceBlock

from structgen import heads
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import DEFAULT_MODEL, Model
from structgen.alphafold3.ranking import best
from structgen.errors import ConfigError
from structgen.features.atoms import build_atoms
from structgen.features.chains import ChainRecord, ChainSet
from structgen.features.examples import labelled, show_profile
from structgen.features.job import Chain, Job, Kind
from structgen.features.tokens import Tokens, tokenise
from structgen.metrics.calibration import Tally
from structgen.metrics.geometry import clashes_per_thousand, distances
from structgen.metrics.lddt import lddt_by_point
from structgen.metrics.trace import ideal_helix, score_trace
from structgen.predict import fold
from structgen.prediction import Prediction
from structgen.search.nearest import block_of, nearest
from structgen.store import replace_file
from workflows.card import write_card
from workflows.scoreboard import summarise

log = logging.getLogger(__name__)
CA = 1  # slot of CA in the archive
CA_CA = (3.6, 4.0)  # angstrom between the CA atoms of neighbours, trans peptide bonds
Row = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """What an evaluation is: rows made under another one never mix with these."""

    model: str  # name
    weights: str  # sha256
    split: str
    primary: bool
    limit: int  # chains, the first by the hash of their names; 0: all
    evidence: tuple[str, ...]  # "sequence": the sequence alone; "profile": the archive's profile, for chains that have one
    seed: int
    sampling: Sampling


@dataclass(frozen=True, eq=False)
class Baselines:
    """What a structure is compared with: an ideal helix, any training chain, the nearest training chain."""

    chains: ChainSet
    seed: int

    @cached_property
    def training(self) -> list[int]:
        """Training chains, shorter ones first."""
        return sorted(self.chains.split("train"), key=lambda i: (self.chains.length(i), i))

    @cached_property
    def block(self) -> DigitalSequenceBlock:
        """Their sequences, named by index."""
        return block_of({str(i): self.chains[i].sequence for i in self.training})

    def scores(self, index: int, record: ChainRecord) -> Row:
        """The row of scores of each; None for the nearest chain where phmmer finds none."""
        true, resolved = record.positions[:, CA], record.mask[:, CA]
        traces = {"helix": ideal_helix(len(true)), "random": self._random(index), "nearest": self._nearest(record.sequence)}
        return {name: None if t is None else dataclasses.asdict(score_trace(t, true, resolved)) for name, t in traces.items()}

    def _random(self, index: int) -> np.ndarray:
        """The first residues of a training chain drawn from those of the same length, or of the next length that there is."""
        length = self.chains.length(index)
        sizes = np.array([self.chains.length(i) for i in self.training])
        first = min(int(np.searchsorted(sizes, length)), len(sizes) - 1)
        last = int(np.searchsorted(sizes, sizes[first], side="right"))
        drawn = int(np.random.default_rng((self.seed, index)).integers(first, last))
        return _fitted(_trace(self.chains[self.training[drawn]]), length)

    def _nearest(self, sequence: str) -> np.ndarray | None:
        """The best phmmer hit's CA atoms on the residues that its alignment pairs."""
        found = nearest(sequence, self.block)
        if found is None:
            return None
        trace = np.full((len(sequence), 3), np.nan)
        trace[found.own] = _trace(self.chains[int(found.name)])[found.other]
        return trace


def _trace(record: ChainRecord) -> np.ndarray:
    return np.where(record.mask[:, CA, None], record.positions[:, CA], np.nan)


def _fitted(trace: np.ndarray, length: int) -> np.ndarray:
    """Cut, or filled with NaN, to the length."""
    return np.concatenate([trace[:length], np.full((max(0, length - len(trace)), 3), np.nan)])


def selection(chains: ChainSet, protocol: Protocol) -> list[int]:
    """The chains to judge, in the order of the sha256 of their names: any number of them is a fair choice, and more only add."""
    judged = chains.split(protocol.split, primary=protocol.primary)
    judged.sort(key=lambda i: hashlib.sha256(chains.rows[i]["id"].encode()).digest())
    return judged[: protocol.limit or None]


def rows(protocol: Protocol, model: Model, chains: ChainSet, done: set[tuple[int, str]]) -> Iterator[Row]:
    """A row of scores for every chain and evidence that is not done."""
    baselines = Baselines(chains, protocol.seed)
    for index in selection(chains, protocol):
        for evidence in protocol.evidence:
            if (index, evidence) in done or (evidence == "profile" and not chains.has_profile(index)):
                continue
            started, record = time.monotonic(), chains[index]
            tokens, samples = predicted(record, model, protocol, evidence)
            yield {
                "index": index,
                "id": record.id,
                "length": len(record.sequence),
                "evidence": evidence,
                "ranked": best(samples),
                "samples": [sample_scores(record, tokens, one) for one in samples],
                "baselines": baselines.scores(index, record) if evidence == "sequence" else None,
                "seconds": round(time.monotonic() - started, 2),
            }


def predicted(record: ChainRecord, model: Model, protocol: Protocol, evidence: str) -> tuple[Tokens, list[Prediction]]:
    """The samples of a whole chain by the sequence alone or by its profile."""
    job = Job(name=record.id, slug="judged", chains=(Chain("A", Kind.PROTEIN, record.sequence),), source=record.id)
    tokens = tokenise(build_atoms(job))
    batch = labelled(record)[0]
    if evidence == "profile" and record.profile is not None:
        batch = show_profile(batch, record.profile)
    return tokens, fold(tokens, batch, model, protocol.sampling, protocol.seed)


def sample_scores(record: ChainRecord, tokens: Tokens, prediction: Prediction) -> Row:
    """Accuracy, geometry and confidence of one sample."""
    true, resolved = record.positions[:, CA], record.mask[:, CA]
    trace = prediction.positions[tokens.centre_atom]
    plddt = prediction.atom_plddt[tokens.centre_atom]
    steps = distances(trace[:-1], trace[1:])
    local = lddt_by_point(trace, true, np.arange(len(true)), mask=resolved)
    return dataclasses.asdict(score_trace(trace, true, resolved)) | {
        "ca_ca": float(((steps > CA_CA[0]) & (steps < CA_CA[1])).mean()),
        "clashes": clashes_per_thousand(tokens.structure, prediction.positions),
        "plddt": float(plddt[resolved].mean()),
        "ptm": prediction.summary.ptm,
        "ranking_score": prediction.summary.ranking_score,
        "calibration": Tally.of(plddt / 100, local).lists(),
    }


def read_rows(path: Path, protocol: Protocol) -> list[Row]:
    """The rows of an earlier start of the same evaluation, whatever its limit; a last line that was cut off is dropped.

    Raises `ConfigError` if the file belongs to another evaluation.
    """
    head = {"protocol": json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(protocol, limit=0))))}
    if not path.exists():
        replace_file(path, (json.dumps(head) + "\n").encode())
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not lines or json.loads(lines[0]) != head:
        raise ConfigError(f"{path}: these rows belong to another model or other settings; give another --out or remove the file")
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        replace_file(path, "".join(whole).encode())
    return [json.loads(line) for line in whole[1:]]


def evaluate(protocol: Protocol, model: Model, chains: ChainSet, out: Path) -> Row:
    """Judge the model and write the summary to `out`, the rows beside it. Of an earlier start's rows, those within the limit count."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_suffix(".jsonl")
    judged = {(index, evidence) for index in selection(chains, protocol) for evidence in protocol.evidence}
    found = [row for row in read_rows(path, protocol) if (row["index"], row["evidence"]) in judged]
    done = {(row["index"], row["evidence"]) for row in found}
    with open(path, "a", encoding="utf-8") as handle:
        for row in rows(protocol, model, chains, done):
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            found.append(row)
            ranked = row["samples"][row["ranked"]]
            log.info("%s %s n=%d lDDT %.3f pLDDT %.0f", row["id"], row["evidence"], row["length"], ranked["lddt"], ranked["plddt"])
    summary = {"protocol": dataclasses.asdict(protocol), "data": archive_facts(chains), **summarise(found)}
    replace_file(out, (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def archive_facts(chains: ChainSet) -> Row:
    """How much there is to train on and to judge by."""
    splits = {name: chains.split(name) for name in ("train", "val", "test")}
    return {
        name: {"chains": len(split), "clusters": len(chains.clusters(split)), "residues": sum(map(chains.length, split))}
        for name, split in splits.items()
    } | {"with_profile": sum(chains.has_profile(i) for i in splits["train"])}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="safetensors file or the name of a shipped model")
    parser.add_argument("--chains", type=Path, required=True, help="folder with chains.npz, chains.tsv.gz and chains_profiles.npz")
    parser.add_argument("--out", type=Path, required=True, help="summary (.json); rows go to the .jsonl beside it")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--primary", action="store_true", help="only the representative of each cluster")
    parser.add_argument("--limit", type=int, default=0, help="chains at most, chosen by the hash of their names")
    parser.add_argument("--evidence", nargs="+", default=["sequence", "profile"], choices=("sequence", "profile"))
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of the sampler; the model's own number if not given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--card", type=Path, help="write the model card here")
    parser.add_argument("--training", type=Path, nargs="*", default=[], help="folders of the training runs, for the card")
    parser.add_argument("--hardware", default="not recorded", help="what the runs were made on, for the card")
    return parser.parse_args()


def main() -> None:
    """The command line of this module."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    model = heads.load(options.model)
    sampling = dataclasses.replace(model.config.sampling, samples=options.samples, steps=options.steps or model.config.sampling.steps)
    protocol = Protocol(
        model=model.name,
        weights=model.digest,
        split=options.split,
        primary=options.primary,
        limit=options.limit,
        evidence=tuple(options.evidence),
        seed=options.seed,
        sampling=sampling,
    )
    summary = evaluate(protocol, model, ChainSet(options.chains), options.out)
    if options.card:
        write_card(options.card, summary, options.training, options.hardware)


if __name__ == "__main__":
    main()
