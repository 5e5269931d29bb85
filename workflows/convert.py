"""A public checkpoint in structgen's own format: read as data, checked whole, written tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.console import Console

from structgen.alphafold3.convert import Converted
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.recognise import recognise
from structgen.errors import CheckpointError
from structgen.io.checkpoint import file_digest, write_checkpoint
from structgen.io.torch_file import read_weights, weights_file


def convert_checkpoint(source: Path, out: Path, console: Console) -> None:
    """Write the weights in `source` to `out` with the configuration and the sampling of their model.

    Raises `CheckpointError`, and leaves no file behind, for a source that is no checkpoint of a known model, or lacks a tensor, has one
    too many or one of a wrong shape.
    """
    file = weights_file(source)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: the converted model is a safetensors file; let its name end in .safetensors")
    weights = read_weights(file)
    try:
        found = recognise(weights)
        with torch.device("meta"):
            network = AlphaFold3(found.config)
        tensors = Converted(found.tensors, found.table, network.state_dict())
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    digest = file_digest(file)
    card = f"{found.config.name}, converted from {file.name} (sha256 {digest})."
    origin = json.dumps({"file": file.name, "sha256": digest, "model": found.config.name}, sort_keys=True)
    write_checkpoint(out, tensors, {"config": found.config.to_json(), "card": card, "terms": found.terms, "source": origin})
    parameters = sum(parameter.numel() for parameter in network.parameters())
    sampling = found.config.sampling
    console.print(
        f"{file}: {found.config.name}, {parameters / 1e6:.1f} million parameters in {len(found.tensors)} tensors\n"
        f"{out}: {sampling.cycles} cycles, {sampling.steps} steps; predict with --model {out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
