"""What a prediction run is: every choice that affects its result, checked, with one place for each default.

Choices come from a YAML file, from options and from `--set a.b=c`, in this order; the model's own sampling is the default of `sampling`.
What does not affect the result (threads, cluster, folders) is not here.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import json
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from structgen.alphafold3.config import Sampling
from structgen.configuration import from_mapping
from structgen.errors import ConfigError
from structgen.features.job import Limits
from structgen.features.msa import RowLimits
from structgen.features.templates import MOST
from structgen.precision import Precision, native_precision
from structgen.search.hmmer import JackhmmerSettings
from structgen.search.mmseqs import MmseqsSettings
from structgen.search.server import ServerSettings
from structgen.search.templates import TemplateSettings

NO_TEMPLATES = "none"  # as the place of templates: nothing is searched, whatever the model has
LARGEST_SEED = 2**32 - 1  # as in AlphaFold 3's job files


@dataclass(frozen=True)
class Settings:
    """A run: which model on which evidence, how it is sampled, and which seeds."""

    model: str  # name of a shipped model or a checkpoint file
    sampling: Sampling
    seeds: tuple[int, ...] = (1,)
    precision: Precision = "float32"  # `resolve` takes the processor's own where nothing is said
    msa: str = ""  # alignment file, or folder of them
    seqdb: tuple[str, ...] = ()  # FASTA databases that jackhmmer searches for the chains without an alignment
    mmseqs_db: tuple[str, ...] = ()  # databases of mmseqs2 that are searched for them too
    msa_server: str = ""  # address of a ColabFold server that is asked for them too; empty: none is
    evidence: str = ""  # what another run searched: used for the proteins in place of all searches
    templates: str = ""  # folder of mmCIF files, file or library that is searched for templates; empty: the model's; none
    search: JackhmmerSettings = field(default_factory=JackhmmerSettings)
    mmseqs: MmseqsSettings = field(default_factory=MmseqsSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    template_search: TemplateSettings = field(default_factory=TemplateSettings)
    alignment: RowLimits = field(default_factory=RowLimits)
    limits: Limits = field(default_factory=Limits)

    @property
    def structures(self) -> str:
        """Folder, file or library that is searched for templates; empty for none."""
        return "" if self.templates == NO_TEMPLATES else self.templates

    def to_json(self) -> dict[str, Any]:
        """Plain nested values, for the manifest and for provenance."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def resolve(choices: Mapping[str, Any], *, model: str, sampling: Sampling) -> Settings:
    """Settings from nested choices over the defaults.

    Raises `ConfigError` for an unknown key (and names the nearest known one), a wrong type, or a value out of range.
    """
    defaults = dataclasses.asdict(Settings(model=model, sampling=sampling, precision=native_precision()))
    settings = from_mapping(Settings, _merged(defaults, _with_lists(choices), ""), "settings")
    _check_ranges(settings)
    return settings


def _with_lists(choices: Mapping[str, Any]) -> dict[str, Any]:
    """One database may be written without brackets."""
    return {name: [value] if name in ("seqdb", "mmseqs_db") and isinstance(value, str) else value for name, value in choices.items()}


