"""Training, sampling and measuring pictures and clips by the command line, tiny."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from structgen.errors import ConfigError
from structgen.pictures.files import read_clip, read_picture, read_set, write_png
from structgen.tasks.batches import Batching, draw_batch
from structgen.tasks.generator import GeneratorTraining
from structgen.tasks.task import Context
from structgen.vision.codec import CodecConfig
from structgen.vision.dit import DiTConfig
from structgen.vision.files import Coded, Text, load, save
from structgen.vision.steering import Steering
from structgen.vision.system import CodecChoice, NetworkChoice, System
from structgen.vision.video_codec import VideoCodecConfig
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.weights import drawn
from tools import gallery
from workflows.cli import app

RUN = CliRunner()
QUICK = {"learning_rate": 0.01, "warmup_steps": 1, "ema": {"decay": 0.5}}
CAPTIONS = ("a slow digit 0 moving up and down", "a fast digit 1 moving diagonally")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of two kinds of pictures and of clips, and models trained on them for a few steps."""
    root = tmp_path_factory.mktemp("pictures")
    rng, labels = np.random.default_rng(0), np.arange(120) % 2
    bars = np.zeros((120, 8, 8), np.uint8)
    bars[labels == 0, 2:4] = 200
    bars[labels == 1, :, 5:7] = 200
    np.savez(root / "bars.npz", images=bars, labels=labels)
    clips = rng.integers(0, 255, (20, 5, 8, 8), np.uint8)
    captions = np.array([CAPTIONS[n % 2] for n in range(20)])
    np.savez(root / "clips.npz", videos=clips, labels=np.arange(20) % 2, captions=captions, velocity=np.ones((20, 2)))
    small = {"channels": 1, "c_latent": 2, "widths": [8, 8], "groups": 4}
    trained(root, "codec", "codec", "bars", {"codec": {"image": small}, "batches": {"size": 8}})
    trained(root, "judge", "judge", "bars", {"widths": [8, 8], "batches": {"size": 16}}, steps=30)
    steering = {"classes": 2, "frequencies": 8}
    dit = {"channels": 2, "patch": [1, 1], "width": 16, "depth": 1, "heads": 2, "steering": steering}
    task = {"codec": str(root / "codec" / "model.safetensors"), "network": {"dit": dit}, "batches": {"size": 8}, "steps": 3}
    trained(root, "bars_made", "generator", "bars", task)
    film = {"codec": {"video": {"frame": small, "halvings": 1}}, "batches": {"size": 4, "frames": 5}}
    trained(root, "clip_codec", "codec", "clips", film)
    towers = {"width": 16, "depth": 1, "heads": 2, "widths": [8, 8], "c_shared": 8}
    trained(root, "text", "text", "clips", {"length": 10, "towers": towers, "batches": {"size": 8, "frames": 5}})
    trained(root, "frame_judge", "judge", "clips", {"widths": [8, 8], "batches": {"size": 16, "frames": 1}})
    mmdit = {"channels": 2, "c_tokens": 16, "patch": [1, 1, 1], "width": 16, "depth": 2, "heads": 2, "steering": {"c_vector": 8}}
    task = {
        "codec": str(root / "clip_codec" / "model.safetensors"), "text": str(root / "text" / "model.safetensors"),
        "network": {"mmdit": mmdit}, "batches": {"size": 4, "frames": 5}, "steps": 3,
    }  # fmt: skip
    trained(root, "clips_made", "generator", "clips", task)
    return root


def trained(root: Path, name: str, kind: str, data: str, task: dict, steps: int = 2) -> None:
    run = {"kind": kind, "steps": steps, "log_every": 1, "checkpoint_every": steps, "task": task, "optimisation": QUICK}
    (root / f"{name}.yaml").write_text(yaml.safe_dump(run))
    command("train", root / f"{name}.yaml", "--data", root / f"{data}.npz", "--out", root / name)


