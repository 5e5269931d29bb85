"""A training task that reads an archive: its examples are those of the loader, templates reach the network, held-out chains never."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.configuration import from_mapping
from structgen.data.archive import Archive
from structgen.data.loader import examples
from structgen.data.stream import open_dataset
from structgen.errors import ConfigError
from structgen.features.chains import Holdout
from structgen.generative import generators
from structgen.data.homologs import write_holdout
from structgen.tasks.structure import StructureTask, StructureTraining
from structgen.tasks.task import Context
from tests.archive import random_chains, write_archive
from tests.data.test_build import build
from tests.data.test_build import folder as folder
from tests.data.test_loader import same
from structgen.data.sources import ChainSource

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
    settings = task.settings.loading
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
