"""Foreign weights say themselves which model they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.fidelity_job import small
from structgen.alphafold3 import openfold3, protenix
from structgen.alphafold3.config import Config
from structgen.alphafold3.convert import Converted, Table, revert
from structgen.alphafold3.convert_openfold3 import openfold3_table
from structgen.alphafold3.convert_protenix import protenix_table
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.recognise import REPEATED, recognise
from structgen.errors import CheckpointError

PUBLIC = {  # configuration, its table, and how many tensors and parameters its checkpoint has
    "tiny": (protenix.tiny_v0_5(), protenix_table, 1156, 109.50),
    "mini": (protenix.mini_v0_5(), protenix_table, 1612, 134.07),
    "base": (protenix.base_v0_5(), protenix_table, 4092, 368.09),
    "base v1": (protenix.base_v1(), protenix_table, 4174, 368.48),
    "v2": (protenix.v2(), protenix_table, 4174, 464.44),
    "openfold3": (openfold3.v0_5(), openfold3_table, 4890, 368.29),
}


def network(config: Config) -> AlphaFold3:
    with torch.device("meta"):
        return AlphaFold3(config)


def theirs(config: Config, table: Callable[[Config], Table]) -> dict[str, Tensor]:
    """The checkpoint as its package writes it, without numbers."""
    state = revert(network(config).state_dict(), table(config))
    if table is protenix_table:
        return state
    own = {name: tensor for name, tensor in state.items() if name.startswith("diffusion_module.")}
    repeated = {f"sample_diffusion.{name}": tensor for name, tensor in own.items()}
    return state | repeated | {"version_tensor": torch.tensor([2.0, 0.0, 0.0])}


@pytest.mark.parametrize(("config", "table", "tensors", "millions"), PUBLIC.values(), ids=PUBLIC)
def test_public_models_are_known_by_their_shapes(config: Config, table: Callable[[Config], Table], tensors: int, millions: float) -> None:
    """As many tensors and parameters as published; each is recognised as itself, with its sampling, and fits its network."""
    state = theirs(config, table)
    assert len(state) == tensors
    found = recognise(state)
    assert found.config == config
    expected = network(config)
    assert sum(parameter.numel() for parameter in expected.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert Converted(found.tensors, found.table, expected.state_dict()).keys() == expected.state_dict().keys()


@pytest.mark.parametrize(("config", "table"), [row[:2] for row in PUBLIC.values()], ids=PUBLIC)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_any_size_is_read_from_its_shapes(config: Config, table: Callable[[Config], Table], prefix: str) -> None:
    """A model that nobody published has its own widths and depths, its family's readings and sampling, whatever wraps its names."""
    other = small(config)
    found = recognise({prefix + name: tensor for name, tensor in theirs(other, table).items()}).config
    family = openfold3.v0_5() if table is openfold3_table else protenix.base_v0_5()
    assert found.name in ("protenix", "openfold3") and found.sampling == family.sampling
    unsized = replace(other.msa, subset=family.msa.subset)  # a choice of the comparison, not of the model
    template = found.template if config.template.blocks == 0 else other.template
    assert found == replace(other, name=found.name, sampling=found.sampling, msa=unsized, template=template)


def protenix_state() -> dict[str, Tensor]:
    return theirs(small(protenix.mini_v0_5()), protenix_table)


def openfold3_state() -> dict[str, Tensor]:
    """With numbers, so that copies can be told apart."""
    state = theirs(small(openfold3.v0_5()), openfold3_table)
    return {name: tensor if tensor.device.type == "cpu" else torch.zeros(tensor.shape) for name, tensor in state.items()}


REFUSED: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "constraints": (lambda: protenix_state() | {"constraint_embedder.pocket_z_embedder.weight": torch.zeros(1)}, "base_constraint"),
    "language model": (lambda: protenix_state() | {"input_embedder.linear_esm.weight": torch.zeros(1)}, "mini_esm or protenix_mini_ism"),
    "preview": (
        lambda: {k: v for k, v in openfold3_state().items() if k != "diffusion_module.diffusion_transformer.layer_norm_z.weight"},
        "before 0.5.0",
    ),
    "version": (lambda: openfold3_state() | {"version_tensor": torch.tensor([3.0, 0.0, 0.0])}, r"model version \[3"),
    "copies differ": (lambda: openfold3_state() | {f"{REPEATED}layer_norm_a.weight": torch.ones(64)}, "should repeat"),
    "a copy alone": (lambda: openfold3_state() | {f"{REPEATED}other.weight": torch.ones(64)}, "should repeat"),
    "something else": (lambda: {"layer.weight": torch.zeros(2)}, "neither Protenix nor OpenFold3.*layer.weight"),
    "nothing": (dict, "neither Protenix nor OpenFold3"),
    "no width": (lambda: {k: v for k, v in protenix_state().items() if k != "layernorm_z_cycle.weight"}, "layernorm_z_cycle.weight"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_other_models_are_refused_by_name(make: Callable[[], dict[str, Tensor]], message: str) -> None:
    """What cannot be read is said, with what can be read instead."""
    with pytest.raises(CheckpointError, match=message):
        recognise(make())
