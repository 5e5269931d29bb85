"""Protenix v1 with templates and OpenFold3 0.5.0, as their own packages answered: `benchmarks/fidelity_*.py` recorded some rows.

Weights and features are made anew from names and seeds, and small; docs/fidelity.md has the whole table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.fidelity_job import Given, job, small
from benchmarks.fidelity_parts import wholes
from benchmarks.fidelity_rows import recorded
from benchmarks.protenix_peer import weights
from structgen.alphafold3 import openfold3, protenix
from structgen.alphafold3.config import Config
from structgen.alphafold3.convert import Table, convert, revert
from structgen.alphafold3.convert_openfold3 import openfold3_table
from structgen.alphafold3.convert_protenix import protenix_table
from structgen.alphafold3.model import AlphaFold3
from structgen.errors import CheckpointError
from tests.tolerance import FLOAT32_STACK, assert_close


@dataclass(frozen=True)
class Peer:
    config: Config
    table: Callable[[Config], Table]
    answers: str


@functools.cache
def state(peer: Peer) -> dict[str, Tensor]:
    """The peer's own state dict: random weights by name, and its constants."""
    theirs = revert(empty(peer.config).state_dict(), peer.table(peer.config))
    constants = {name: tensor for name, tensor in theirs.items() if name.endswith("_bins")}
    return weights({name: tuple(tensor.shape) for name, tensor in theirs.items() if name not in constants}) | constants


PEERS = {
    "protenix": Peer(small(protenix.base_v1()), protenix_table, "protenix_v1_answers.safetensors"),
    "openfold3": Peer(small(openfold3.v0_5()), openfold3_table, "openfold3_answers.safetensors"),
}


def empty(config: Config) -> AlphaFold3:
    with torch.device("meta"):
        return AlphaFold3(config).eval()


def answers(peer: Peer, config: Config) -> dict[str, Tensor]:
    """Ours, with the peer's weights read by `config`. Raises `CheckpointError` where they do not fit it."""
    network = empty(config)
    network.load_state_dict(convert(state(peer), peer.table(config), network.state_dict()), assign=True)
    batch = job(templates=2)
    return recorded(wholes(network, batch, Given.draw(config, batch)))


def expected(peer: Peer) -> dict[str, Tensor]:
    return load_file(Path(__file__).with_name(peer.answers))


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_answers_are_the_peers(peer: Peer) -> None:
    """Trunk after two cycles with templates, a denoiser call at two levels, pLDDT, PAE and PDE."""
    ours, theirs = answers(peer, peer.config), expected(peer)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert_close(value, theirs[name], FLOAT32_STACK)


def within(*path: str, **switches: Any) -> Callable[[Any], Any]:
    """The same configuration with switches of one part, at `path`, set otherwise."""

    def change(config: Any) -> Any:
        if not path:
            return replace(config, **switches)
        return replace(config, **{path[0]: within(*path[1:], **switches)(getattr(config, path[0]))})

    return change


WRONG: dict[str, tuple[str, Callable[[Config], Config]]] = {
    "template mean_over": ("protenix", within("template", mean_over="given")),
    "template no_residue": ("protenix", within("template", no_residue="gap")),
    "template slots": ("protenix", within("template", slots=3)),
    "template outer_residual": ("protenix", within("template", outer_residual=True)),
    "O template mean_over": ("openfold3", within("template", mean_over="given")),
    "O template no_residue": ("openfold3", within("template", no_residue="gap_first")),
    "O template end_node_bias": ("openfold3", within("template", "pair", end_node_bias="ki")),
    "O incoming": ("openfold3", within("pairformer", "pair", incoming="a_kj")),
    "O end_node_bias": ("openfold3", within("pairformer", "pair", end_node_bias="ki")),
    "O element_offset": ("openfold3", within("inputs", element_offset=0)),
    "O ref_charge": ("openfold3", within("inputs", ref_charge="raw")),
    "O ref_mask_gate": ("openfold3", within("inputs", ref_mask_gate=True)),
    "O z_init_from": ("openfold3", within(z_init_from="s_init")),
    "O atoms kv_norm": ("openfold3", within("atoms", kv_norm="chained")),
    "O diffusion atoms kv_norm": ("openfold3", within("diffusion", "atoms", kv_norm="chained")),
    "O diffusion atoms key_window": ("openfold3", within("diffusion", "atoms", key_window="centred")),
    "O atoms pair_norm": ("openfold3", within("atoms", pair_norm="per_block")),
    "O diffusion pair_norm": ("openfold3", within("diffusion", pair_norm="per_block")),
    "O relpos": ("openfold3", within("diffusion", relpos="projected")),
    "O opm_eps": ("openfold3", within("msa", opm_eps=1e-8)),
    "O last_update": ("openfold3", within("msa", last_update=True)),
    "O confidence slots": ("openfold3", within("confidence", slots="dictionary")),
    "O confidence row": ("openfold3", within("confidence", row="second")),
    "O pde_symmetry": ("openfold3", within("confidence", pde_symmetry="pair_before_norm")),
    "O head_norm": ("openfold3", within("confidence", head_norm=False)),
    "O distogram bias": ("openfold3", within("distogram", bias=True)),
}


@pytest.mark.parametrize(("name", "change"), WRONG.values(), ids=WRONG)
def test_a_wrong_switch_shows(name: str, change: Callable[[Config], Config]) -> None:
    """Weights are refused, or an answer leaves the tolerance."""
    peer = PEERS[name]
    config = change(peer.config)
    assert config != peer.config
    try:
        ours = answers(peer, config)
    except CheckpointError:
        return
    worst = max(((ours[part] - value).abs().max() / value.abs().max()).item() for part, value in expected(peer).items())
    assert not worst <= FLOAT32_STACK / 2
