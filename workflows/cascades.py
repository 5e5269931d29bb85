"""Which models a name on the command line stands for: one, or those of a cascade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structgen
from structgen.configuration import from_mapping
from structgen.settings import read_yaml
from structgen.vision.files import load
from structgen.vision.stages import check_stages
from structgen.vision.system import System

SHIPPED = Path(structgen.__file__).parent / "weights" / "pictures"


@dataclass(frozen=True)
class CascadeFile:
    """The YAML file of a cascade: its model files from the smallest picture to the largest."""

    stages: tuple[str, ...]


def model_file(named: Path) -> Path:
    """The file, or the shipped model of that name."""
    shipped = SHIPPED / f"{named.name}.safetensors"
    return shipped if not named.is_file() and named.parent == Path() and shipped.exists() else named


def load_stages(named: Path) -> list[System]:
    """The model, or the stages of a cascade. Raises `ConfigError` for stages that do not fit and `CheckpointError` for
    files of another kind."""
    if named.suffix not in (".yaml", ".yml"):
        return [load(model_file(named), System)]
    names = from_mapping(CascadeFile, read_yaml(named), named.name).stages
    systems = [load(Path(name), System) for name in names]
    check_stages(systems, names)
    return systems
