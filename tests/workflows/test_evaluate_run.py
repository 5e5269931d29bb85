"""A run beside its truth: what was predicted, taken as the truth in another frame and order of chains, is perfect."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import gemmi
import numpy as np
import pytest

from structgen.metrics.backbone import score_backbone
from structgen.settings import merge
from tests.archive import random_chains, write_archive
from tests.workflows.conftest import Command
from workflows.train import train
from workflows.training_run import TrainingRun

PROTEIN = {"protein": {"id": ["A", "B"], "sequence": "ACDEFGHIKLMN"}}
DIMER = {"name": "dimer", "modelSeeds": [1], "dialect": "alphafold3", "version": 1, "sequences": [PROTEIN]}


def make_compact(path: Path) -> None:
    """Shrink a structure of random weights, whose atoms are far apart, to the size of a protein."""
    document = gemmi.cif.read(str(path))
    table = document.sole_block().find("_atom_site.", ["Cartn_x", "Cartn_y", "Cartn_z"])
    positions = np.array([[float(value) for value in row] for row in table])
    for row, position in zip(table, 6 * (positions - positions.mean(0)) / positions.std(), strict=True):
        for k in range(3):
            row[k] = f"{position[k]:.3f}"
    document.write_file(str(path))


def test_a_prediction_is_perfect_beside_itself(command: Command, tmp_path: Path) -> None:
    """Two equal chains, the second sample as truth, turned and with its chains in the other order: all scores of that sample are those of
    identity, DockQ among them, and the tables agree; a job without a truth is named."""
    (tmp_path / "dimer.json").write_text(json.dumps(DIMER))
    assert command("predict", tmp_path / "dimer.json", "--out", tmp_path / "run", "--samples", 2, "--steps", 2, "--cycles", 1).status == 0
    for path in (tmp_path / "run" / "dimer").glob("seed-*_sample-*/*_model.cif"):
        make_compact(path)
    written = next((tmp_path / "run" / "dimer").glob("seed-*_sample-1/*_model.cif"))
    structure = gemmi.read_structure(str(written))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    for chain in structure[0]:
        for residue in chain:
            for atom in residue:
                atom.pos = gemmi.Position(*(turn @ atom.pos.tolist() + 10))
    first, second = (structure[0][k].clone() for k in range(2))
    for _ in range(2):
        structure[0].remove_chain(structure[0][0].name)
    first.name, second.name = "B", "A"
    for chain in (second, first):
        structure[0].add_chain(chain)
    (tmp_path / "truth").mkdir()
    structure.make_mmcif_document().write_file(str(tmp_path / "truth" / "dimer.cif"))
    done = command("evaluate", tmp_path / "run", "--truth", tmp_path / "truth")
    assert done.status == 0 and "## As predicted: 1 targets" in done.text
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "evaluation" / "rows.jsonl").read_text().splitlines()[1:]]
    samples = row["predictions"]["as predicted"]["samples"]
    own = next(one for one in samples if one["sample"].endswith("sample-1"))
    assert own["lddt"] == own["lddt_all_atom"] == 1 and own["tm"] == pytest.approx(1, abs=1e-3) and own["rmsd"] < 2e-3
    assert own["dockq"] == pytest.approx(1, abs=1e-3) and own["interfaces"]["A-B"]["fnat"] == 1
    assert own["pae_error"] < 0.01 < own["pae"] and 0 < row["baselines"]["helix"]["lddt"] < 1
    found = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())["evidence"]["as predicted"]
    assert found["chains"] == 1 and found["accuracy"]["best sample"]["dockq"][0] == pytest.approx(1, abs=1e-3)
    table = list(csv.DictReader((tmp_path / "run" / "evaluation" / "evaluation.csv").open()))
    assert [line["sample"] for line in table] == [one["sample"] for one in samples]
    assert "| DockQ |" in (tmp_path / "run" / "evaluation" / "evaluation.md").read_text()
    assert (tmp_path / "run" / "evaluation" / "calibration.png").exists()
    rng = np.random.default_rng(0)
    archive = write_archive(tmp_path / "chains", random_chains(rng, 3, 16), rng)
    done = command("evaluate", tmp_path / "run", "--truth", tmp_path / "truth", "--chains", archive, "--out", "beside")
    assert done.status == 0 and "random training chain" in done.text
    shutil.move(tmp_path / "truth" / "dimer.cif", tmp_path / "truth" / "other.cif")
    assert command("evaluate", tmp_path / "run", "--truth", tmp_path / "truth").status == 2


def test_backbones_are_learnt_and_drawn(command: Command, tmp_path: Path) -> None:
    """A few steps without sequences, then two backbones of a length: files of glycines, scores of each, the same for the same seed."""
    rng = np.random.default_rng(0)
    archive = write_archive(tmp_path / "chains", random_chains(rng, 3, 16), rng)
    task = {"preset": "tiny", "crops": {"tokens": 14}, "loss": {"noise_levels": 2, "cycles": 1}}
    run = TrainingRun(kind="backbone", steps=2, device="cpu", data=str(archive), task=merge(task, {}))
    state = train(run, tmp_path / "run")
    assert state.step == 2
    model = tmp_path / "run" / "model.safetensors"
    for folder in ("one", "two"):
        done = command("sample", "backbone", "--model", model, "--length", 15, "-n", 2, "--chains", archive, "--out", tmp_path / folder)
        assert done.status == 0 and "2 backbones of 15 residues" in done.text
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["backbone_0.pdb", "backbone_1.pdb", "backbones.json"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    residues = gemmi.read_structure(str(tmp_path / "one" / "backbone_0.pdb"))[0][0]
    assert [residue.name for residue in residues] == ["GLY"] * 15
    atoms = np.array([[residue[name][0].pos.tolist() for name in ("N", "CA", "C")] for residue in residues])
    found = json.loads((tmp_path / "one" / "backbones.json").read_text())
    assert found["backbones"][0]["helix"] == pytest.approx(score_backbone(atoms).helix)
    assert 0 < found["backbones"][0]["nearest_tm"] <= 1 and found["mean"].keys() > {"bonds", "strand", "tm_between_samples"}
