"""The plain training loop: one process, one device, exact resume. `python -m workflows.train CONFIG --chains DIR --out RUN`.

Everything random of step k is drawn from generators seeded by (seed, k), so a checkpoint needs no generator's state: a run that was cut
off and goes on makes the same steps as one that was not.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml

from structgen.alphafold3 import config as presets
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.alphafold3.training import LossTerms, StructureLoss
from structgen.configuration import from_mapping
from structgen.errors import CheckpointError, ConfigError
from structgen.features.chains import ChainSet
from structgen.features.examples import Crops, draw_example
from structgen.generative import generators
from structgen.io.checkpoint import read_checkpoint, write_checkpoint
from structgen.train import Optimisation, TrainState, train_step

log = logging.getLogger(__name__)
ADAM = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class TrainingRun:
    """All that a training run is, beside its data: what the YAML file holds."""

    preset: Literal["small", "tiny", "af3"]
    steps: int
    seed: int = 0
    examples_per_step: int = 1
    log_every: int = 20
    checkpoint_every: int = 250
    crops: Crops = field(default_factory=Crops)
    loss: LossTerms = field(default_factory=LossTerms)
    optimisation: Optimisation = field(default_factory=Optimisation)


def read_run(path: Path) -> TrainingRun:
    """The run that a YAML file describes. Raises `ConfigError` for what is missing, unknown or of the wrong type."""
    try:
        return from_mapping(TrainingRun, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error


def train(run: TrainingRun, chains: ChainSet, out: Path) -> TrainState:
    """Make the run's steps, from the last checkpoint in `out` if there is one: `log.jsonl`, `state.safetensors`, `model.safetensors`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(run.seed)
    network = AlphaFold3(getattr(presets, run.preset)())
    network.confidence.requires_grad_(False)  # trained on roll-outs, when the rest stands still
    state = resume(TrainState.start(network, run.optimisation), out / "state.safetensors")
    clusters = chains.clusters(chains.split("train"))
    loss = StructureLoss(network, run.loss)
    started, metrics_sum = time.monotonic(), dict[str, float]()
    while state.step < run.steps:
        data = np.random.default_rng((run.seed, state.step))
        examples = [draw_example(chains, clusters, run.crops, data) for _ in range(run.examples_per_step)]
        rng = generators(run.seed, 1, first=state.step)[0]
        torch.manual_seed(int(data.integers(2**62)))  # dropout masks
        state, metrics = train_step(state, examples, loss, run.optimisation, rng)
        metrics_sum = {name: metrics_sum.get(name, 0.0) + value for name, value in metrics.items()}
        if state.step % run.log_every == 0:
            means = {name: round(value / run.log_every, 5) for name, value in metrics_sum.items()}
            _log(out / "log.jsonl", {"step": state.step, "seconds": round(time.monotonic() - started, 1), **means})
            metrics_sum = {}
        if state.step % run.checkpoint_every == 0 or state.step == run.steps:
            checkpoint(state, out / "state.safetensors")
            publish(state, out / "model.safetensors")
    return state


def checkpoint(state: TrainState, path: Path) -> None:
    """Weights, averages and Adam's moments in one safetensors file, replaced whole."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    tensors |= {
        f"adam.{index}.{name}": moments[name].reshape(moments[name].shape) for index, moments in _moments(state).items() for name in ADAM
    }
    network = state.network
    config = network.config.to_json() if isinstance(network, AlphaFold3) else "{}"
    write_checkpoint(path, {k: v.detach().contiguous() for k, v in tensors.items()}, {"config": config, "step": str(state.step)})


def resume(state: TrainState, path: Path) -> TrainState:
    """The state of the checkpoint at `path`; the given one if there is none. Raises `CheckpointError` if it does not fit."""
    if not path.exists():
        return state
    tensors, metadata, _ = read_checkpoint(path)
    try:
        state.network.load_state_dict({name[8:]: tensor for name, tensor in tensors.items() if name.startswith("network.")})
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit this run's network: {error}") from error
    for name, tensor in state.average.items():
        tensor.copy_(tensors[f"average.{name}"])
    saved = state.optimiser.state_dict()
    moved = [index for index in saved["param_groups"][0]["params"] if f"adam.{index}.step" in tensors]  # the rest never had a gradient
    saved["state"] = {index: {name: tensors[f"adam.{index}.{name}"] for name in ADAM} for index in moved}
    state.optimiser.load_state_dict(saved)
    log.info("resumed at step %s", metadata["step"])
    return TrainState(state.network, state.optimiser, state.average, int(metadata["step"]))


def publish(state: TrainState, path: Path) -> None:
    """The averaged weights as a model file."""
    network = state.network
    if isinstance(network, AlphaFold3):
        averaged = AlphaFold3(network.config)
        averaged.load_state_dict(state.average)
        save_model(averaged, path, card=f"training step {state.step}")


def _moments(state: TrainState) -> dict[int, dict[str, torch.Tensor]]:
    return state.optimiser.state_dict()["state"]


def _log(path: Path, row: dict[str, float]) -> None:
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")
    log.info("%s", row)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--chains", type=Path, required=True, help="folder with chains.npz, chains.tsv.gz and chains_profiles.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    train(read_run(options.config), ChainSet(options.chains), options.out)


if __name__ == "__main__":
    main()