def read_yaml(path: Path) -> dict[str, Any]:
    """Choices from a YAML file. Raises `ConfigError` when it cannot be read or is not a mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: found {type(values).__name__}; expected a mapping of settings")
    return values


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["sampling.steps=20", "seeds=[1,2]"]` as nested choices: a value is JSON where it can be read as such, else text."""
    choices: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not all(name.split(".")):
            raise ConfigError(f"--set {assignment}: expected key=value, for example --set sampling.noise_scale=1.0")
        choices = merge(choices, _nested(name.strip().split("."), _value(value)))
    return choices


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested union; `second` wins."""
    result = dict(first)
    for name, value in second.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merge(result[name], value) if both else value
    return result


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> list[str]:
    """`name: old -> new` for every value in which two nested settings differ."""
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{path}{name}.")
        elif old != new:
            lines.append(f"{path}{name}: {json.dumps(old)} -> {json.dumps(new)}")
    return lines


def _nested(names: list[str], value: Any) -> dict[str, Any]:
    return {names[0]: _nested(names[1:], value) if names[1:] else value}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merged(defaults: dict[str, Any], choices: Mapping[str, Any], path: str) -> dict[str, Any]:
    """`merge`, with every key known and sections never replaced by plain values."""
    merged = dict(defaults)
    for name, value in choices.items():
        if name not in defaults:
            raise ConfigError(_unknown(path + name, list(_flat(defaults, path))))
        if isinstance(defaults[name], dict):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{path}{name}: found {value!r}; it is a section: set {', '.join(_flat(defaults[name], f'{path}{name}.'))}"
                )
            value = _merged(defaults[name], value, f"{path}{name}.")
        merged[name] = value
    return merged


def _unknown(name: str, known: list[str]) -> str:
    names = {key.rpartition(".")[2]: key for key in known} | {key: key for key in known}
    near = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.rpartition(".")[2], names, n=1)
    hint = f"did you mean {names[near[0]]!r}? " if near else ""
    return f"unknown setting {name!r}; {hint}known: {', '.join(sorted(known))}"


def _flat(values: Mapping[str, Any], path: str) -> typing.Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield path + name


def _check_ranges(settings: Settings) -> None:
    """What types do not say."""
    sampling = settings.sampling
    for section, values in dataclasses.asdict(settings).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{section}.{name}: found {value}; expected a finite number")
    if not settings.seeds:
        raise ConfigError("seeds: found none; expected at least one")
    if len(set(settings.seeds)) < len(settings.seeds):
        raise ConfigError(f"seeds: found {list(settings.seeds)}; expected each seed once")
    if not all(0 <= seed <= LARGEST_SEED for seed in settings.seeds):
        raise ConfigError(f"seeds: found {list(settings.seeds)}; expected numbers from 0 to {LARGEST_SEED}")
    for name in ("cycles", "samples", "steps"):
        if getattr(sampling, name) < 1:
            raise ConfigError(f"sampling.{name}: found {getattr(sampling, name)}; expected 1 or more")
    for name in ("sigma_min", "rho", "step_scale"):
        if getattr(sampling, name) <= 0:
            raise ConfigError(f"sampling.{name}: found {getattr(sampling, name)}; expected more than 0")
    if sampling.sigma_max <= sampling.sigma_min:
        raise ConfigError(f"sampling.sigma_max: found {sampling.sigma_max}; expected more than sigma_min = {sampling.sigma_min}")
    for name in ("gamma_0", "gamma_min", "noise_scale"):
        if getattr(sampling, name) < 0:
            raise ConfigError(f"sampling.{name}: found {getattr(sampling, name)}; expected 0 or more")
    if settings.search.iterations < 1 or settings.search.max_rows < 1 or settings.search.e_value <= 0:
        raise ConfigError(f"search: found {settings.search}; expected at least one iteration, one row and an E-value above 0")
    mmseqs = settings.mmseqs
    if mmseqs.iterations < 1 or mmseqs.max_rows < 1 or mmseqs.e_value <= 0 or not 1 <= mmseqs.sensitivity <= 8.5:
        raise ConfigError(f"mmseqs: found {mmseqs}; expected at least one iteration, one row, an E-value above 0, sensitivity 1 to 8.5")
    if settings.evidence and (settings.seqdb or settings.mmseqs_db or settings.msa_server):
        raise ConfigError("evidence: found it together with seqdb, mmseqs_db or msa_server; it takes the place of all searches")
    if settings.alignment.rows < 1 or settings.alignment.paired_per_species < 0:
        raise ConfigError(f"alignment: found {settings.alignment}; expected at least one row")
    _check_templates(settings.template_search)


def _check_templates(settings: TemplateSettings) -> None:
    if not 1 <= settings.used <= MOST or settings.found < settings.used:
        found = f"{settings.used} used of {settings.found}"
        raise ConfigError(f"template_search: found {found}; expected 1 to {MOST} used of at least as many found")
    if settings.e_value <= 0:
        raise ConfigError(f"template_search.e_value: found {settings.e_value}; expected more than 0")
    if settings.remote_e_value < 0:
        raise ConfigError(f"template_search.remote_e_value: found {settings.remote_e_value}; expected more than 0, or 0 for no such search")
    if not 0 < settings.max_identity <= 1:
        raise ConfigError(f"template_search.max_identity: found {settings.max_identity}; expected more than 0 and at most 1")
    try:
        latest = settings.max_date and datetime.date.fromisoformat(settings.max_date).isoformat()
    except ValueError:
        latest = None
    if latest != settings.max_date:
        raise ConfigError(f"template_search.max_date: found {settings.max_date!r}; expected a date as 2021-09-30")