def command(*words: object, status: int = 0) -> str:
    result = RUN.invoke(app, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


def test_one_trainer_makes_all_models(folder: Path):
    """Codec, text encoder, judge and generator of `structgen train`; the generator's file holds the other two whole."""
    model = load(folder / "clips_made" / "model.safetensors", System)
    codec, text = load(folder / "clip_codec" / "model.safetensors", Coded), load(folder / "text" / "model.safetensors", Text)
    assert model.codec is not None and model.clip is not None and model.config.size == (1, 5, 8, 8)
    assert all(torch.equal(value, model.codec.state_dict()[name]) for name, value in codec.codec.state_dict().items())
    assert all(torch.equal(value, model.clip.state_dict()[name]) for name, value in text.clip.state_dict().items())
    rows = [json.loads(line) for line in (folder / "judge" / "log.jsonl").read_text().splitlines()]
    assert [row["validation"]["accuracy"] for row in rows if "validation" in row][-1] > 0.7


def test_pictures_are_drawn_by_label(folder: Path, tmp_path: Path):
    """A file each, a sheet, and the same bytes for the same seed whatever else is drawn."""
    model = folder / "bars_made" / "model.safetensors"
    command("sample", "image", "--model", model, "--out", tmp_path / "a", "--count", 2, "--seed", 5)
    command("sample", "image", "--model", model, "--out", tmp_path / "b", "--label", "0", "--count", 1, "--seed", 5)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "000_0.png", "001_0.png", "002_1.png", "003_1.png", "samples.json", "sheet.png",
    ]  # fmt: skip
    first = read_picture(tmp_path / "a" / "000_0.png", 8, grey=True)
    assert np.abs(first.astype(int) - read_picture(tmp_path / "b" / "000_0.png", 8, grey=True)).max() <= 1
    record = json.loads((tmp_path / "a" / "samples.json").read_text())
    assert record["seed"] == 5 and record["samples"]["003_1.png"] == "1"


def test_clips_are_drawn_by_prompt(folder: Path, tmp_path: Path):
    """GIFs with the model's number of frames."""
    model = folder / "clips_made" / "model.safetensors"
    command("sample", "video", "--model", model, "--out", tmp_path, "--prompt", CAPTIONS[0], "--count", 2, "--steps", 2)
    path = tmp_path / "001_a_slow_digit_0_moving_up_and_down.gif"
    with Image.open(path) as image:
        assert image.n_frames == 5
    assert read_clip(path, 8, frames=5, grey=True).shape == (1, 5, 8, 8)


def test_a_given_picture_is_changed_or_kept(folder: Path, tmp_path: Path):
    """Strength 0 gives what the codec gives back; a black mask keeps all of it, through a sampler."""
    model = folder / "bars_made" / "model.safetensors"
    given = np.full((1, 8, 8), 130, np.uint8)
    write_png(tmp_path / "given.png", given)
    write_png(tmp_path / "mask.png", np.zeros((1, 8, 8), np.uint8))
    options = ("sample", "image", "--model", model, "--label", "1", "--count", 1, "--init", tmp_path / "given.png")
    command(*options, "--strength", 0, "--out", tmp_path / "same")
    command(*options, "--strength", 1, "--out", tmp_path / "new")
    command(*options, "--mask", tmp_path / "mask.png", "--out", tmp_path / "kept")
    same, new, kept = (read_picture(tmp_path / name / "000_1.png", 8, grey=True).astype(int) for name in ("same", "new", "kept"))
    assert np.abs(same - kept).max() <= 1 and np.abs(same - new).max() > 1


