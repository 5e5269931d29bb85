"""What each stage takes of a node, as a user may say it in the `resources` section of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from structgen.configuration import from_mapping
from structgen.errors import ConfigError

LIGHT_CPU = 0.5  # of a task of the light stages; every Fold worker leaves as much of its CPUs free, so that neither can starve the other
AHEAD = 4  # jobs that may be searched and featurised ahead, for each place to fold
GIB = 1024.0  # MiB


@dataclass(frozen=True)
class Demand:
    """What one piece of a stage's work takes of its node."""

    cpus: float = 0.0  # 0: half a CPU for the light stages, the threads of a fold for Fold
    gpus: float = 0.0
    custom: dict[str, float] = field(default_factory=dict)  # resources that the cluster's nodes were started with: {"msa": 1}
    labels: dict[str, str] = field(default_factory=dict)  # labels that the node must have: {"ray.io/accelerator-type": "H100"}

    @property
    def amounts(self) -> dict[str, float]:
        """As Ray counts them."""
        named = {"CPU": self.cpus, "GPU": self.gpus, **self.custom}
        return {name: amount for name, amount in named.items() if amount > 0}


@dataclass(frozen=True)
class Resources:
    """What a run takes of its machines."""

    search: Demand = field(default_factory=Demand)
    featurise: Demand = field(default_factory=Demand)
    fold: Demand = field(default_factory=Demand)
    write: Demand = field(default_factory=Demand)
    ahead: int = AHEAD
    memory: float = 0.0  # GiB of a node that its folds may take together; 0: what it has

    def demands(self, threads: int) -> dict[str, Demand]:
        """The demand of every stage with its CPUs filled in; a fold on a GPU takes one CPU to drive it unless said otherwise."""
        own = {"search": self.search, "featurise": self.featurise, "write": self.write}
        light = {stage: demand if demand.cpus else replace(demand, cpus=LIGHT_CPU) for stage, demand in own.items()}
        fold = self.fold if self.fold.cpus else replace(self.fold, cpus=1.0 if self.fold.gpus else float(threads))
        return light | {"fold": fold}

    def memory_of(self, there: float) -> float:
        """MiB that the folds of a node may take, where it has so many."""
        return self.memory * GIB or there


def read_resources(values: Any) -> Resources:
    """The section of a configuration file. Raises `ConfigError` for an unknown key, a wrong type or an amount below zero."""
    found = from_mapping(Resources, values or {}, "resources")
    for stage in ("search", "featurise", "fold", "write"):
        demand: Demand = getattr(found, stage)
        for name, amount in {"cpus": demand.cpus, "gpus": demand.gpus, **demand.custom}.items():
            if not amount >= 0:
                raise ConfigError(f"resources.{stage}.{name}: found {amount}; expected 0 or more")
    if found.ahead < 1 or not found.memory >= 0:
        raise ConfigError(f"resources: found ahead {found.ahead} and memory {found.memory}; expected at least 1 job and 0 GiB")
    return found


def requested(choices: dict[str, Any], memory: float) -> Resources:
    """The `resources` of nested choices, taken out of them; `memory` in GiB wins where it is not 0."""
    section: Mapping[str, Any] = choices.pop("resources", {}) or {}
    return read_resources({**section, "memory": memory} if memory else section)
