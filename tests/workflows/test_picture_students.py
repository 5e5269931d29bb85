"""Distillation of generators of pictures and of clips by `structgen distill`, from training to drawing, tiny."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from structgen.vision.files import load
from structgen.vision.formulations import Student
from structgen.vision.system import System
from tests.workflows.test_pictures import CAPTIONS, QUICK, command, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars of two classes and clips with captions, and generators of their pixels; that of clips hears words and predicts data."""
    root, rng, labels = tmp_path_factory.mktemp("students"), np.random.default_rng(0), np.arange(40) % 2
    bars = np.zeros((40, 8, 8), np.uint8)
    bars[labels == 0, 2:4] = 200
    bars[labels == 1, :, 5:7] = 200
    np.savez(root / "bars.npz", images=bars, labels=labels)
    clips = rng.integers(0, 255, (20, 6, 8, 8), np.uint8)
    np.savez(root / "clips.npz", videos=clips, labels=np.arange(20) % 2, captions=np.array([CAPTIONS[n % 2] for n in range(20)]))
    small = {"channels": 1, "width": 16, "depth": 1, "heads": 2}
    network = {"dit": small | {"patch": [4, 4], "steering": {"classes": 2, "frequencies": 8}}}
    trained(root, "bars_made", "generator", "bars", {"network": network, "batches": {"size": 8}})
    words = len({word for caption in CAPTIONS for word in caption.split()}) + 4
    network = {"dit": small | {"patch": [5, 4, 4], "steering": {"c_vector": words, "frequencies": 8}}}
    batches = {"size": 4, "frames": 5, "reverse": True}
    trained(root, "clips_made", "generator", "clips", {"network": network, "words": 10, "trajectory": "x/rf", "batches": batches})
    return root


def student(folder: Path, out: Path, data: str, to: int, batches: dict, **terms: object) -> Path:
    """The folder of the rounds."""
    run = {"kind": "generator", "steps": 2, "log_every": 1, "checkpoint_every": 2, "optimisation": QUICK}
    run["task"] = {"distillation": terms, "batches": batches, "held_out": 4}
    (out / "few.yaml").write_text(yaml.safe_dump(run))
    command(
        "distill", out / "few.yaml", "--data", folder / f"{data}.npz", "--init", folder / f"{data}_made" / "model.safetensors",
        "--out", out / "few", "--to", to,
    )  # fmt: skip
    return out / "few"


def test_rounds_lead_to_an_image_student_of_one_step(folder: Path, tmp_path: Path) -> None:
    """4 steps to 2 to 1 from a teacher with guidance; each file says how it is sampled, and one step draws."""
    rounds = student(folder, tmp_path, "bars", 1, {"size": 8}, teacher_steps=4)
    models = [load(rounds / name / "model.safetensors", System) for name in ("4-to-2", "2-to-1")]
    assert [model.config.steps for model in models] == [2, 1] and {model.config.student for model in models} == {Student.PROGRESSIVE}
    assert json.loads((rounds / "2-to-1" / "run.json").read_text())["init"].endswith("4-to-2/model.safetensors")
    assert "validation" in (rounds / "2-to-1" / "log.jsonl").read_text()
    out = tmp_path / "drawn"
    command("sample", "image", "--model", rounds / "2-to-1" / "model.safetensors", "--label", "1", "--count", 2, "--out", out)
    record = json.loads((out / "samples.json").read_text())
    assert record["steps"] == 1 and record["guidance"] == 1.0 and (out / "001_1.png").exists()


@pytest.mark.parametrize("method", ["consistency", "mean-flow"])
def test_a_video_student_draws_from_captions(folder: Path, tmp_path: Path, method: str) -> None:
    """One round; the student hears the words that its teacher heard."""
    model = student(folder, tmp_path, "clips", 1, {"size": 4, "frames": 5}, method=method, student_steps=1) / method / "model.safetensors"
    assert load(model, System).config.words is not None
    command("sample", "video", "--model", model, "--prompt", CAPTIONS[1], "--count", 1, "--out", tmp_path / "drawn")
    assert (tmp_path / "drawn" / "000_a_fast_digit_1_moving_diagonally.gif").exists()


def test_captions_are_heard_word_by_word(folder: Path) -> None:
    """One-hot words, how often each occurs in the whole, and none for padding; an unknown word is one of its own."""
    system = load(folder / "clips_made" / "model.safetensors", System)
    assert system.hears_captions and system.config.words is not None
    cond = system.condition(captions=["a slow digit", "a digit digit walks"])
    assert cond.tokens is not None and cond.vector is not None and cond.mask is not None
    assert cond.mask.sum(1).tolist() == [5, 6] and torch.equal(cond.vector.sum(1), torch.tensor([5.0, 6.0]))
    digit = system.config.words.words.index("digit") + 4
    assert cond.vector[:, digit].tolist() == [1, 2] and cond.vector[1, 3] == 1


def test_a_student_needs_a_fitting_teacher(folder: Path, tmp_path: Path) -> None:
    """No teacher, one of other pictures, and a run that teaches nothing."""
    run = {"kind": "generator", "steps": 1, "task": {"distillation": {}, "batches": {"size": 4}}}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(run))
    words = ("distill", tmp_path / "few.yaml", "--out", tmp_path / "out", "--to", 4, "--data", folder / "bars.npz")
    assert "a student needs a teacher" in command(*words, status=2)
    other = ("--init", folder / "clips_made" / "model.safetensors", "--out", tmp_path / "other")
    assert "makes pictures of (1, 5, 8, 8)" in command(*words, *other, status=2)
    run["task"] = {"batches": {"size": 4}}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(run))
    assert "with task.distillation" in command(*words, status=2).replace("\n", " ")
