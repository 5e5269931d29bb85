"""Training of the confidence head alone, on roll-outs of a finished model. `python -m workflows.train_confidence CONFIG --model FILE ...`.

Two parts, each of which goes on where it was cut off: the roll-outs (one file each, drawn from (seed, number) alone), then the head's steps
over them. Nothing but the head is changed, so the model's structures stay what they were.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import yaml

from structgen.alphafold3.confidence import ConfidenceHead
from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import AlphaFold3, Model, load_model, save_model
from structgen.alphafold3.rollout import ConfidenceLoss, ConfidenceTerms, Rollout, roll_out
from structgen.configuration import from_mapping
from structgen.errors import ConfigError
from structgen.features.chains import ChainSet
from structgen.features.examples import Crops, draw_example
from structgen.generative import generators
from structgen.store import replace_file
from structgen.train import Metrics, Optimisation, TrainState, train_step
from workflows.train import checkpoint, publish, resume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rollouts:
    """Which chains are rolled out and how. Whole chains of `shortest` to `longest` residues, a cluster first and then a chain in it."""

    count: int = 160
    held_out: int = 16  # the last ones are not trained on; the head's loss on them is logged
    shortest: int = 40
    longest: int = 192
    full_atom_share: float = 0.5  # of the roll-outs, of chains with side chains; the rest has a profile
    profile_keep: float = 0.75
    gap_share: float = 0.4
    samples: int = 3
    steps: int = 20


@dataclass(frozen=True)
class ConfidenceRun:
    """All that a training of the head is, beside its model and its data: what the YAML file holds."""

    steps: int
    seed: int = 0
    examples_per_step: int = 1
    log_every: int = 20
    checkpoint_every: int = 100
    sampling: Sampling | None = None  # how the finished model is run when the user does not say; its own if not given
    rollouts: Rollouts = field(default_factory=Rollouts)
    loss: ConfidenceTerms = field(default_factory=ConfidenceTerms)
    optimisation: Optimisation = field(default_factory=Optimisation)


def read_run(path: Path) -> ConfidenceRun:
    """The run that a YAML file describes. Raises `ConfigError` for what is missing, unknown or of the wrong type."""
    try:
        return from_mapping(ConfidenceRun, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error


def train_confidence(run: ConfidenceRun, model: Model, chains: ChainSet, out: Path) -> TrainState:
    """Roll out, then train the head: `rollouts/`, `log.jsonl`, `state.safetensors` and `model.safetensors` in `out`."""
    (out / "rollouts").mkdir(parents=True, exist_ok=True)
    network = model.network
    network.config = dataclasses.replace(network.config, sampling=run.sampling or network.config.sampling)
    settings = {"rollouts": dataclasses.asdict(run.rollouts), "sampling": dataclasses.asdict(network.config.sampling)}
    claim(out / "run.json", {"model": model.digest, "seed": run.seed, **settings})
    paths = make_rollouts(run, network, chains, out)
    network.confidence.requires_grad_(True).train()
    state = resume(TrainState.start(network, run.optimisation), out / "state.safetensors")
    loss = ConfidenceLoss(network.confidence, run.loss)
    trained, held_out = paths[: len(paths) - run.rollouts.held_out], paths[len(paths) - run.rollouts.held_out :]
    started, rows = time.monotonic(), list[Metrics]()
    while state.step < run.steps:
        examples = [read_rollout(path) for path in drawn(trained, run, state.step)]
        torch.manual_seed(generators(run.seed, 1, first=state.step)[0].initial_seed())  # dropout masks
        state, metrics = train_step(state, examples, loss, run.optimisation, generators(run.seed, 1, first=state.step)[0])
        rows.append(metrics)
        if state.step % run.log_every == 0:
            _log(out / "log.jsonl", {"step": state.step, "seconds": round(time.monotonic() - started, 1), **_means(rows)})
            rows = []
        if state.step % run.checkpoint_every == 0 or state.step == run.steps:
            checkpoint(state, out / "state.safetensors")
            publish(state, out / "model.safetensors")
            if held_out:
                _log(out / "log.jsonl", {"step": state.step, "held_out": held_out_loss(network, state, loss, held_out)})
    return state


def claim(path: Path, identity: dict[str, object]) -> None:
    """Write what a folder's roll-outs are made of. Raises `ConfigError` if it holds those of another model or other settings."""
    text = json.dumps(identity, sort_keys=True, indent=1) + "\n"
    if not path.exists():
        replace_file(path, text.encode())
    elif path.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{path}: this folder holds roll-outs of another model or with other settings; give another --out or remove it")


