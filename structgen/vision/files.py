"""Model files of pictures and clips: codecs, CLIPs, judges and generators, each with its configuration inside."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from structgen.configuration import from_mapping
from structgen.errors import CheckpointError, ConfigError
from structgen.io.checkpoint import read_checkpoint, write_checkpoint
from structgen.vision.clip import Clip
from structgen.vision.coca import Coca, CocaConfig
from structgen.vision.code_prior import CodePrior, CodePriorConfig
from structgen.vision.codec import Codec
from structgen.vision.judge import Judge, JudgeConfig
from structgen.vision.system import CodecChoice, System, SystemConfig, TextConfig

SHIPPED = Path(__file__).parents[1] / "weights" / "pictures"
M = TypeVar("M", bound=nn.Module)


class Text(nn.Module):
    """A CLIP with the vocabulary that its captions are written in."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = Clip(config.clip)


class Coded(nn.Module):
    """A codec with the choice that built it."""

    def __init__(self, config: CodecChoice) -> None:
        super().__init__()
        self.config = config
        self.codec: Codec = config.build()


KINDS: Mapping[str, tuple[type, Callable[[Any], nn.Module]]] = MappingProxyType(
    {
        "codec": (CodecChoice, Coded),
        "text": (TextConfig, Text),
        "judge": (JudgeConfig, Judge),
        "captioner": (CocaConfig, Coca),
        "generator": (SystemConfig, System),
        "code_prior": (CodePriorConfig, CodePrior),
    }
)


def config_json(model: nn.Module) -> str:
    """The configuration of any model of pictures, with its kind."""
    kind = next(kind for kind, (_, cls) in KINDS.items() if type(model) is cls)
    return json.dumps({"kind": kind, **dataclasses.asdict(model.config)}, default=_plain, sort_keys=True)  # type: ignore[call-overload]


def save(model: nn.Module, path: Path, *, card: str, weights: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None) -> None:
    """Write the model, or its averaged weights, whole or not at all; in `dtype` where one is given, to be read back as float32."""
    found = {name: value.to(dtype or value.dtype) for name, value in (weights or model.state_dict()).items()}
    write_checkpoint(path, found, {"config": config_json(model), "card": card})


def load(path: Path, cls: type[M]) -> M:
    """The model of a file, which stands still. Raises `CheckpointError` for a file of another kind or one that does not fit."""
    tensors, metadata, _ = read_checkpoint(path)
    model = build(metadata["config"], str(path))
    if not isinstance(model, cls):
        raise CheckpointError(f"{path}: holds a {type(model).__name__}; expected a {cls.__name__}")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit the configuration: {error}") from error
    return model.requires_grad_(False).eval()


def model_file(named: Path) -> Path:
    """The file, or the shipped model or cascade of that name."""
    if named.is_file() or named.parent != Path():
        return named
    return next((path for suffix in ("yaml", "safetensors") if (path := SHIPPED / f"{named.name}.{suffix}").exists()), named)


def card(path: Path) -> str:
    """What the file says of itself."""
    return read_checkpoint(path)[1].get("card", "")


def build(config: str, where: str) -> nn.Module:
    """A model with new weights. Raises `CheckpointError` for a configuration of something else."""
    values = json.loads(config)
    if not isinstance(values, dict) or (kind := values.pop("kind", None)) not in KINDS:
        raise CheckpointError(f"{where}: not a model of pictures; expected one made by `structgen train` of kind {', '.join(KINDS)}")
    config_class, cls = KINDS[kind]
    try:
        return cls(from_mapping(config_class, values))
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"no JSON for {type(value).__name__}")
