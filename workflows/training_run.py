"""What a training run is: the YAML file, the changes of the command line, and the kinds of things that can be trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch

from structgen.configuration import from_mapping
from structgen.errors import ConfigError
from structgen.nn.compiled import compile_blocks
from structgen.precision import Precision
from structgen.settings import differences, merge, read_yaml
from structgen.store import replace_file
from structgen.tasks.task import Context, Task, TaskSettings
from structgen.train import Optimisation


@dataclass(frozen=True)
class TrainingRun:
    """All that a training run is; `task` holds what its kind needs."""

    kind: str
    steps: int
    data: str = ""  # folder of the training data
    init: str = ""  # model file whose weights are the start
    seed: int = 0
    examples_per_step: int = 1  # over all workers; a multiple of their number
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "float32"
    compiled: bool = False  # blocks are compiled in the first steps: minutes, for steps that take about half as long on a GPU
    loaders: int = 0  # processes that make examples ahead of the steps; 0: made between them
    log_every: int = 20
    checkpoint_every: int = 250
    validate_every: int = 0  # 0: at checkpoints
    compact: bool = False  # averages and moments are rounded to bfloat16 at checkpoints, in the run too: 10 bytes a weight instead of 16
    task: dict = field(default_factory=dict)
    optimisation: Optimisation = field(default_factory=Optimisation)


FREE = ("steps", "data", "device", "loaders", "log_every", "checkpoint_every", "validate_every")  # may change when a run goes on


def _structure() -> type:
    from structgen.tasks.structure import StructureTraining

    return StructureTraining


def _confidence() -> type:
    from structgen.tasks.confidence import ConfidenceTraining

    return ConfidenceTraining


def _student() -> type:
    from structgen.tasks.student import StudentTraining

    return StudentTraining


def _backbone() -> type:
    from structgen.tasks.backbone import BackboneTraining

    return BackboneTraining


def _codec() -> type:
    from structgen.tasks.codec import CodecTraining

    return CodecTraining


def _text() -> type:
    from structgen.tasks.text import TextTraining

    return TextTraining


def _judge() -> type:
    from structgen.tasks.judge import JudgeTraining

    return JudgeTraining


def _captioner() -> type:
    from structgen.tasks.captioner import CaptionerTraining

    return CaptionerTraining


def _generator() -> type:
    from structgen.tasks.generator import GeneratorTraining

    return GeneratorTraining


def _code_prior() -> type:
    from structgen.tasks.code_prior import CodePriorTraining

    return CodePriorTraining


KINDS: dict[str, Callable[[], type]] = {
    "structure": _structure,
    "confidence": _confidence,
    "student": _student,
    "backbone": _backbone,
    "codec": _codec,
    "text": _text,
    "judge": _judge,
    "captioner": _captioner,
    "generator": _generator,
    "code_prior": _code_prior,
}


def read_run(path: Path, changes: Mapping[str, Any] | None = None) -> TrainingRun:
    """The run that a YAML file describes, with changes on top. Raises `ConfigError` for what is missing, unknown or of the wrong type."""
    run = from_mapping(TrainingRun, merge(read_yaml(path), changes or {}), path.name)
    task_settings(run, path.name)
    check(run)
    return run


def task_settings(run: TrainingRun, path: str = "run") -> TaskSettings:
    """The `task:` part as its kind reads it."""
    if run.kind not in KINDS:
        raise ConfigError(f"{path}.kind: found {run.kind!r}; expected one of {', '.join(map(repr, KINDS))}")
    return cast(TaskSettings, from_mapping(KINDS[run.kind](), run.task, f"{path}.task"))


def check(run: TrainingRun) -> None:
    """What types do not say."""
    for name in ("steps", "examples_per_step", "log_every", "checkpoint_every"):
        if getattr(run, name) < 1:
            raise ConfigError(f"{name}: found {getattr(run, name)}; expected 1 or more")
    if not 0 <= run.loaders <= 256 or run.validate_every < 0:
        raise ConfigError(f"loaders and validate_every: found {run.loaders} and {run.validate_every}; expected 0 or more")
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: found 'cuda', but torch sees no GPU here; take 'cpu' or 'auto'")


def device_of(run: TrainingRun) -> torch.device:
    """Where the run computes."""
    return torch.device("cuda" if run.device != "cpu" and torch.cuda.is_available() else "cpu")


def build_task(run: TrainingRun, out: Path) -> Task:
    """Network, data and loss of the run. Random weights are drawn from the seed."""
    torch.manual_seed(run.seed)
    context = Context(seed=run.seed, data=Path(run.data), out=out, device=device_of(run), precision=run.precision, init=run.init)
    task = task_settings(run).build(context)
    if run.compiled and not compile_blocks(task.network):
        raise ConfigError(f"compiled: a network of kind {run.kind!r} has no blocks that can be; leave it out")
    return task


def claim(run: TrainingRun, out: Path) -> None:
    """Write the run into its folder. Raises `ConfigError` if the folder holds another one, and says in what they differ."""
    path, wanted = out / "run.json", json.loads(json.dumps(dataclasses.asdict(run)))
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        before, after = ({k: v for k, v in values.items() if k not in FREE} for values in (known, wanted))
        changed = differences(before, after)
        if changed:
            raise ConfigError(f"{out} holds a run with other settings ({'; '.join(changed[:4])}); give another --out")
    replace_file(path, (json.dumps(wanted, indent=1, sort_keys=True) + "\n").encode())
