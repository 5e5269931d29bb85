"""Rows of the table of fidelity: how far two answers are apart, the converted network that gives ours, and the record for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from structgen.alphafold3.config import Config
from structgen.alphafold3.convert import Table, convert
from structgen.alphafold3.model import AlphaFold3


def converted(theirs: Mapping[str, Tensor], config: Config, table: Table) -> AlphaFold3:
    """Our network with the peer's weights."""
    with torch.device("meta"):
        network = AlphaFold3(config)
    network.load_state_dict(convert(theirs, table, network.state_dict()), assign=True)
    return network.eval().requires_grad_(False)


RECORDED = ("1 trunk, two cycles: single", "1 trunk, two cycles: pair", "20 denoiser call at two levels", "31 pLDDT", "31 PAE", "31 PDE")
ROWS = 3  # of every tensor in a record


def recorded(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a record keeps of the answers: the first and the last rows, where chains, windows and templates all differ."""
    return {name: torch.cat([parts[name][..., :ROWS, :], parts[name][..., -ROWS:, :]], dim=-2).contiguous() for name in RECORDED}


def record(parts: Mapping[str, Tensor], path: Path) -> None:
    """Write a peer's answers for tests where the peer is not installed."""
    save_file(recorded({name: parts[name] for name in RECORDED}), path)


def report(model: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """One line a part: the largest difference relative to the largest value. A part that one side lacks is an error."""
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{model}: parts of one side alone: {sorted(ours.keys() ^ theirs.keys())}")
    for part, value in ours.items():
        other = theirs[part].reshape(value.shape) if theirs[part].numel() == value.numel() else theirs[part]
        if other.shape != value.shape:
            raise SystemExit(f"{model}: {part}: {tuple(value.shape)} and {tuple(other.shape)}")
        difference = ((value - other).abs().max() / other.abs().max()).item()
        print(json.dumps({"model": model, "part": part, "difference": difference, "largest": other.abs().max().item()}), flush=True)