def test_a_model_is_measured(folder: Path, tmp_path: Path):
    """Distances, agreement with labels, captions and motion; a sheet; JSON of all figures."""
    out = command(
        "evaluate", "images", "--model", folder / "bars_made" / "model.safetensors", "--judge", folder / "judge" / "model.safetensors",
        "--data", folder / "bars.npz", "--count", 12, "--steps", 2, "--steps", 3, "--out", tmp_path,
    )  # fmt: skip
    assert "| 2 steps |" in out and "| 3 steps |" in out and "through the codec" in out
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert rows["3"]["made"]["frechet"] > 0 and 0 <= rows["3"]["agreement"]["class"] <= 1
    assert (tmp_path / "made_2_steps.png").exists()
    out = command(
        "evaluate", "images", "--model", folder / "clips_made" / "model.safetensors", "--data", folder / "clips.npz",
        "--judge", folder / "frame_judge" / "model.safetensors", "--count", 6, "--steps", 2, "--out", tmp_path,
    )  # fmt: skip
    assert all(word in out for word in ("pace", "direction", "speed_error", "clip_score"))


def test_the_gallery_is_made_by_a_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A section a model; every picture is in the sheet of right ones or in that of wrong ones, under what was asked for."""
    named = [folder / name for name in ("bars.npz", "bars_made/model.safetensors", "judge/model.safetensors")]
    named += [folder / name for name in ("clips.npz", "clips_made/model.safetensors", "frame_judge/model.safetensors")]
    words = ["gallery", *map(str, named), "--out", str(tmp_path), "--count", "6", "--steps", "2"]
    monkeypatch.setattr("sys.argv", words)
    gallery.main()
    page = (tmp_path / "README.md").read_text()
    assert "## bars_made" in page and "6 pictures, 2 steps" in page and "## clips_made" in page
    listed = [line for line in page.splitlines() if line.startswith("In reading order")]
    assert sum(len(line.split(";")) for line in listed[: 1 + ("bars_made_wrong" in page and "bars_made_right" in page)]) == 6
    sheets = {path.name for path in tmp_path.iterdir()} - {"README.md"}
    assert all(f"({name})" in page for name in sheets) and any(name.endswith(".gif") for name in sheets)
    monkeypatch.setattr("sys.argv", [*words[:4], "--out", str(tmp_path), "--count", "5", "--steps", "2"])
    gallery.main()
    before, after = gallery.sections(page), gallery.sections((tmp_path / "README.md").read_text())
    assert list(after) == list(before) and after["clips_made"] == before["clips_made"] and "5 pictures, 2 steps" in after["bars_made"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sample", "video", "--model", "bars_made"), "makes pictures: structgen sample image"),
        (("sample", "image", "--model", "bars_made", "--prompt", "x"), "trained without captions"),
        (("sample", "image", "--model", "bars_made", "--label", "7"), "label '7' is unknown"),
        (("sample", "image", "--model", "bars_made", "--control", "bars.npz"), "has no ControlNet"),
        (("sample", "image", "--model", "bars_made", "--mask", "bars.npz"), "give both"),
        (("sample", "image", "--model", "bars_made", "--steps", "1"), "steps lie in 2 ... 1000"),
        (("sample", "image", "--model", "bars_made", "--init", "bars.npz"), "not a picture"),
        (("sample", "video", "--model", "clips_made", "--label", "0"), "hears captions"),
        (("sample", "image", "--model", "judge"), "holds a Judge; expected a System"),
        (("evaluate", "images", "--model", "bars_made", "--judge", "frame_judge", "--data", "clips.npz"), "holds pictures of"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(words, said, folder: Path, tmp_path: Path):
    """Nothing is written; the status says whose fault it was."""
    named = [folder / word / "model.safetensors" if (folder / word).is_dir() else folder / word for word in words]
    full = [str(path) if path.exists() else word for path, word in zip(named, words, strict=True)]
    result = RUN.invoke(app, [*full, *(("--out", str(tmp_path / "out")) if words[0] == "sample" else ())])
    assert result.exit_code in (2, 3) and said in result.output.replace("\n", "") and not (tmp_path / "out").exists()


def test_latents_on_disk_train_the_same_model(folder: Path, tmp_path: Path):
    """`structgen data encode`, then training on the latents: the bytes of training on pixels. Another codec's are refused."""
    codec = folder / "clip_codec" / "model.safetensors"
    command("data", "encode", folder / "clips.npz", codec, tmp_path / "latents", "--frames", 5)
    run = yaml.safe_load((folder / "clips_made.yaml").read_text())
    run["task"]["batches"] = {"size": 4}
    (tmp_path / "latent.yaml").write_text(yaml.safe_dump(run))
    command("train", tmp_path / "latent.yaml", "--data", tmp_path / "latents", "--out", tmp_path / "run")
    one, other = (load(path / "model.safetensors", System) for path in (folder / "clips_made", tmp_path / "run"))
    assert one.config == other.config
    assert all((value - other.state_dict()[name]).abs().max() < 1e-6 for name, value in one.state_dict().items())
    out = command("data", "encode", folder / "bars.npz", codec, tmp_path / "latents", status=2)
    assert "holds latents of another set, frames" in out
    run["task"]["codec"] = str(folder / "codec" / "model.safetensors")
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(run))
    assert "was encoded by a codec" in command(
        "train", tmp_path / "wrong.yaml", "--data", tmp_path / "latents", "--out", tmp_path / "wrong", status=2
    )
    (tmp_path / "latents" / "parts" / "00000" / "_COMMITTED.json").unlink()
    out = command("train", tmp_path / "latent.yaml", "--data", tmp_path / "latents", "--out", tmp_path / "again", status=2)
    assert "part of an archive is not complete" in out


