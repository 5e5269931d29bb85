"""Configurations survive JSON, and every mistake is named with its path."""

from __future__ import annotations

import json

import pytest

from structgen.alphafold3.config import Config, af3, small, tiny
from structgen.configuration import from_mapping
from structgen.errors import ConfigError
from structgen.train import Optimisation


@pytest.mark.parametrize("preset", [af3, small, tiny])
def test_config_equals_itself_after_json(preset):
    """What a checkpoint's header holds is the configuration, whole."""
    assert Config.from_json(preset().to_json()) == preset()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("msa", "bloks"), 1, "config.msa: unknown key 'bloks'; did you mean 'blocks'"),
        (("msa", "blocks"), "four", "config.msa.blocks: found 'four' of type str; expected int"),
        (("pairformer", "pair", "end_node_bias"), "kj", "config.pairformer.pair.end_node_bias: found 'kj'; expected one of 'ki', 'ik'"),
        (("diffusion",), 3, "config.diffusion: found 3; expected a mapping"),
        (("msa", "blocks"), True, "config.msa.blocks: found True of type bool"),
    ],
)
def test_every_mistake_is_named(path, value, message):
    """The error says where, what was found and what was expected."""
    values = json.loads(tiny().to_json())
    place = values
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        Config.from_json(json.dumps(values))
    assert message in str(caught.value)


def test_tuples_and_integers_for_floats_are_read():
    """YAML knows lists and integers; the dataclass has tuples and floats."""
    assert from_mapping(Optimisation, {"betas": [0, 0.9], "clip_norm": 1}) == Optimisation(betas=(0.0, 0.9), clip_norm=1.0)
    with pytest.raises(ConfigError, match="found 3 values; expected 2"):
        from_mapping(Optimisation, {"betas": [0, 0.9, 1]})
