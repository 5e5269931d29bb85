"""Settings: what can be set, how, and what is said when it cannot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from structgen.alphafold3.config import Sampling
from structgen.errors import ConfigError
from structgen.precision import native_precision
from structgen.settings import Settings, differences, merge, parse_assignments, read_yaml, resolve

DEFAULTS = Sampling(cycles=2, samples=3, steps=40)


def _resolve(*assignments: str) -> Settings:
    return resolve(parse_assignments(assignments), model="m", sampling=DEFAULTS)


def test_nothing_chosen_is_the_model_s_own_sampling():
    """Without choices the settings are the defaults, and sampling is the model's."""
    assert _resolve() == Settings(model="m", sampling=DEFAULTS, precision=native_precision())


def test_choices_replace_only_what_they_name():
    """A dotted key changes one value; numbers, texts and lists are read by what they are."""
    settings = _resolve("sampling.steps=7", "sampling.noise_scale=1", "sampling.last_sigma=zero", "seeds=[3,1]", "precision=bfloat16")
    assert settings.sampling == dataclasses.replace(DEFAULTS, steps=7, noise_scale=1.0, last_sigma="zero")
    assert (settings.seeds, settings.precision) == ((3, 1), "bfloat16")
    assert _resolve("sampling.sigma_min=1e-3").sampling.sigma_min == 1e-3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("sampling.stepps=3", r"unknown setting 'sampling.stepps'; did you mean 'sampling.steps'\?"),
        ("steps=3", r"unknown setting 'steps'; did you mean 'sampling.steps'\?"),
        ("zzz=3", r"unknown setting 'zzz'; known: alignment\.paired_per_species, .*sampling\.cycles"),
        ("sampling.steps=many", r"settings\.sampling\.steps: found 'many' of type str; expected int"),
        ("sampling.steps=true", r"sampling\.steps: found True"),
        ("sampling.steps=1.5", r"sampling\.steps: found 1\.5"),
        ("sampling.steps=0", r"sampling\.steps: found 0; expected 1 or more"),
        ("sampling.cycles=-1", r"sampling\.cycles: found -1"),
        ("sampling.noise_scale=NaN", r"sampling\.noise_scale: found nan; expected a finite number"),
        ("sampling.sigma_max=0.0001", r"sigma_max: found 0\.0001; expected more than sigma_min"),
        ("sampling.last_sigma=one", r"last_sigma: found 'one'; expected one of 'sigma_min', 'zero'"),
        ("sampling=3", r"sampling: found 3; it is a section: set sampling\.cycles"),
        ("seeds=[]", r"seeds: found none"),
        ("seeds=[1,1]", r"each seed once"),
        ("seeds=[-1]", r"seeds: found \[-1\]; expected numbers from 0 to 4294967295"),
        ("seeds=[4294967296]", r"seeds: found \[4294967296\]"),
        ("seeds=1", r"seeds: found 1; expected a list"),
        ("precision=float16", r"precision: found 'float16'; expected one of 'float32', 'bfloat16'"),
        ("alignment.rows=0", r"at least one row"),
        ("sampling.steps", r"--set sampling\.steps: expected key=value"),
        ("=3", r"expected key=value"),
        ("sampling..steps=3", r"expected key=value"),
    ],
)
def test_what_cannot_be_set_says_why(assignment: str, message: str):
    """Key, found value and what was expected are part of the error."""
    with pytest.raises(ConfigError, match=message):
        _resolve(assignment)


def test_yaml_file(tmp_path: Path):
    """A file holds the same nested keys; what is no mapping is refused."""
    path = tmp_path / "run.yaml"
    path.write_text("seeds: [1, 2]\nsampling:\n  steps: 9\n")
    settings = resolve(merge(read_yaml(path), parse_assignments(["sampling.cycles=1"])), model="m", sampling=DEFAULTS)
    assert (settings.seeds, settings.sampling.steps, settings.sampling.cycles) == ((1, 2), 9, 1)
    for text in ["- 1\n", "a: [", "1: 2\n"]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"run\.yaml"):
            read_yaml(path)
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read"):
        read_yaml(tmp_path / "absent.yaml")


def test_differences_name_each_changed_value():
    """What a second run in the same folder changes is said by name, with the old and the new value."""
    before, after = _resolve().to_json(), _resolve("sampling.steps=7", "seeds=[2]").to_json()
    assert differences(before, after) == ["sampling.steps: 40 -> 7", "seeds: [1] -> [2]"]
    assert differences(before, before) == []