def test_frames_coded_one_by_one_are_cut_from_the_latents_of_whole_clips(folder: Path, tmp_path: Path):
    """The same as the latents of clips that are cut and turned round; a codec of time allows neither."""
    clips, batches = folder / "clips.npz", Batching(6, frames=3, reverse=True)
    choice = CodecChoice(video=VideoCodecConfig(CodecConfig(1, 2, widths=(8, 8), groups=4), halvings=0))
    save(drawn(Coded(choice)), tmp_path / "frames.safetensors", card="")
    dit = DiTConfig(2, (1, 2, 2), 16, 1, 2, steering=Steering(c_vector=20, frequencies=8))
    settings = GeneratorTraining(NetworkChoice(dit=dit), codec=str(tmp_path / "frames.safetensors"), words=10, batches=batches)
    task, pictures = settings.build(Context(3, clips, tmp_path)), read_set(clips).part(False)
    for place in range(3):
        example, cut = task.example(place), draw_batch(pictures, batches, place, 3)
        assert torch.equal(example.index, cut.index)
        assert_close(example.x, task.system.encoded(cut.x), FLOAT32_LAYER)
    timed = replace(settings, codec=str(folder / "clip_codec" / "model.safetensors"), batches=replace(batches, frames=5))
    with pytest.raises(ConfigError, match="latents are of whole pictures"):
        timed.build(Context(3, clips, tmp_path)).example(0)


def test_a_generator_goes_on_from_another(folder: Path, tmp_path: Path):
    """`init` gives the weights of the start: a step so small that it changes nothing leaves them. Another network is refused."""
    run, made = yaml.safe_load((folder / "bars_made.yaml").read_text()), folder / "bars_made" / "model.safetensors"
    run |= {"steps": 1, "optimisation": QUICK | {"learning_rate": 1e-12}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(run))
    words = ("train", tmp_path / "more.yaml", "--data", folder / "bars.npz", "--init", made, "--out")
    command(*words, tmp_path / "more")
    one, other = (load(path, System) for path in (made, tmp_path / "more" / "model.safetensors"))
    assert all((value - other.state_dict()[name]).abs().max() < 1e-6 for name, value in one.state_dict().items())
    out = command(*words, tmp_path / "other", "--set", "task.network.dit.depth=2", status=2)
    assert "has another network than the run" in out.replace("\n", "")