def make_rollouts(run: ConfidenceRun, network: AlphaFold3, chains: ChainSet, out: Path) -> list[Path]:
    """The files of all roll-outs; those that are there already are kept."""
    network.eval()
    own = run.rollouts
    sampling = dataclasses.replace(network.config.sampling, samples=own.samples, steps=own.steps)
    pools = [chains.clusters(pool) for pool in candidates(own, chains)]
    crops = Crops(tokens=own.longest, batch=1, profile_keep=own.profile_keep, gap_share=own.gap_share)
    paths = [out / "rollouts" / f"{number:05}.safetensors" for number in range(own.count)]
    started, made = time.monotonic(), 0
    for number, path in enumerate(paths):
        if path.exists():
            continue
        data = np.random.default_rng((run.seed, number))
        pool = pools[int(data.random() >= own.full_atom_share)]
        rng = generators(run.seed, 1, first=number)[0]
        rollout = roll_out(network, draw_example(chains, pool, crops, data), sampling, rng)
        replace_file(path, safetensors.torch.save(rollout.tensors()))
        made += 1
        if made % run.log_every == 0 or number == own.count - 1:
            _log(out / "log.jsonl", {"rollouts": number + 1, "seconds": round(time.monotonic() - started, 1)})
    return paths


def candidates(own: Rollouts, chains: ChainSet) -> tuple[list[int], list[int]]:
    """Training chains of the right length: those with side chains, and those with a profile. Raises `ConfigError` if either is empty."""
    fitting = [i for i in chains.split("train") if own.shortest <= chains.length(i) <= own.longest]
    full, known = [i for i in fitting if chains.rows[i]["tier"] == "full"], [i for i in fitting if chains.has_profile(i)]
    for name, pool, share in (("side chains", full, own.full_atom_share), ("a profile", known, 1 - own.full_atom_share)):
        if not pool and share > 0:
            lengths = f"{own.shortest} to {own.longest} residues"
            raise ConfigError(f"{chains.folder}: no training chain of {lengths} has {name}; change rollouts.*")
    return full, known


def drawn(paths: Sequence[Path], run: ConfidenceRun, step: int) -> list[Path]:
    """The roll-outs of a step: every epoch is a permutation of its own."""
    places = range(step * run.examples_per_step, (step + 1) * run.examples_per_step)
    return [paths[np.random.default_rng((run.seed, k // len(paths))).permutation(len(paths))[k % len(paths)]] for k in places]


def read_rollout(path: Path) -> Rollout:
    """A roll-out that `make_rollouts` wrote."""
    return Rollout.from_tensors(safetensors.torch.load_file(path))


@torch.no_grad()
def held_out_loss(network: AlphaFold3, state: TrainState, loss: ConfidenceLoss, paths: Sequence[Path]) -> dict[str, float]:
    """Mean losses of the averaged head, without dropout, on the first sample of every roll-out."""
    head = ConfidenceHead(network.config).eval()
    prefix = "confidence."
    head.load_state_dict({name.removeprefix(prefix): w for name, w in state.average.items() if name.startswith(prefix)})
    judged = dataclasses.replace(loss, head=head)
    return _means([judged.of_sample(read_rollout(path), 0)[1] for path in paths])


def _means(rows: Sequence[Metrics]) -> Metrics:
    return {name: round(float(np.mean([row[name] for row in rows])), 5) for name in rows[0]}


def _log(path: Path, row: dict[str, object]) -> None:
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")
    log.info("%s", row)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--model", required=True, help="safetensors file (or name) of the model whose head is trained")
    parser.add_argument("--chains", type=Path, required=True, help="folder with chains.npz, chains.tsv.gz and chains_profiles.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--export", type=Path, help="where to write the trained model in bfloat16, as a package ships it")
    parser.add_argument("--card", default="", help="a paragraph for the exported file: what it was trained on")
    parser.add_argument("--terms", default="Apache-2.0", help="under which the exported weights may be used")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    train_confidence(read_run(options.config), load_model(options.model), ChainSet(options.chains), options.out)
    if options.export:
        trained = load_model(str(options.out / "model.safetensors")).network
        save_model(trained, options.export, card=options.card, terms=options.terms, dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
