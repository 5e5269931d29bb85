"""unCLIP by the command line, tiny: both priors, a decoder and a stage that enlarges; prompts, pictures between and text diffs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from structgen.pictures.files import read_picture, read_set, write_png
from structgen.vision.code_prior import CodePrior
from structgen.vision.files import load, save
from structgen.vision.system import System
from tests.vision.weights import drawn
from tests.workflows.conftest import REPOSITORY
from workflows.cli import app

pytestmark = pytest.mark.slow  # eight trainings: three quarters of a minute

RUN = CliRunner()
DATA = REPOSITORY / "data" / "pictures" / "emoji_120.npz"
QUICK = {"learning_rate": 0.01, "warmup_steps": 1, "ema": {"decay": 0.5}}
PROMPTS = ("--prompt", "a red heart", "--prompt", "flag: Algeria")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All parts, trained for a few steps, and the files that put them together."""
    root = tmp_path_factory.mktemp("unclip")
    towers = {"width": 16, "depth": 1, "heads": 2, "widths": [8, 8], "c_shared": 8}
    trained(root, "text", "text", {"length": 8, "towers": towers, "batches": {"size": 8}})
    text, transformer = str(root / "text" / "model.safetensors"), {"width": 16, "depth": 1, "heads": 2}
    prior = {"prior": {"c_embedding": 8, "c_tokens": 16, "length": 8, "transformer": transformer, "frequencies": 8}}
    task = {"codec": text, "text": text, "network": prior, "trajectory": "x/cos", "density": "own", "steps": 4, "guidance": 1.0}
    trained(root, "prior", "generator", task | {"batches": {"size": 8}})
    trained(root, "codes", "code_prior", {"text": text, "axes": 4, "buckets": 8, "transformer": transformer, "size": 8})
    unet = {"c_in": 3, "c_out": 3, "widths": [8, 8], "attend": [False, True], "blocks": 1, "head_width": 8, "groups": 4}
    shown = {"unet": unet | {"c_tokens": 16, "steering": {"c_vector": 8, "frequencies": 8}}}
    task = {"text": text, "vector": "picture", "reduced": {"space": 4}, "network": shown, "drop_words": 0.5, "steps": 4}
    trained(root, "decoder", "generator", task | {"batches": {"size": 8}})
    model = load(root / "decoder" / "model.safetensors", System)
    drawn(model.network)
    model.network.steer.vector.first.weight.mul_(10)  # pictures of a new CLIP have nearly equal embeddings
    save(model, root / "decoder" / "model.safetensors", card="of weights that hear everything")
    larger = {"unet": unet | {"c_image": 3, "steering": {"level": True, "frequencies": 8}}}
    task = {"reduced": {"space": 2}, "lower": {"scale": {"space": 2}}, "network": larger, "steps": 3, "guidance": 1.0}
    trained(root, "larger", "generator", task | {"batches": {"size": 8}})
    strange = load(root / "codes" / "model.safetensors", CodePrior)
    strange.clip.log_scale += 1
    (root / "strange").mkdir()
    save(strange, root / "strange" / "model.safetensors", card="of another CLIP")
    for kind in ("prior", "codes", "text", "strange"):
        names = {"stages": [file_of(root, "decoder"), file_of(root, "larger")], "prior": file_of(root, kind)}
        (root / f"by_{kind}.yaml").write_text(yaml.safe_dump(names))
    emoji = read_set(DATA)
    for n in (3, 40):
        write_png(root / f"{n}.png", emoji.pixels[n])
    return root


def file_of(root: Path, name: str) -> str:
    return str(root / name / "model.safetensors")


def trained(root: Path, name: str, kind: str, task: dict, steps: int = 2) -> None:
    run = {"kind": kind, "steps": steps, "log_every": 1, "checkpoint_every": steps, "task": task, "optimisation": QUICK}
    (root / f"{name}.yaml").write_text(yaml.safe_dump(run))
    command("train", root / f"{name}.yaml", "--data", DATA, "--out", root / name)


