"""Cascades by the command line: stages trained by the one trainer, drawn from by one command, tiny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from structgen.pictures.files import read_clip
from workflows.cli import app

RUN = CliRunner()
QUICK = {"learning_rate": 0.01, "warmup_steps": 1, "ema": {"decay": 0.5}}
STAGES = {
    "base": {"reduced": {"space": 2, "time": 2}},
    "time": {"reduced": {"space": 2}, "lower": {"scale": {"time": 2}}},
    "space": {"lower": {"scale": {"space": 2}}},
}


def command(*words: object, status: int = 0) -> str:
    result = RUN.invoke(app, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stages that were trained for two steps, and the file that names them."""
    root = tmp_path_factory.mktemp("cascade")
    clips = np.random.default_rng(0).integers(0, 255, (20, 4, 8, 8), np.uint8)
    np.savez(root / "clips.npz", videos=clips, labels=np.arange(20) % 2, captions=np.array(["a", "b"] * 10))
    for name, stage in STAGES.items():
        steering = {"classes": 2, "frequencies": 8, "level": "lower" in stage}
        frame = {"c_in": 1, "c_out": 1, "widths": [8], "attend": [False], "blocks": 1, "groups": 4, "steering": steering, "head_width": 8}
        network = {"video_unet": {"frame": frame | {"c_image": int("lower" in stage)}}}
        task = {"network": network, "batches": {"size": 4}, "steps": 3, **stage}
        run = {"kind": "generator", "steps": 2, "log_every": 1, "checkpoint_every": 2, "task": task, "optimisation": QUICK}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(run))
        command("train", root / f"{name}.yaml", "--data", root / "clips.npz", "--out", root / name)
    models = [str(root / name / "model.safetensors") for name in STAGES]
    (root / "all.yaml").write_text(yaml.safe_dump({"stages": models}))
    (root / "wrong.yaml").write_text(yaml.safe_dump({"stages": models[::2]}))
    return root


def test_a_cascade_is_drawn_by_one_command(folder: Path, tmp_path: Path):
    """The file of a cascade in place of a model: whole clips, a sheet a stage; and the last stage alone, given what it enlarges."""
    out = command("sample", "video", "--model", folder / "all.yaml", "--label", "1", "--count", 2, "--seed", 3, "--out", tmp_path / "a")
    assert "2 files" in out
    sizes = {}
    for name in ("sheet_stage1", "sheet_stage2", "sheet"):
        with Image.open(tmp_path / "a" / f"{name}.gif") as image:
            sizes[name] = (image.n_frames, image.size[1])
    assert sizes == {"sheet_stage1": (2, 4 * 3 + 4), "sheet_stage2": (4, 4 * 3 + 4), "sheet": (4, 8 * 3 + 4)}
    assert read_clip(tmp_path / "a" / "001_1.gif", 8, frames=4, grey=True).shape == (1, 4, 8, 8)
    last = ("sample", "video", "--model", folder / "space" / "model.safetensors", "--label", "1", "--count", 1, "--out", tmp_path / "b")
    assert "enlarges: give --init" in command(*last, status=2)
    command(*last, "--init", tmp_path / "a" / "000_1.gif")
    assert (tmp_path / "b" / "000_1.gif").exists()


def test_stages_that_do_not_fit_are_refused(folder: Path, tmp_path: Path):
    """In one sentence that names the sizes."""
    out = command("sample", "video", "--model", folder / "wrong.yaml", "--out", tmp_path, status=2)
    assert "is given (1, 4, 4, 4), and the stage before it makes (1, 2, 4, 4)" in out.replace("\n", " ").replace("  ", " ")
