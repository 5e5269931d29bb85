"""Weights of Protenix in our names: nothing lost, nothing guessed, and the same outputs.

`protenix_reference.safetensors` holds what a small Protenix with random weights answered (`benchmarks/protenix_reference.py` made it).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from benchmarks import protenix_reference as reference
from benchmarks.protenix_peer import weights
from structgen.alphafold3 import protenix
from structgen.alphafold3.config import Config
from structgen.alphafold3.convert import convert
from structgen.alphafold3.convert_protenix import protenix_table
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.trunk import TrunkOutput
from structgen.errors import CheckpointError
from tests.tolerance import FLOAT32_STACK, assert_close

FILE = Path(__file__).with_name("protenix_reference.safetensors")
DISCARDED = ("confidence_head.lower_bins", "confidence_head.upper_bins", "template_embedder.linear_no_bias_u.weight")


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    """Outputs of Protenix."""
    with safe_open(FILE, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    """The state dict that gave them."""
    with safe_open(FILE, framework="pt") as file:
        shapes = {name: tuple(shape) for name, shape in json.loads(file.metadata()["shapes"]).items()}
    edges = torch.arange(3.25, 52.0, 1.25)
    bins = {"confidence_head.lower_bins": edges, "confidence_head.upper_bins": torch.cat([edges[1:], torch.tensor([1e6])])}
    return weights(shapes) | bins


def empty(config: Config) -> AlphaFold3:
    with torch.device("meta"):
        return AlphaFold3(config).eval()


def network(config: Config, theirs: dict[str, Tensor]) -> AlphaFold3:
    made = empty(config)
    made.load_state_dict(convert(theirs, protenix_table(config), made.state_dict()), assign=True)
    return made


@torch.no_grad()
def answers(model: AlphaFold3, given: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """What Protenix was asked. With `given`, diffusion and confidence start from this trunk."""
    batch, x, rng = reference.batch(), reference.positions(), torch.Generator().manual_seed(0)
    trunk = model.trunk(batch, cycles=reference.CYCLES, rng=rng)
    seen = trunk if given is None else TrunkOutput(*(given[name][None] for name in ("s_inputs", "s", "z")))
    level = torch.tensor(reference.LEVELS)
    denoised = model.denoiser(x, level, level, model.diffusion.condition(batch, seen)).data
    logits = model.confidence(batch, seen, x[1:], None)
    heads = {name: getattr(logits, name)[0] for name in ("plddt", "pae", "pde", "resolved")}
    tokens = {name: getattr(trunk, name)[0] for name in ("s_inputs", "s", "z")}
    return {**tokens, "distogram": model.distogram(seen.z)[0], "denoised": denoised, **heads}


def test_every_part_answers_as_protenix_does(theirs: dict[str, Tensor], recorded: dict[str, Tensor]) -> None:
    """Trunk after two cycles, distogram, denoised positions at two noise levels and all confidence logits agree."""
    ours = answers(network(reference.config(), theirs), recorded)
    assert ours.keys() == recorded.keys()
    for name, value in ours.items():
        assert_close(value, recorded[name], FLOAT32_STACK)


def with_inputs(**switches: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, inputs=replace(config.inputs, **switches))


def with_atoms(**switches: Any) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        diffusion = replace(config.diffusion, atoms=replace(config.diffusion.atoms, **switches))
        return replace(config, atoms=replace(config.atoms, **switches), diffusion=diffusion)

    return change


def with_confidence(**switches: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, confidence=replace(config.confidence, **switches))


def with_end_node(bias: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, pairformer=replace(config.pairformer, pair=replace(config.pairformer.pair, end_node_bias=bias)))


def with_msa(**switches: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, msa=replace(config.msa, **switches))


WRONG: dict[str, Callable[[Config], Config]] = {
    "element_offset": with_inputs(element_offset=0),
    "ref_charge": with_inputs(ref_charge="raw"),
    "ref_mask_gate": with_inputs(ref_mask_gate=False),
    "relpos_chain": with_inputs(relpos_chain="not_same_chain"),
    "kv_norm": with_atoms(kv_norm="separate"),
    "q_init": with_atoms(q_init="before"),
    "key_window": with_atoms(key_window="shifted"),
    "end_node_bias": with_end_node("ik"),
    "msa_residual": with_msa(outer_residual=True),
    "row": with_confidence(row="first"),
    "pde_symmetry": with_confidence(pde_symmetry="logits_after"),
    "confidence_residual": with_confidence(outer_residual=True),
    "last_bin": with_confidence(last_bin=51.0),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_switch_shows(change: Callable[[Config], Config], theirs: dict[str, Tensor], recorded: dict[str, Tensor]) -> None:
    """No switch that leaves the shapes alone can be set wrongly and pass: weights are refused, or an output moves past the tolerance."""
    try:
        ours = answers(network(change(reference.config()), theirs), recorded)
    except CheckpointError:
        return
    worst = max(((ours[name] - value).abs().max() / value.abs().max().clamp(min=1)).item() for name, value in recorded.items())
    assert worst > 10 * FLOAT32_STACK


def test_every_number_is_used_once(theirs: dict[str, Tensor]) -> None:
    """Our tensors hold exactly the numbers of theirs, but for bin edges and the template embedder that has no blocks."""
    config = reference.config()
    ours = convert(theirs, protenix_table(config), empty(config).state_dict())
    kept = torch.cat([tensor.flatten() for name, tensor in theirs.items() if name not in DISCARDED])
    ours.pop("trunk.template.out.weight")
    assert torch.equal(torch.cat([tensor.flatten() for tensor in ours.values()]).sort().values, kept.sort().values)


@pytest.mark.parametrize(
    ("config", "millions"),
    [(protenix.tiny_v0_5(), 109.50), (protenix.mini_v0_5(), 134.07), (protenix.base_v0_5(), 368.09), (protenix.base_v1(), 368.48)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_presets_have_the_published_sizes(config: Config, millions: float) -> None:
    """The numbers of parameters that Protenix states for its models."""
    total = sum(parameter.numel() for parameter in empty(config).parameters())
    assert total / 1e6 == pytest.approx(millions, abs=0.01)


def dropped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name != "linear_no_bias_sinit.weight"}


def added(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "linear_esm.weight": torch.zeros(2, 2)}


def turned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "linear_no_bias_sinit.weight": state["linear_no_bias_sinit.weight"].T.contiguous()}


def unequal(state: dict[str, Tensor]) -> dict[str, Tensor]:
    name = "pairformer_stack.blocks.0.tri_mul_out.linear_a_p.weight"
    return {**state, name: state[name][:, 1:]}


def moved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "confidence_head.lower_bins": state["confidence_head.lower_bins"] + 0.1}


@pytest.mark.parametrize(
    ("damage", "named"),
    [(dropped, "linear_no_bias_sinit"), (added, "linear_esm"), (turned, "s_init"), (unequal, "linear_a_p"), (moved, "bins")],
)
def test_damage_is_named(damage: Callable[[dict[str, Tensor]], dict[str, Tensor]], named: str, theirs: dict[str, Tensor]) -> None:
    """A tensor that is missing, unknown, of a wrong shape or of a wrong constant stops the conversion and is named."""
    config = reference.config()
    with pytest.raises(CheckpointError, match=named):
        convert(damage(theirs), protenix_table(config), empty(config).state_dict())


def test_a_wrong_table_is_refused(theirs: dict[str, Tensor]) -> None:
    """Reading a tensor twice, or making one of ours twice, is a mistake of the table and not silent."""
    config = reference.config()
    table = protenix_table(config)
    with pytest.raises(CheckpointError, match="more than once"):
        convert(theirs, (*table, table[0]), empty(config).state_dict())
