"""A prediction for a cluster that is elsewhere, as the `submit` section of a configuration file says it.

One section serves the job API of a running cluster, KubeRay and SLURM: what runs is always the same `structgen predict`, on the cluster.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from structgen.configuration import from_mapping
from structgen.errors import ConfigError
from structgen.manifest import STAGES
from workflows.resources import Demand, read_resources

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")  # of Kubernetes' objects; KubeRay adds to it
LABEL = re.compile(r"([a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True)
class Group:
    """Nodes of one kind."""

    nodes: int = 1
    cpus: int = 4
    gpus: int = 0
    memory: int = 16  # GiB
    labels: dict[str, str] = field(default_factory=dict)  # of Ray; `resources` of the same file may ask for them
    custom: dict[str, float] = field(default_factory=dict)  # resources of Ray: {msa: 1}
    node_selector: dict[str, str] = field(default_factory=dict)  # of Kubernetes
    partition: str = ""  # of SLURM
    constraint: str = ""
    gpu: str = ""  # kind of GPU as SLURM calls it: h100

    def serves(self, demand: Demand) -> bool:
        """Whether one of the nodes can take such work. Labels that Ray gives its nodes itself are not known here."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, **self.custom}
        own = {name: value for name, value in demand.labels.items() if not name.startswith("ray.io/")}
        return all(amounts.get(name, 0) >= amount for name, amount in demand.amounts.items()) and own.items() <= self.labels.items()


@dataclass(frozen=True)
class Submission:
    """What runs where. Paths are those of the cluster, on storage that all of its nodes see."""

    name: str = "structgen"
    inputs: tuple[str, ...] = ()
    out: str = ""
    store: str = ""  # a folder or s3://bucket/prefix
    runtime_env: dict[str, Any] = field(default_factory=dict)  # Ray's, passed on as it is
    hours: float = 24.0
    groups: dict[str, Group] = field(default_factory=lambda: {"fold": Group(gpus=1)})
    head: Group = field(default_factory=lambda: Group(cpus=2, memory=8))
    image: str = ""  # KubeRay: a container image with structgen
    namespace: str = ""
    volumes: dict[str, str] = field(default_factory=dict)  # KubeRay: name of a claim to where it is mounted
    secrets: tuple[str, ...] = ()  # KubeRay: names of secrets whose keys become environment variables
    retries: int = 2  # KubeRay: new clusters that go on where one was lost
    account: str = ""  # SLURM
    setup: tuple[str, ...] = ()  # SLURM: shell lines before anything else: module load ..


@dataclass(frozen=True)
class Work:
    """A submission and the choices of its prediction."""

    submission: Submission
    choices: Mapping[str, Any]

    def command(self, inputs: tuple[str, ...], cluster: str) -> list[str]:
        """`structgen predict` with every choice in words, so that no file beside the inputs has to be there."""
        words = ["structgen", "predict", *inputs, "--out", self.submission.out, "--cluster", cluster]
        words += ["--store", self.submission.store] if self.submission.store else []
        for name, value in _flat(self.choices):
            words += ["--set", f"{name}={json.dumps(value)}"]
        return words

    def require_served(self) -> None:
        """Raise `ConfigError` where a stage asks for what no group of nodes has: it would wait for ever."""
        resources = read_resources(self.choices.get("resources"))
        for stage in STAGES:
            demand: Demand = getattr(resources, stage)
            if not any(group.serves(demand) for group in self.submission.groups.values()):
                amounts = [f"{amount:g} {name}" for name, amount in demand.amounts.items()]
                asked = ", ".join(amounts + [f"{name}={value}" for name, value in demand.labels.items()])
                raise ConfigError(f"resources.{stage}: found {asked}; expected what one of submit.groups has: cpus, gpus, custom, labels")


def read_work(choices: dict[str, Any], **given: Any) -> Work:
    """The submission in nested choices, with what was given on the command line before it. Raises `ConfigError` for what cannot be."""
    section = choices.pop("submit", None) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"submit: found {section!r}; expected a mapping")
    submission = from_mapping(Submission, {**section, **{name: value for name, value in given.items() if value}}, "submit")
    _check(submission)
    return Work(submission, choices)


def shell(words: list[str]) -> str:
    """Words as one line that a shell reads as they are."""
    return shlex.join(words)


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value and "." not in "".join(map(str, value)):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield path + name, value


def _check(submission: Submission) -> None:
    if not NAME.fullmatch(submission.name):
        raise ConfigError(f"submit.name: found {submission.name!r}; expected a small letter, then at most 39 small letters, digits and -")
    if not PurePosixPath(submission.out).is_absolute():
        raise ConfigError(f"submit.out: found {submission.out!r}; expected a whole path on storage that every node sees (--out)")
    if submission.store and not submission.store.startswith("s3://") and not PurePosixPath(submission.store).is_absolute():
        raise ConfigError(f"submit.store: found {submission.store!r}; expected a whole path or s3://bucket/prefix (--store)")
    if submission.hours <= 0 or submission.retries < 0 or not submission.groups:
        raise ConfigError("submit: expected hours above 0, retries of 0 or more and at least one group of nodes")
    for name, group in {**submission.groups, "head": submission.head}.items():
        _check_group(f"submit.groups.{name}", name, group)
    for claim, path in submission.volumes.items():
        if not NAME.fullmatch(claim) or not PurePosixPath(path).is_absolute():
            raise ConfigError(f"submit.volumes.{claim}: found {path!r}; expected the name of a claim and a whole path")


def _check_group(path: str, name: str, group: Group) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"{path}: expected a name of small letters, digits and -")
    if min(group.nodes, group.cpus, group.memory) < 1 or group.gpus < 0:
        raise ConfigError(f"{path}: expected at least one node, one CPU and 1 GiB; found {group.nodes}, {group.cpus} and {group.memory}")
    for label, value in group.labels.items():
        if not LABEL.fullmatch(label) or not LABEL_VALUE.fullmatch(value) or label.startswith("ray.io/"):
            raise ConfigError(f"{path}.labels: found {label}={value}; expected Kubernetes' form of labels, and none of Ray's own ray.io/..")
    for resource, amount in group.custom.items():
        if not re.fullmatch(r"[A-Za-z][\w-]*", resource) or not amount > 0:
            raise ConfigError(f"{path}.custom: found {resource}={amount}; expected a name and an amount above 0")
    for field_, text in (("partition", group.partition), ("constraint", group.constraint), ("gpu", group.gpu)):
        if not re.fullmatch(r"[\w.,&|*()\[\]:-]*", text):
            raise ConfigError(f"{path}.{field_}: found {text!r}; expected one word, as SLURM takes it")


def stem(inputs: tuple[Path, ...]) -> str:
    """A name for a submission of these inputs."""
    word = re.sub(r"[^a-z0-9]+", "-", inputs[0].resolve().stem.lower()).strip("-") if inputs else ""
    return f"structgen-{word}"[:30].strip("-")
