"""A trained model as a package ships it: bfloat16, with what is said of it, and the structures that it searches."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from structgen import heads
from structgen.alphafold3.model import save_model
from structgen.errors import ConfigError, InputError
from structgen.search.library import is_library
from structgen.stages import takes_templates


def export_model(model: str, out: Path, *, card: str, terms: str, library: Path | None) -> None:
    """Write the model to `out`, and its structure library beside it: predictions search that where the user names no templates.

    Raises `ConfigError` for a library with a model that uses no templates, `InputError` for a file that is no library.
    """
    network = heads.load(model).network
    if library is not None:
        if not takes_templates(network.config):
            raise ConfigError(f"--library {library}: {network.config.name} was trained without templates and would not use it")
        if not is_library(library):
            raise InputError("not a structure library", where=str(library), remedy="make one with `structgen data library`")
        beside = out.parent / library.name
        if beside.resolve() != library.resolve():
            shutil.copyfile(library, beside)
    save_model(network, out, card=card, terms=terms, library=library.name if library else "", dtype=torch.bfloat16)
