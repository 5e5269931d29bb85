"""Which models a name on the command line stands for: one, or those of a cascade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from structgen.configuration import from_mapping
from structgen.settings import read_yaml
from structgen.vision.files import load, model_file
from structgen.vision.stages import check_stages
from structgen.vision.system import System


@dataclass(frozen=True)
class CascadeFile:
    """The YAML file of a cascade: its model files from the smallest picture to the largest."""

    stages: tuple[str, ...]


def load_stages(named: Path) -> list[System]:
    """The model, or the stages of a cascade. Raises `ConfigError` for stages that do not fit and `CheckpointError` for
    files of another kind."""
    if named.suffix not in (".yaml", ".yml"):
        return [load(model_file(named), System)]
    names = from_mapping(CascadeFile, read_yaml(named), named.name).stages
    systems = [load(Path(name), System) for name in names]
    check_stages(systems, names)
    return systems
