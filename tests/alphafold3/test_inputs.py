"""SI Algorithms 2-4: input features and relative positions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from structgen.alphafold3 import config as configs
from structgen.alphafold3.config import Inputs
from structgen.alphafold3.inputs import (
    InputFeatureEmbedder,
    RelativePositionEncoding,
    classes,
    one_hot,
    relative_classes,
    relative_features,
)
from tests.oracles import inputs as oracle
from tests.oracles.transformer import randomise
from tests.tolerance import FLOAT32_LAYER, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

NOT_SAME = Inputs(relpos_chain="not_same_chain")
VARIANTS = [Inputs(), Inputs(r_max=1, s_max=1), NOT_SAME, replace(NOT_SAME, r_max=2, s_max=0)]
SWITCHES = [{}, {"ref_charge": "arcsinh"}, {"ref_mask_gate": True}, {"element_offset": 1, "element_classes": 119}]


def embedder(**switches) -> InputFeatureEmbedder:
    tiny = configs.tiny()
    config = replace(tiny, inputs=replace(tiny.inputs, **switches), atoms=replace(tiny.atoms, queries=4, keys=12))
    module = InputFeatureEmbedder(config)
    randomise(module)
    return module


def test_one_hot_takes_the_nearest_bin_and_the_lower_of_two():
    """Algorithm 4 at edges, ties and far outside, against its oracle."""
    bins = torch.tensor([-1.0, 0.0, 2.0, 5.0])
    for x in (-9.0, -1.0, -0.5, -0.49, 1.0, 1.01, 2.0, 3.5, 4.0, 99.0):
        assert one_hot(torch.tensor(x), bins).tolist() == oracle.one_hot(x, bins.tolist())
    assert one_hot(torch.zeros(2, 3), bins).shape == (2, 3, 4)


@pytest.mark.parametrize("inputs", VARIANTS, ids=str)
def test_relative_positions_equal_their_oracle(inputs):
    """Algorithm 3 for every pair; the class of a pair gives back its 139 features."""
    batch = oracle.job(0)
    batch = replace(batch, residue_index=batch.residue_index * 3, sym_id=batch.asym_id % 5)  # offsets beyond both ends
    module = RelativePositionEncoding(inputs, 6)
    randomise(module)
    n = batch.tokens
    features = torch.stack([torch.stack([oracle.relative_features(batch, inputs, i, j) for j in range(n)]) for i in range(n)])
    looked_up = relative_features(inputs, torch.device("cpu"))[relative_classes(batch, inputs)[0]]
    assert_close(looked_up.double(), features, FLOAT64_IDENTITY)
    assert_close(module(batch)[0], F.linear(features, module.out.weight), FLOAT64_ORACLE)


def test_relative_positions_see_differences_only():
    """Shifted residue and token numbers change nothing; i and j exchanged mirror the clipped offsets; another entity is chain class 5."""
    batch, inputs = oracle.job(0), Inputs()
    shifted = replace(batch, residue_index=batch.residue_index + 40, token_index=batch.token_index + 7)
    assert torch.equal(relative_classes(batch, inputs), relative_classes(shifted, inputs))
    features = relative_features(inputs, torch.device("cpu"))[relative_classes(batch, inputs)[0]]
    assert features.shape[-1] == 139 and (features.sum(-1) == 3 + features[..., 132]).all()
    residue, mirrored = features[..., :65], features.transpose(0, 1)[..., :65].flip(-1)
    assert torch.equal(residue, mirrored)
    assert features[0, -1, 133:].tolist() == [0, 0, 0, 0, 0, 1]


def test_chain_rules_differ_between_copies_of_an_entity():
    """The clipped copy number counts inside an entity, or else between different chains."""
    batch = oracle.job(0)
    kinds = [relative_classes(batch, Inputs(relpos_chain=rule)) for rule in ("same_entity", "not_same_chain")]
    assert not torch.equal(*kinds)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_input_features_equal_their_oracle(switches):
    """Algorithm 2 for two jobs of different size in one batch; tokens that do not exist hold no atoms."""
    jobs = oracle.job(0), oracle.job(1, oracle.TOKENS[:6])
    module = embedder(**switches)
    actual = module(oracle.together(*jobs))
    for b, job in enumerate(jobs):
        assert_close(actual[b, : job.tokens], torch.stack(oracle.input_features(module, job)), FLOAT64_ORACLE)
    assert actual[1, jobs[1].tokens :, :24].abs().max() == 0


def test_switches_change_the_input_features():
    """Each of the switches of reference features is a different model."""
    outputs = []
    for switches in SWITCHES[:3]:
        outputs.append(embedder(**switches)(oracle.job(0)))
    assert all((outputs[x] - outputs[y]).abs().max() > 1e-3 for x, y in ((0, 1), (0, 2), (1, 2)))


def test_order_width_and_parameter_count_are_those_of_the_si():
    """384 + 32 + 32 + 1 numbers, in the order atoms, residue type, profile, mean deletion."""
    config = configs.af3()
    with torch.device("meta"):
        assert sum(p.numel() for p in InputFeatureEmbedder(config).parameters()) == 942_400
        assert sum(p.numel() for p in RelativePositionEncoding(config.inputs, config.c_z).parameters()) == 17_792
    assert config.inputs.c_s_inputs == 449
    batch = oracle.job(0)
    s_inputs = embedder()(batch)
    assert s_inputs[0, :, 24:56].argmax(-1).tolist() == batch.restype[0].tolist()
    assert torch.equal(s_inputs[0, :, 56:88].float(), batch.profile[0]) and torch.equal(s_inputs[0, :, 88].float(), batch.deletion_mean[0])


def test_the_short_alphabet_joins_the_two_unknown_nucleotides():
    """31 classes: residue types and profiles move to AlphaFold 3's places, N and DN into one; nothing is lost."""
    batch = oracle.job(0)
    long, short = embedder()(batch)[0], embedder(restypes=31)(batch)[0]
    place = classes(Inputs(restypes=31), torch.device("cpu"))
    assert short.shape[1] == long.shape[1] - 2
    assert short[:, 24:55].argmax(-1).tolist() == place[batch.restype[0]].tolist()
    profile = short[:, 55:86]
    for new in range(31):
        assert_close(profile[:, new], batch.profile[0, :, place == new].sum(-1).double(), FLOAT32_LAYER)


def test_the_pose_of_a_conformer_is_seen():
    """Reference positions enter as they are: a moved conformer gives other features (not an invariance, by the SI's design)."""
    batch, module = oracle.job(0), embedder()
    moved = replace(batch, ref_pos=batch.ref_pos + 1.0)
    assert (module(batch) - module(moved)).abs().max() > 1e-3
