"""The checkpoint of a training run: everything that a step reads and changes, in one safetensors file that is replaced whole.

Random numbers need no place in it: all of step k is drawn from (seed, k).
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from structgen.errors import CheckpointError
from structgen.generative.ema import Weights
from structgen.io.checkpoint import read_checkpoint, write_checkpoint
from structgen.train import TrainState

log = logging.getLogger(__name__)
MOMENTS = ("exp_avg", "exp_avg_sq")


def write_state(state: TrainState, path: Path, config: str, *, compact: bool = False) -> None:
    """Weights, averages and the optimiser's moments.

    `compact`: averages and moments in bfloat16. They are rounded in the running state as well, so a run that goes on from the file makes
    the same steps as the one that wrote it.
    """
    if compact:
        _round(state)
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in _narrow(state.average, compact).items()}
    for index, moments in _moments(state).items():
        exact = {name: value for name, value in moments.items() if name not in MOMENTS}
        own = {name: moments[name] for name in MOMENTS if name in moments}
        tensors |= {f"adam.{index}.{name}": t for name, t in (_narrow(own, compact) | exact).items()}
    write_checkpoint(path, {k: v.detach().contiguous() for k, v in tensors.items()}, {"config": config, "step": str(state.step)})


def read_state(state: TrainState, path: Path) -> TrainState:
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
    saved["state"] = {}
    for name in tensors:
        if name.startswith("adam."):  # weights without an entry never had a gradient
            _, index, moment = name.split(".")
            saved["state"].setdefault(int(index), {})[moment] = _wide(tensors[name])
    state.optimiser.load_state_dict(saved)
    log.info("resumed at step %s", metadata["step"])
    return TrainState(state.network, state.optimiser, state.average, int(metadata["step"]))


def _moments(state: TrainState) -> dict[int, dict[str, torch.Tensor]]:
    return state.optimiser.state_dict()["state"]


@torch.no_grad()
def _round(state: TrainState) -> None:
    parameters = {name for name, _ in state.network.named_parameters()}
    rounded = [tensor for name, tensor in state.average.items() if name in parameters]
    rounded += [moments[name] for moments in state.optimiser.state.values() for name in MOMENTS if name in moments]
    for tensor in rounded:
        if tensor.dtype == torch.float32:
            tensor.copy_(tensor.to(torch.bfloat16))


def _narrow(tensors: Weights, compact: bool) -> Weights:
    """In bfloat16 where that loses nothing: buffers that were not rounded stay as they are."""
    if not compact:
        return dict(tensors)
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items() if tensor.dtype == torch.float32}
    return {name: halves[name] if name in halves and torch.equal(halves[name].float(), t) else t for name, t in tensors.items()}


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
