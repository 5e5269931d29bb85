"""Which public model a set of foreign weights is, told by names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from structgen.alphafold3 import openfold3, protenix
from structgen.alphafold3.config import Config
from structgen.alphafold3.convert import Table
from structgen.alphafold3.convert_openfold3 import openfold3_table
from structgen.alphafold3.convert_protenix import protenix_table
from structgen.alphafold3.sizes import Sizes
from structgen.errors import CheckpointError

WRAPPERS = ("module.", "model.")  # what training in parallel and Lightning put before every name
PROTENIX, OPENFOLD3 = "linear_no_bias_sinit.weight", "aux_heads.pairformer_embedding.linear_i.weight"  # a name that only they have
REPEATED = "sample_diffusion.diffusion_module."  # OpenFold3's sampler owns the diffusion module too, so its weights are there twice
VERSION = (2.0, 0.0, 0.0)  # OpenFold3 0.5.0's


@dataclass(frozen=True)
class Recognised:
    """Foreign weights with what is needed to read them."""

    tensors: Mapping[str, Tensor]  # named as the table names them
    config: Config
    table: Table
    terms: str


def recognise(tensors: Mapping[str, Tensor]) -> Recognised:
    """The model that `tensors` are the weights of. Raises `CheckpointError` for one that cannot be read, by its name where it has one."""
    named = _unwrapped(tensors)
    if PROTENIX in named:
        return _protenix(named)
    if OPENFOLD3 in named:
        return _openfold3(named)
    shown = ", ".join(sorted(named)[:3])
    raise CheckpointError(f"weights of neither Protenix nor OpenFold3 0.5.0, the models that can be converted; found names like {shown}")


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that every name has."""
    named = dict(tensors)
    while prefix := next((prefix for prefix in WRAPPERS if named and all(name.startswith(prefix) for name in named)), ""):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _protenix(tensors: dict[str, Tensor]) -> Recognised:
    if any(name.startswith("constraint_embedder.") for name in tensors):
        raise CheckpointError(
            "protenix_base_constraint: a Protenix that reads pockets, contacts and partial structures, which structgen does not have; "
            "convert protenix_base_default_v0.5.0, from which it was trained"
        )
    if "input_embedder.linear_esm.weight" in tensors:
        raise CheckpointError(
            "protenix_mini_esm or protenix_mini_ism: a Protenix that reads embeddings of a protein language model, which structgen does "
            "not make; convert protenix_mini_default_v0.5.0"
        )
    config = protenix.read_config(Sizes(tensors))
    terms = "Protenix publishes its code and weights under Apache-2.0; weights that others trained are theirs."
    return Recognised(tensors, config, protenix_table(config), terms)


def _openfold3(tensors: dict[str, Tensor]) -> Recognised:
    if "diffusion_module.diffusion_transformer.layer_norm_z.weight" not in tensors:
        raise CheckpointError("OpenFold3 before 0.5.0 (a preview, of3-p2): another network; convert the checkpoint of 0.5.0 (of3-ob)")
    kept = _without_repetitions(tensors)
    version = kept.pop("version_tensor", None)
    if version is not None and not version.is_meta and tuple(version.tolist()) != VERSION:
        raise CheckpointError(f"OpenFold3 with the model version {version.tolist()}; only {list(VERSION)} (0.5.0) can be converted")
    config = openfold3.read_config(Sizes(kept))
    terms = "OpenFold3 publishes its code and weights under Apache-2.0; weights that others trained are theirs."
    return Recognised(kept, config, openfold3_table(config), terms)


def _without_repetitions(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Raises `CheckpointError` where the two copies of a tensor are not equal, or the second has no first."""
    for name in tensors:
        if name.startswith(REPEATED):
            first = tensors.get(name.removeprefix("sample_diffusion."))
            if first is None or not _equal(first, tensors[name]):
                raise CheckpointError(f"{name} should repeat {name.removeprefix('sample_diffusion.')} and does not")
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(REPEATED)}


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    return first.is_meta or first.data_ptr() == second.data_ptr() or torch.equal(first, second)
