"""Where a prediction comes from: what every result file says about its making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from structgen.features.templates import Used


@dataclass(frozen=True)
class Provenance:
    """How one job's predictions were made. `device` and `seconds` go into the manifest alone: all else must be equal for equal seeds."""

    software: str  # structgen's version
    model: str
    model_sha256: str  # of the checkpoint file
    settings: Mapping[str, Any]  # cycles, steps, samples, ...: values that JSON can hold
    seeds: tuple[int, ...]
    msa_depth: Mapping[str, int]  # rows of the alignment by chain id, the query among them: 1 is a single sequence
    templates: Mapping[str, tuple[Used, ...]] = field(default_factory=dict)  # by chain id, for the chains that could have some
    notes: tuple[str, ...] = ()  # how the input was read, what was left out
    source: str = ""  # file and record of the job
    terms: str = ""  # of the model and of what it makes, as stated by its checkpoint
    device: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage

    @property
    def settings_text(self) -> str:
        """`cycles=4 steps=200`, in the order of the names."""
        return " ".join(f"{name}={value}" for name, value in sorted(self.settings.items()))
