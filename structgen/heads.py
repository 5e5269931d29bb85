"""Which network moves the atoms: AlphaFold 3 with the head that its configuration names."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from structgen.alphafold3.config import Config
from structgen.alphafold3.model import DEFAULT_MODEL, AlphaFold3, Model, load_model
from structgen.precision import Precision


def build(config: Config) -> AlphaFold3:
    """The network with random weights. Raises `ConfigError` where the head's library is not installed."""
    return AlphaFold3(config, _equivariant(config) if config.head.network == "equivariant" else None)


def load(name_or_path: str = DEFAULT_MODEL, *, precision: Precision = "float32") -> Model:
    """`load_model` for a model with any head."""
    return load_model(name_or_path, precision=precision, build=build)


def _equivariant(config: Config) -> nn.Module:
    """e3nn makes constants of its products, so they are never made on torch's meta device."""
    from structgen.equivariant.head import EquivariantHead
    from structgen.equivariant.sizes import Sizes

    sizes = Sizes(**dataclasses.asdict(config.head.equivariant))
    with torch.device("cpu"):
        return EquivariantHead(sizes, c_s=config.c_s, c_s_inputs=config.inputs.c_s_inputs, c_z=config.c_z)
