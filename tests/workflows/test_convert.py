"""A public checkpoint on the command line: converted, predicted with, or refused without a trace."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.fidelity_job import small
from structgen.alphafold3 import openfold3, protenix
from structgen.alphafold3.config import Config
from structgen.alphafold3.convert import revert
from structgen.alphafold3.convert_openfold3 import openfold3_table
from structgen.alphafold3.convert_protenix import protenix_table
from structgen.alphafold3.model import AlphaFold3, load_model
from structgen.io.checkpoint import read_checkpoint
from tests.workflows.conftest import Command


def random_network(config: Config) -> AlphaFold3:
    """Small, and with no zero weight, so that a tensor in a wrong place shows."""
    torch.manual_seed(3)
    network = AlphaFold3(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="module")
def mini() -> AlphaFold3:
    return random_network(small(protenix.mini_v0_5()))


@pytest.fixture(scope="module")
def ob() -> AlphaFold3:
    return random_network(small(openfold3.v0_5()))


def protenix_file(network: AlphaFold3) -> dict[str, Any]:
    """As Protenix saves while it trains on several devices."""
    state = revert(network.state_dict(), protenix_table(network.config))
    return {"model": {f"module.{name}": tensor for name, tensor in state.items()}, "optimizer": {}, "step": 5}


def openfold3_file(network: AlphaFold3) -> dict[str, Any]:
    """As Lightning saves while OpenFold3 trains: averaged weights beside those of the last step."""
    state = revert(network.state_dict(), openfold3_table(network.config))
    own = {f"sample_diffusion.{name}": tensor for name, tensor in state.items() if name.startswith("diffusion_module.")}
    averaged = state | own | {"version_tensor": torch.tensor([2.0, 0.0, 0.0])}
    return {"state_dict": {f"model.{name}": tensor + 1 for name, tensor in averaged.items()}, "ema": {"params": averaged, "decay": 0.999}}


def same(found: AlphaFold3, expected: dict[str, Tensor]) -> bool:
    state = found.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_a_protenix_checkpoint_is_converted_and_predicted_with(mini: AlphaFold3, command: Command, tmp_path: Path) -> None:
    """Every number arrives; the header names source, model and sampling; `predict` samples as the model says where the user does not."""
    torch.save(protenix_file(mini), tmp_path / "mini.pt")
    outcome = command("convert", "mini.pt", "mini.safetensors")
    assert outcome.status == 0 and "10 cycles, 200 steps" in outcome.text, outcome.text
    model = load_model("mini.safetensors")
    expected = mini.state_dict() | {"trunk.template.out.weight": torch.zeros_like(mini.trunk.template.out.weight)}
    assert same(model.network, expected)
    _, metadata, _ = read_checkpoint(tmp_path / "mini.safetensors")
    digest = hashlib.sha256((tmp_path / "mini.pt").read_bytes()).hexdigest()
    assert json.loads(metadata["source"]) == {"file": "mini.pt", "model": "protenix", "sha256": digest}
    assert digest in model.card and "Apache-2.0" in model.terms
    (tmp_path / "in.fasta").write_text(">a\nACDEFG\n")
    assert command("predict", "in.fasta", "--model", "mini.safetensors", "--steps", "2", "--samples", "1").status == 0
    settings = json.loads((tmp_path / "runs" / "in" / "run.json").read_text())["settings"]
    assert settings["sampling"] == {**settings["sampling"], "cycles": 10, "last_sigma": "zero", "steps": 2, "samples": 1}


def test_averages_of_an_openfold3_checkpoint_are_converted(ob: AlphaFold3, command: Command, tmp_path: Path) -> None:
    """The averaged weights, each once; the same file twice gives the same bytes."""
    torch.save(openfold3_file(ob), tmp_path / "ob.ckpt")
    for out in ("a.safetensors", "b.safetensors"):
        assert command("convert", "ob.ckpt", out).status == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    model = load_model("a.safetensors")
    assert same(model.network, ob.state_dict()) and model.config.confidence.slots == "present"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layernorm_s.weight"), "missing layernorm_s.weight, left over nothing"),
        (lambda state: state.update({"extra.weight": torch.zeros(2)}), "missing nothing, left over extra.weight"),
        (lambda state: state.update({"layernorm_s.weight": torch.zeros(5)}), r"trunk.s_norm.weight would be \(5,\), not \(48,\)"),
        (lambda state: state.update({"confidence_head.lower_bins": torch.zeros(39)}), "lower_bins begins with 0, 0, 0, 0; expected 3.25"),
        (lambda state: state.update({"constraint_embedder.x": torch.zeros(2)}), "protenix_base_constraint"),
    ],
)
def test_damage_leaves_no_file(change: Any, message: str, mini: AlphaFold3, command: Command, tmp_path: Path) -> None:
    """One line that names the file and the tensors, no traceback, nothing written."""
    state = dict(revert(mini.state_dict(), protenix_table(mini.config)))
    change(state)
    torch.save({"model": state}, tmp_path / "x.pt")
    outcome = command("convert", "x.pt", "x.safetensors")
    assert outcome.status == 3 and outcome.text.startswith("structgen: x.pt: ") and outcome.text.count("\n") == 1
    assert re.search(message, outcome.text), outcome.text
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_wrong_names_are_said(mini: AlphaFold3, command: Command, tmp_path: Path) -> None:
    """A source that is not there, an output without its ending or its folder; a PyTorch file given to predict."""
    torch.save(protenix_file(mini), tmp_path / "mini.pt")
    for arguments, message in (
        (("none.pt", "x.safetensors"), "none.pt: checkpoint cannot be read: No such file"),
        (("mini.pt", "x.bin"), "let its name end in .safetensors"),
        (("mini.pt", "none/x.safetensors"), "cannot be written: No such file"),
    ):
        outcome = command("convert", *arguments)
        assert outcome.status == 3 and message in outcome.text, outcome.text
    (tmp_path / "in.fasta").write_text(">a\nACDEFG\n")
    outcome = command("predict", "in.fasta", "--model", "mini.pt")
    assert outcome.status == 3 and "structgen convert" in outcome.text


def test_half_precision_is_taken_up(mini: AlphaFold3, command: Command, tmp_path: Path) -> None:
    """A file in bfloat16 stays so on the disk and is float32 in the network."""
    state = revert(mini.state_dict(), protenix_table(mini.config))
    torch.save({"model": {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}}, tmp_path / "half.pt")
    assert command("convert", "half.pt", "half.safetensors").status == 0
    assert read_checkpoint(tmp_path / "half.safetensors")[0]["trunk.s_init.weight"].dtype == torch.bfloat16
    assert load_model("half.safetensors").network.trunk.s_init.weight.dtype == torch.float32