def command(*words: object, status: int = 0) -> str:
    result = RUN.invoke(app, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


def pictures(folder: Path) -> list[np.ndarray]:
    return [read_picture(path, 16).astype(int) for path in sorted(folder.glob("0*.png"))]


def test_one_trainer_makes_all_parts(folder: Path):
    """The decoder holds the CLIP whole, the diffusion prior its picture half and the scale of embeddings; held-out codes are measured."""
    decoder, prior, codes = (load(folder / name / "model.safetensors", torch.nn.Module) for name in ("decoder", "prior", "codes"))
    assert isinstance(decoder, System) and isinstance(prior, System) and isinstance(codes, CodePrior)
    assert all(torch.equal(value, decoder.clip.state_dict()[name]) for name, value in codes.clip.state_dict().items())
    shown = torch.randn(4, 3, 32, 32)
    of_clip = codes.clip.pictures(shown)
    assert (prior.decoded(prior.encoded(shown)) - of_clip).abs().max() < 1e-5 and prior.codec.scale.std() > 0
    rows = [json.loads(line) for line in (folder / "codes" / "log.jsonl").read_text().splitlines()]
    assert {"nll", "unigram"} <= next(set(row["validation"]) for row in rows if "validation" in row)


@pytest.mark.parametrize("prior", ["prior", "codes"])
def test_pictures_are_drawn_by_prompt_with_either_prior(prior: str, folder: Path, tmp_path: Path):
    """The last stage's size, a sheet a stage, the same picture for the same seed whatever else is drawn, another one for another prompt."""
    options = ("sample", "image", "--model", folder / f"by_{prior}.yaml", "--seed", 3)
    command(*options, *PROMPTS, "--count", 2, "--out", tmp_path / "a")
    command(*options, *PROMPTS[:2], "--count", 1, "--out", tmp_path / "b")
    made, alone = pictures(tmp_path / "a"), pictures(tmp_path / "b")
    assert len(made) == 4 and made[0].shape == (3, 16, 16) and (tmp_path / "a" / "sheet_stage1.png").exists()
    assert np.abs(made[0] - alone[0]).max() <= 1 and np.abs(made[0] - made[1]).max() > 1


def test_pictures_between_two_and_text_diffs_are_drawn(folder: Path, tmp_path: Path):
    """As many as asked for, named by their share of the way; the ends of an arc are the decoder's pictures of its ends; the first of a
    diff is the picture that was given, up to the error of its inversion."""
    options = ("sample", "image", "--model", folder / "by_prior.yaml", "--seed", 3, "--count", 3)
    ends = (folder / "3.png", folder / "40.png")
    command(*options, "--between", *ends, "--out", tmp_path / "there")
    command(*options, "--between", *ends[::-1], "--out", tmp_path / "back")
    there, back = pictures(tmp_path / "there"), pictures(tmp_path / "back")
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(there, back[::-1], strict=True))
    assert (there[0] != there[2]).any()
    words = ("--diff", "a red heart", "a flag", "--init", ends[0], "--steps", 30, "--guidance", 1)
    command(*options, *words, "--out", tmp_path / "diff")
    changed = pictures(tmp_path / "diff")
    assert np.abs(changed[0] - read_picture(ends[0], 16)).mean() < 4 and (changed[0] != changed[2]).any()
    assert (tmp_path / "diff" / "002_0_70_of_the_way_from_a_red_heart_to_a_fl.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "by_text.yaml", "--prompt", "x"), "holds a Text; expected a prior"),
        (("--model", "by_strange.yaml", "--prompt", "x"), "were trained with different CLIPs"),
        (("--model", "decoder/model.safetensors", "--prompt", "x"), "name it with a prior in the file of a cascade"),
        (("--model", "larger/model.safetensors", "--between", "3.png", "40.png"), "train its first stage with task.vector: picture"),
        (("--model", "by_prior.yaml", "--diff", "a", "b"), "give both"),
        (("--model", "by_prior.yaml", "--between", "3.png", "40.png", "--prompt", "x"), "leave the others out"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(words, said, folder: Path, tmp_path: Path):
    """Nothing is written."""
    full = [str(folder / word) if (folder / word).is_file() else word for word in words]
    result = RUN.invoke(app, ["sample", "image", *full, "--out", str(tmp_path / "out")])
    assert result.exit_code in (2, 3) and said in result.output.replace("\n", "") and not (tmp_path / "out").exists()


def test_embeddings_of_pieces_are_not_trained_on(folder: Path, tmp_path: Path):
    """A decoder on pictures that are mirrored is refused."""
    run = yaml.safe_load((folder / "decoder.yaml").read_text())
    run["task"]["batches"] = {"size": 8, "mirror": True}
    (tmp_path / "mirrored.yaml").write_text(yaml.safe_dump(run))
    out = command("train", tmp_path / "mirrored.yaml", "--data", DATA, "--out", tmp_path / "mirrored", status=2)
    assert "embeddings are those of whole pictures" in out.replace("\n", "")
