"""A training task that reads an archive: its examples are those of the loader, templates reach the network, held-out chains never."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, save_model
from structgen.configuration import from_mapping
from structgen.data.archive import Archive
from structgen.data.homologs import write_holdout
from structgen.data.loader import examples
from structgen.data.sources import ChainSource
from structgen.data.stream import open_dataset
from structgen.errors import ConfigError
from structgen.features.chains import Holdout
from structgen.generative import generators
from structgen.tasks.structure import StructureTask, StructureTraining
from structgen.tasks.task import Context
from tests.archive import random_chains, write_archive
from tests.data.test_build import build
from tests.data.test_build import folder as folder
from tests.data.test_loader import same
from workflows.train import train
from workflows.training_log import read_rows
from workflows.training_run import read_run, task_settings

REPOSITORY = Path(__file__).parents[2]
TASK = {
    "preset": "tiny",
    "loading": {"batch": 2, "tokens": 24, "buckets": [], "templates": {"slots": 2, "keep": 1.0}},
    "loss": {"noise_levels": 2, "cycles": 1},
    "held_out": {"crops": 1},
}


def test_a_task_trains_on_an_archive(folder: Path, tmp_path: Path):
    """Step by step the loader's examples; the loss is finite and its gradient reaches the part that reads templates."""
    archive = build(tmp_path / "a.zarr", ChainSource(str(folder)))
    task = StructureTask(from_mapping(StructureTraining, TASK), Context(seed=3, data=archive, out=tmp_path))
    settings = from_mapping(StructureTraining, TASK).loading
    assert settings is not None
    wanted = list(islice(examples(Archive(archive), settings, 3), 3))
    assert all(same(task.example(k), example) for k, example in enumerate(wanted))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in task.network.parameters():  # last layers begin at zero, and would let no gradient through
            parameter += 0.05 * torch.randn(parameter.shape)
    value, _ = task.loss(wanted[1], generators(0, 1, first=0)[0])
    value.backward()
    (gradient,) = [p.grad for name, p in task.network.named_parameters() if name.endswith("template.features.weight")]
    assert torch.isfinite(value) and gradient is not None and gradient.abs().sum() > 0
    assert "loss" in task.validate(dict(task.network.state_dict()))


def test_a_model_says_whether_it_saw_templates(folder: Path, tmp_path: Path):
    """Shown some, its configuration has it; shown none, it keeps what it began with."""
    archive = build(tmp_path / "a.zarr", ChainSource(str(folder)))
    untrained = TASK | {"model": {"template": {"trained": False}}}
    for slots, trained in ((2, True), (0, False)):
        changed = untrained | {"loading": {**TASK["loading"], "templates": {"slots": slots}}}  # type: ignore[dict-item]
        task = StructureTask(from_mapping(StructureTraining, changed), Context(seed=3, data=archive, out=tmp_path))
        assert json.loads(task.config())["template"]["trained"] is trained


def test_held_out_chains_are_not_trained_on(tmp_path: Path):
    """A table of a set of chains moves its rows out of training; for an archive it belongs to the build."""
    rng = np.random.default_rng(0)
    path = write_archive(tmp_path / "set", random_chains(rng, 4, 30), rng)
    table = tmp_path / "h.tsv"
    table.write_text(write_holdout([Holdout("train1_A", "homolog", "30-50", "train2_A", 0.4, 1.0)]))
    dataset = open_dataset(path, table)
    assert [dataset.name(unit.entry) for unit in dataset.units("train")] == ["train0_A", "train2_A", "train3_A"]
    (path / "build.json").write_text("{}")
    with pytest.raises(ConfigError, match="build --holdout"):
        open_dataset(path, table)


@pytest.mark.parametrize("name", [pytest.param("train_default", marks=pytest.mark.slow), "train_default_160"])
def test_the_default_models_run_flows(folder: Path, tmp_path: Path, name: str) -> None:
    """Two steps of the configuration that ships, on an archive with relatives and crops of 24 residues: every part that is trained moves,
    the embedder of templates among them; the last phase starts from a model file of the first one's network."""
    archive = build(tmp_path / "a.zarr", ChainSource(str(folder)))
    small = {"batch": 2, "tokens": 24, "buckets": [], "templates": {"keep": 1.0}}
    changes = {"steps": 2, "device": "cpu", "precision": "float32", "loaders": 0, "log_every": 1, "examples_per_step": 1}
    changes["data"] = str(archive)
    changes |= {"task": {"loading": small, "loss": {"noise_levels": 2, "cycles": 2}, "held_out": {"crops": 1}}}
    if name == "train_default_160":
        save_model(AlphaFold3(tiny()), tmp_path / "first.safetensors")
        changes["init"] = str(tmp_path / "first.safetensors")
    run = read_run(REPOSITORY / "configs" / f"{name}.yaml", changes)
    task = task_settings(run)
    assert isinstance(task, StructureTraining) and task.loading is not None and task.loading.templates.slots == 2
    torch.manual_seed(run.seed)
    network = StructureTask(task, Context(run.seed, archive, tmp_path, init=run.init)).network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = train(run, tmp_path / "run")
    moved = [k for k, v in state.network.state_dict().items() if not torch.equal(v, before[k])]
    for part in ("trunk.template.features", "trunk.template.out", "trunk.pairformer", "trunk.msa", "denoiser", "distogram"):
        assert any(k.startswith(part) for k in moved), part
    rows = read_rows(tmp_path / "run" / "log.jsonl")
    assert len([row for row in rows if np.isfinite(row.get("loss", np.nan))]) == 2
    size = sum(p.numel() for p in state.network.parameters())
    assert name != "train_default" or (2 * size < 39e6 and size <= 19.5e6)
