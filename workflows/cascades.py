"""Which models a name on the command line stands for: one, or those of a cascade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from structgen.configuration import from_mapping
from structgen.errors import CheckpointError
from structgen.settings import read_yaml
from structgen.vision.code_prior import CodePrior
from structgen.vision.files import load, model_file
from structgen.vision.stages import check_stages
from structgen.vision.system import System
from structgen.vision.unclip import Models, check_space


@dataclass(frozen=True)
class CascadeFile:
    """The YAML file of a cascade: its models, named as on the command line, from the smallest picture to the largest; and of unCLIP the
    prior, which makes of a caption the embedding that the first stage shows."""

    stages: tuple[str, ...]
    prior: str = ""


def load_models(named: Path) -> Models:
    """The model, or what the file of a cascade names. Raises `ConfigError` for stages or a prior that do not fit and `CheckpointError` for
    files of another kind."""
    path = model_file(named)
    if path.suffix not in (".yaml", ".yml"):
        return Models((load(path, System),))
    file = from_mapping(CascadeFile, read_yaml(path), path.name)
    systems = tuple(load(model_file(Path(name)), System) for name in file.stages)
    check_stages(systems, file.stages)
    return Models(systems, load_prior(model_file(Path(file.prior)), systems[0]) if file.prior else None)


def load_prior(path: Path, decoder: System) -> System | CodePrior:
    """Either kind. Raises `ConfigError` for one of another CLIP than the decoder's."""
    prior = load(path, nn.Module)
    if not isinstance(prior, System | CodePrior):
        raise CheckpointError(f"{path}: holds a {type(prior).__name__}; expected a prior")
    check_space(prior, decoder)
    return prior
