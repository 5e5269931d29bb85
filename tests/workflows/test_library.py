"""Predictions with a structure library: named, the model's own, or none; what was used stands in the summary."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, load_model, save_model
from structgen.errors import CheckpointError
from tests.search.test_templates import STRUCTURES
from tests.workflows.conftest import Command, results
from tests.workflows.test_templates import FAST, QUERY, fasta


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network that takes templates, and names a library beside it."""
    torch.manual_seed(0)
    network = AlphaFold3(replace(tiny(), name="small-with-library"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    (tmp_path / "models").mkdir()
    save_model(network, tmp_path / "models" / "m.safetensors", library="own.library")
    return tmp_path / "models" / "m.safetensors"


def test_the_models_library_is_searched_where_none_is_named(command: Command, tmp_path: Path, model: Path):
    """The library is made from a folder; by default and by name it gives the same bytes, none gives others, and the summary says it."""
    made = command("data", "library", STRUCTURES, model.parent / "own.library")
    assert made.status == 0 and "2 chains" in made.text
    shutil.copyfile(model.parent / "own.library", tmp_path / "elsewhere.library")
    fasta(tmp_path / "a.fasta", QUERY)
    words = ("predict", "a.fasta", *FAST, "--model", model)
    assert command(*words, "--out", "default").status == 0
    assert command(*words, "--out", "named", "--templates", "elsewhere.library").status == 0
    assert command(*words, "--out", "none", "--templates", "none").status == 0
    files = {name: results(tmp_path / name) for name in ("default", "named", "none")}
    cif = "first/first_model.cif"
    assert files["default"][cif] == files["named"][cif] != files["none"][cif]
    summaries = {name: json.loads(found["first/first_summary_confidences.json"]) for name, found in files.items()}
    (used,) = summaries["default"]["templates"]["A"]
    assert used["file"] == "1dul.cif.gz" and used["chain"] == "A" and used["identity"] > 0.9 and used["coverage"] > 0.9
    assert "templates" not in summaries["none"]


def test_a_model_is_exported_with_its_library(command: Command, tmp_path: Path, model: Path):
    """The library goes beside the weights and is what predictions search; a model that takes no templates is refused one."""
    assert command("data", "library", STRUCTURES, tmp_path / "made.library").status == 0
    torch.manual_seed(0)
    for name, trained in (("with", True), ("without", False)):
        config = replace(tiny(), name=name, template=replace(tiny().template, trained=trained))
        save_model(AlphaFold3(config), tmp_path / f"{name}.safetensors")
    (tmp_path / "shipped").mkdir()
    words = ("--library", "made.library")
    assert command("export", "with.safetensors", "shipped/m.safetensors", *words).status == 0
    exported = load_model(str(tmp_path / "shipped" / "m.safetensors"))
    assert exported.library == tmp_path / "shipped" / "made.library" and exported.library.is_file()
    refused = command("export", "without.safetensors", "shipped/n.safetensors", *words)
    assert refused.status == 2 and "without was trained without templates" in refused.text
    assert "not a structure library" in command("export", "with.safetensors", "shipped/n.safetensors", "--library", "with.safetensors").text


def test_a_model_whose_library_is_gone_is_told(model: Path):
    """The file is named, with where it has to be."""
    with pytest.raises(CheckpointError, match=r"own\.library is not beside it"):
        load_model(str(model))