def test_a_codec_goes_on_from_another(folder: Path, tmp_path: Path):
    """As a generator does; a codec of other sizes is refused."""
    run, made = yaml.safe_load((folder / "codec.yaml").read_text()), folder / "codec" / "model.safetensors"
    run |= {"steps": 1, "optimisation": QUICK | {"learning_rate": 1e-12}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(run))
    words = ("train", tmp_path / "more.yaml", "--data", folder / "bars.npz", "--init", made, "--out")
    command(*words, tmp_path / "more")
    one, other = (load(path, Coded) for path in (made, tmp_path / "more" / "model.safetensors"))
    assert all((value - other.state_dict()[name]).abs().max() < 1e-6 for name, value in one.state_dict().items())
    out = command(*words, tmp_path / "other", "--set", "task.codec.image.c_latent=3", status=2)
    assert "holds another codec than the run" in out.replace("\n", "")


def test_a_controlnet_follows_edges(folder: Path, tmp_path: Path):
    """Trained from a U-Net's file, which it holds unchanged; drawn with --control; asked for where it is missing."""
    steering = {"classes": 2, "frequencies": 8}
    unet = {"c_in": 1, "c_out": 1, "widths": [8, 8], "attend": [False, False], "blocks": 1, "groups": 4, "steering": steering}
    trained(tmp_path, "base", "generator", folder / "bars", {"network": {"unet": unet}, "batches": {"size": 8}, "steps": 3})
    task = {"network": {"controlnet": {"base": unet, "control": {"c_control": 1, "widths": [8]}}}, "batches": {"size": 8}, "steps": 3}
    run = {"kind": "generator", "steps": 2, "log_every": 1, "checkpoint_every": 2, "task": task, "optimisation": QUICK}
    (tmp_path / "control.yaml").write_text(yaml.safe_dump(run))
    words = ("train", tmp_path / "control.yaml", "--data", folder / "bars.npz", "--out")
    assert "name its file" in command(*words, tmp_path / "none", status=2)
    command(*words, tmp_path / "control", "--init", tmp_path / "base" / "model.safetensors")
    base, model = (load(tmp_path / name / "model.safetensors", System) for name in ("base", "control"))
    held = {name.removeprefix("base."): v for name, v in model.network.state_dict().items() if name.startswith("base.")}
    assert all(torch.equal(value, held[name]) for name, value in base.network.state_dict().items())
    write_png(tmp_path / "edges.png", np.full((1, 8, 8), 255, np.uint8))
    draw = ("sample", "image", "--model", tmp_path / "control" / "model.safetensors", "--count", 1, "--out", tmp_path / "out")
    assert "needs --control" in command(*draw, status=2)
    command(*draw, "--control", tmp_path / "edges.png")
    assert (tmp_path / "out" / "001_1.png").exists()
    out = command(
        "evaluate", "images", "--model", tmp_path / "control" / "model.safetensors", "--data", folder / "bars.npz",
        "--judge", folder / "judge" / "model.safetensors", "--count", 6, "--steps", 2,
    )  # fmt: skip
    assert "| edges" in out


def test_the_shipped_model_draws_its_classes(tmp_path: Path):
    """By name, from anywhere: what is asked for is what is seen, trousers are tall and sneakers are wide."""
    labels = ("--label", "trousers", "--label", "sneaker")
    command("sample", "image", "--model", "fashion", *labels, "--count", 2, "--steps", 8, "--out", tmp_path)
    tall, wide = (read_picture(tmp_path / name, 28, grey=True)[0] > 60 for name in ("000_trousers.png", "002_sneaker.png"))
    assert tall.any(1).sum() > 22 > tall.any(0).sum() and wide.any(0).sum() > 22 > wide.any(1).sum()
    assert "label 'hat' is unknown" in command("sample", "image", "--model", "fashion", "--label", "hat", status=2)
