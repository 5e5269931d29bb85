"""The training loop: exact resume, stops in time, the record, and a batch that is not finite."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from structgen import heads
from structgen.alphafold3.config import tiny
from structgen.alphafold3.model import AlphaFold3, load_model
from structgen.errors import CheckpointError, ConfigError, NumericalError
from structgen.generative import Ema
from structgen.generative.ema import Weights
from structgen.io.checkpoint import read_checkpoint
from structgen.tasks.task import Context, Task
from structgen.train import Metrics, Optimisation
from tests.archive import random_chains, write_archive
from tests.workflows.conftest import REPOSITORY, Command
from workflows import training_run
from workflows.train import Limits, World, train
from workflows.training_log import curves, read_rows
from workflows.training_run import TrainingRun, read_run

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = """
kind: structure
seed: 3
steps: 9
device: cpu
log_every: 3
checkpoint_every: 3
task:
  preset: tiny
  crops: {tokens: 14, profile_keep: 0.5}
  loss: {noise_levels: 2, cycles: 2}
  held_out: {crops: 2}
optimisation: {warmup_steps: 2}
"""
FILES = ("state.safetensors", "model.safetensors")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    chains = [*random_chains(rng, 2, 18, profile=True), *random_chains(rng, 2, 12, tier="bb"), *random_chains(rng, 1, 15, split="val")]
    return write_archive(tmp_path / "chains", chains, rng)


@pytest.fixture
def config(tmp_path: Path, archive: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG + f"data: {archive}\n")
    return path


@dataclasses.dataclass(frozen=True)
class LineTraining:
    """A straight line through points: the smallest thing that can be trained."""

    broken_at: int = -1  # the place in the data order whose example is not finite

    def build(self, context: Context) -> LineTask:
        return LineTask(self, context)


class LineTask(Task[Tensor]):
    """y = 2 x by a linear layer with dropout; an example is one x."""

    def __init__(self, settings: LineTraining, context: Context) -> None:
        self.settings, self.context = settings, context
        self.network = nn.Sequential(nn.Dropout(0.25), nn.Linear(4, 1))

    def example(self, place: int) -> Tensor:
        x = torch.rand(4, generator=torch.Generator().manual_seed(1000 * self.context.seed + place))
        return x * (torch.nan if place == self.settings.broken_at else 1)

    def loss(self, example: Tensor, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        error = (self.network(example[None]) - 2 * example.sum() + 0.1 * torch.randn((), generator=rng)).square().mean()
        return error, {"error": error.item()}

    def config(self) -> str:
        return "{}"

    def publish(self, average: Weights, path: Path, *, card: str) -> None:
        safetensors.torch.save_file(average, path)

    def validate(self, average: Weights) -> Metrics:
        return {"error": (average["1.weight"] - 2).abs().mean().item()}

    def names(self, example: Tensor) -> list[str]:
        return [f"x0={example[0]:.2f}"]

    def tensors(self, example: Tensor) -> dict[str, Tensor]:
        return {"x": example}


@pytest.fixture
def line_run(monkeypatch: pytest.MonkeyPatch) -> TrainingRun:
    """40 steps of the line, four examples each."""
    monkeypatch.setitem(training_run.KINDS, "line", lambda: LineTraining)
    fast = Optimisation(learning_rate=0.05, warmup_steps=2, ema=Ema(0.9))
    every = {"log_every": 5, "checkpoint_every": 10}
    return TrainingRun(kind="line", steps=40, seed=1, device="cpu", examples_per_step=4, optimisation=fast, **every)


def arguments(config: Path, out: Path, **more: Any) -> list[str]:
    extra = [part for name, value in more.items() for part in (f"--{name}", str(value))]
    return ["train", str(config), "--out", str(out), "--threads", "1", *extra]


def start(config: Path, out: Path) -> subprocess.Popen[bytes]:
    """`structgen train` in a process of its own, to be killed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "STRUCTGEN_TYPED": "0"}
    words = [sys.executable, "-m", "workflows.cli", *arguments(config, out)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def step_of(path: Path) -> int:
    return int(read_checkpoint(path)[1]["step"]) if path.exists() else 0


def killed_after(process: subprocess.Popen[bytes], state: Path, step: int) -> None:
    """`kill -9` once a checkpoint of at least this step is there."""
    while step_of(state) < step and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, errors


def same_files(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def test_a_killed_run_ends_as_an_uncut_one(config: Path, tmp_path: Path) -> None:
    """`kill -9` after the first checkpoint, then the same command: state, model and logged figures are those of a run without the cut."""
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    train(read_run(config), uncut)
    killed_after(start(config, cut), cut / FILES[0], 3)
    assert step_of(cut / FILES[0]) < 9
    train(read_run(config), cut)
    assert same_files(uncut, cut)
    logs = [[{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(run / "log.jsonl")] for run in (uncut, cut)]
    assert logs[0] == logs[1] and {"loss", "distogram", "mse"} < logs[0][-1]["validation"].keys()


@pytest.mark.slow
def test_five_kills_change_nothing(config: Path, tmp_path: Path) -> None:
    """Five times `kill -9`, each after another checkpoint; the sixth start ends with the bytes of an uncut run (CPU, float32)."""
    config.write_text(config.read_text().replace("steps: 9", "steps: 60"))
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    train(read_run(config), uncut)
    for kill in range(5):
        killed_after(start(config, cut), cut / FILES[0], 9 * kill + 3)
    assert 39 <= step_of(cut / FILES[0]) < 60
    train(read_run(config), cut)
    assert same_files(uncut, cut)


@pytest.mark.parametrize("compact", [False, True])
def test_resume_is_exact_from_any_checkpoint(line_run: TrainingRun, tmp_path: Path, compact: bool) -> None:
    """Stopped at each of three checkpoints and gone on: the same bytes, with averages and moments in float32 or rounded to bfloat16."""
    run = dataclasses.replace(line_run, compact=compact)
    train(run, tmp_path / "uncut")
    for steps in (10, 20, 30, 40):
        train(dataclasses.replace(run, steps=steps), tmp_path / "cut")
    assert same_files(tmp_path / "uncut", tmp_path / "cut")
    weights = read_checkpoint(tmp_path / "cut" / FILES[0])[0]
    assert weights["network.1.weight"].dtype == torch.float32
    assert weights["adam.0.exp_avg"].dtype == weights["average.1.weight"].dtype == (torch.bfloat16 if compact else torch.float32)


def test_loader_processes_change_nothing(line_run: TrainingRun, tmp_path: Path) -> None:
    """Examples made ahead in two processes give the run that examples made between the steps give."""
    train(line_run, tmp_path / "inside")
    train(dataclasses.replace(line_run, loaders=2), tmp_path / "ahead")
    assert same_files(tmp_path / "inside", tmp_path / "ahead")


def test_time_that_is_up_leaves_a_checkpoint(line_run: TrainingRun, tmp_path: Path) -> None:
    """A start without time makes no step and loses none; starts that are stopped in between end as one that was not."""
    train(line_run, tmp_path / "uncut")
    state = train(dataclasses.replace(line_run, steps=13), tmp_path / "cut")
    assert train(line_run, tmp_path / "cut", limits=Limits(minutes=0.0)).step == state.step == step_of(tmp_path / "cut" / FILES[0]) == 13
    assert train(line_run, tmp_path / "cut", limits=Limits(minutes=5.0)).step == 40
    assert same_files(tmp_path / "uncut", tmp_path / "cut")


def test_a_signal_ends_the_run_after_the_step(line_run: TrainingRun, tmp_path: Path) -> None:
    """SIGTERM in the middle of a step: that step is finished and kept, at a step that is no multiple of anything."""

    class Interrupting(World):
        calls = 0

        def any(self, flag: bool) -> bool:
            self.calls += 1
            if self.calls == 14:
                os.kill(os.getpid(), signal.SIGTERM)
            return flag

    assert train(line_run, tmp_path / "cut", Interrupting()).step == step_of(tmp_path / "cut" / FILES[0]) == 14
    train(line_run, tmp_path / "cut")
    train(line_run, tmp_path / "uncut")
    assert same_files(tmp_path / "uncut", tmp_path / "cut")


def test_the_batch_that_is_not_finite_is_kept(line_run: TrainingRun, tmp_path: Path) -> None:
    """The error names the examples and the file that holds them; weights stay those of the last checkpoint."""
    run = dataclasses.replace(line_run, task={"broken_at": 4 * 23 + 2})
    with pytest.raises(NumericalError, match=r"step 23: the loss is nan.*places \[92, 93, 94, 95\].*made of x0=0\.\d+, x0=0\.\d+, x0=nan"):
        train(run, tmp_path / "run")
    kept = safetensors.torch.load_file(tmp_path / "run" / "not_finite_step23_rank0.safetensors")
    assert sorted(kept) == ["0.x", "1.x", "2.x", "3.x"] and kept["2.x"].isnan().all() and not kept["1.x"].isnan().any()
    assert step_of(tmp_path / "run" / FILES[0]) == 20


def test_the_line_is_learnt_and_its_curves_are_kept(line_run: TrainingRun, tmp_path: Path) -> None:
    """Loss and validation fall; rows of every fifth step, validation where it was asked for; a picture."""
    train(dataclasses.replace(line_run, steps=200, checkpoint_every=50, validate_every=10), tmp_path / "run")
    rows = read_rows(tmp_path / "run" / "log.jsonl")
    steps, errors = curves(rows)["error"]["validation"]
    assert steps == list(range(10, 201, 10)) and errors[-1] < 0.7 * errors[0]
    assert [row["step"] for row in rows if "validation" not in row] == list(range(5, 201, 5))
    assert (tmp_path / "run" / "curves.png").read_bytes()[1:4] == b"PNG"


def test_a_folder_of_other_settings_is_refused(line_run: TrainingRun, tmp_path: Path) -> None:
    """What changes the result may not change when a run goes on; how long it is and how it is logged may."""
    train(dataclasses.replace(line_run, steps=10), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"optimisation\.warmup_steps: 2 -> 3"):
        train(dataclasses.replace(line_run, optimisation=dataclasses.replace(line_run.optimisation, warmup_steps=3)), tmp_path / "run")
    assert train(dataclasses.replace(line_run, steps=20, log_every=1), tmp_path / "run").step == 20


def test_a_checkpoint_of_another_network_is_refused(config: Path, line_run: TrainingRun, tmp_path: Path) -> None:
    """A run does not go on from weights that are not its own."""
    train(dataclasses.replace(line_run, steps=1), tmp_path / "line")
    (tmp_path / "run").mkdir()
    (tmp_path / "line" / FILES[0]).rename(tmp_path / "run" / FILES[0])
    with pytest.raises(CheckpointError, match="does not fit"):
        train(read_run(config), tmp_path / "run")


def test_a_run_moves_everything_but_the_confidence_head(config: Path, tmp_path: Path) -> None:
    """Trunk, diffusion and distogram learn; the head is as it was drawn; the model file holds the averages."""
    run = read_run(config, {"steps": 2, "seed": 1, "optimisation": {"learning_rate": 0.1, "warmup_steps": 4, "ema": {"decay": 0.5}}})
    state = train(run, tmp_path / "run")
    torch.manual_seed(1)
    fresh = dict(AlphaFold3(tiny()).named_parameters())
    moved = {name.split(".")[0]: False for name in fresh}
    for name, parameter in state.network.named_parameters():
        moved[name.split(".")[0]] |= not torch.equal(parameter, fresh[name])
    assert moved == {"trunk": True, "denoiser": True, "distogram": True, "confidence": False}
    published = load_model(str(tmp_path / "run" / "model.safetensors")).network.state_dict()
    assert all(torch.equal(published[name], average) for name, average in state.average.items())


def test_training_goes_on_from_a_model_file(config: Path, checkpoint: Path, tmp_path: Path) -> None:
    """`init`: what is published after one tiny step is nearly the model that was given; a preset beside it is refused."""
    changes: Mapping[str, Any] = {"init": str(checkpoint), "steps": 1, "task": {"preset": ""}, "optimisation": {"learning_rate": 1e-6}}
    train(read_run(config, changes), tmp_path / "run")
    given, after = (load_model(str(path)).network.state_dict() for path in (checkpoint, tmp_path / "run" / "model.safetensors"))
    change = {name: (after[name] - given[name]).abs().max().item() for name in given}
    assert 0 < max(change.values()) < 2e-6
    with pytest.raises(ConfigError, match=r"either task\.preset"):
        train(read_run(config, {"init": str(checkpoint)}), tmp_path / "other")


def test_the_equivariant_head_trains_and_is_published(config: Path, tmp_path: Path) -> None:
    """A step, validation, a model file that loads, and a start that goes on from the checkpoint."""
    sizes = {"layers": 1, "scalars": 16, "vectors": 4, "tensors": 4, "c_edge": 8, "radial": 8, "heads": 2, "nearest": 4, "c_fourier": 8}
    model = {"head": {"network": "equivariant", "objective": "flow", "equivariant": sizes}}
    for steps in (1, 2):
        state = train(read_run(config, {"steps": steps, "checkpoint_every": 1, "task": {"model": model}}), tmp_path / "run")
    published = heads.load(str(tmp_path / "run" / "model.safetensors")).network.state_dict()
    assert state.step == 2 and all(torch.equal(published[name], average) for name, average in state.average.items())


def test_bfloat16_changes_the_loss_little(config: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Autocast trains: the first step's loss in bfloat16 is that of float32 but for rounding, and the weights stay float32."""
    figures: dict[str, dict[str, float]] = {}
    changes = {"steps": 1, "log_every": 1, "init": str(checkpoint), "task": {"preset": ""}}
    for precision in ("float32", "bfloat16"):
        state = train(read_run(config, changes | {"precision": precision}), tmp_path / precision)
        assert {p.dtype for p in state.network.parameters()} == {torch.float32}
        row = read_rows(tmp_path / precision / "log.jsonl")[0]
        figures[precision] = {name: row[name] for name in ("loss", "distogram", "mse", "smooth_lddt")}
    assert figures["bfloat16"] != figures["float32"]  # the loss alone may be the same to the five digits of the log
    assert figures["bfloat16"] == pytest.approx(figures["float32"], rel=0.02)


def test_the_command_trains_and_goes_on(config: Path, command: Command, tmp_path: Path) -> None:
    """`structgen train` to the end, `--set` changes a setting, `--minutes` stops; `export` halves the file."""
    stopped = command(*arguments(config, tmp_path / "run", minutes=0.0), "--set", "steps=4")
    assert stopped.status == 0 and "stopped at step 0 of 4" in stopped.text
    done = command(*arguments(config, tmp_path / "run"), "--set", "steps=4")
    assert done.status == 0 and "4 steps; model:" in done.text
    model = tmp_path / "run" / "model.safetensors"
    assert command("export", model, tmp_path / "small.safetensors", "--card", "Tiny.").status == 0
    assert load_model(str(tmp_path / "small.safetensors")).card == "Tiny."
    assert (tmp_path / "small.safetensors").stat().st_size < 0.7 * model.stat().st_size


@pytest.mark.parametrize(
    "change, message",
    [
        ({"task": {"crops": {"token": 3}}}, r"run\.yaml\.task\.crops: unknown key 'token'; did you mean 'tokens'"),
        ({"kind": "strukture"}, r"kind: found 'strukture'; expected one of 'structure', 'confidence'"),
        ({"examples_per_step": 0}, "examples_per_step: found 0"),
        ({"task": {"preset": "tiny", "model": {"pairformer": {"block": 2}}}}, "unknown key 'block'"),
        ({"task": {"chains": {"shortest": 300}}}, "no train chain has 300"),
    ],
)
def test_a_wrong_setting_is_named(config: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Unknown keys, kinds, values out of range and choices that leave no data are refused with their names."""
    with pytest.raises(ConfigError, match=message):
        train(read_run(config, change), tmp_path / "run")


def test_the_runs_that_ship_can_be_read() -> None:
    """Every training configuration of the repository is valid."""
    paths = sorted((REPOSITORY / "configs").glob("train_*.yaml"))
    assert len(paths) >= 2 and all(json.dumps(dataclasses.asdict(read_run(path))) for path in paths)
    with pytest.raises(ConfigError, match="absent"):
        read_run(Path("absent.yaml"))
