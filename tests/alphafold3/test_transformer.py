"""SI Algorithms 23-26: the conditioned transformer."""

from __future__ import annotations

import pytest
import torch

from structgen.alphafold3.transformer import AdaLN, AttentionPairBias, ConditionedTransition, DiffusionTransformer, Everyone, pair_biases
from tests.oracles import transformer as oracle
from tests.tolerance import BFLOAT16, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

N, C, C_S, C_Z, HEADS = 7, 12, 10, 5, 3
SWITCHES = [("per_block", "shared"), ("per_stack", "separate"), ("per_block", "chained")]


def stack(pair_norm: str = "per_block", kv_norm: str = "shared") -> DiffusionTransformer:
    module = DiffusionTransformer(
        c=C, c_s=C_S, c_z=C_Z, blocks=2, heads=HEADS, transition=2, pair_norm=pair_norm, kv_norm=kv_norm  # type: ignore[arg-type]
    )
    oracle.randomise(module)
    return module


def rows(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_adaln_and_conditioned_transition_equal_their_oracles(rng):
    """Algorithms 26 and 25, one row at a time."""
    a, s = rows(rng, 2, 3, N, C), rows(rng, 2, 3, N, C_S)
    for module, literal in ((AdaLN(C, C_S), oracle.adaln), (ConditionedTransition(C, C_S, 2), oracle.conditioned_transition)):
        oracle.randomise(module)
        expected = torch.stack([literal(module, x, y) for x, y in zip(a.reshape(-1, C), s.reshape(-1, C_S), strict=True)])
        assert_close(module(a, s), expected.view(a.shape), FLOAT64_ORACLE)


@pytest.mark.parametrize(("pair_norm", "kv_norm"), SWITCHES)
def test_the_transformer_equals_its_oracle(rng, pair_norm, kv_norm):
    """Algorithm 23 with masked keys, two examples, two samples each."""
    module = stack(pair_norm, kv_norm)
    a, s, z = rows(rng, 2, 2, N, C), rows(rng, 2, 2, N, C_S), rows(rng, 2, N, N, C_Z)
    seen = torch.tensor([[True] * N, [True, True, False, True, True, False, False]])
    actual = module(a, s, pair_biases(module.pair_weight(), z, seen), Everyone())
    for b in range(2):
        keys = seen[b].nonzero().flatten().tolist()
        for k in range(2):
            pair, everyone = (lambda i, j, b=b: z[b, i, j]), (lambda i, keys=keys: keys)
            expected = oracle.diffusion_transformer(module, list(a[b, k]), list(s[b, k]), pair, everyone)
            assert_close(actual[b, k], torch.stack(expected), FLOAT64_ORACLE)


def test_switches_are_different_models(rng):
    """With the same weights where they share them, every switch changes the output."""
    a, s, z = rows(rng, 1, 1, N, C), rows(rng, 1, 1, N, C_S), rows(rng, 1, N, N, C_Z)
    seen = torch.ones(1, N, dtype=torch.bool)
    base = stack("per_block", "shared")
    outputs = []
    for switches in (("per_block", "shared"), ("per_stack", "shared"), ("per_block", "separate"), ("per_block", "chained")):
        module = stack(*switches)
        module.load_state_dict({k: v for k, v in base.state_dict().items() if k in module.state_dict()}, strict=False)
        outputs.append(module(a, s, pair_biases(module.pair_weight(), z, seen), Everyone()))
    for x in range(4):
        for y in range(x):
            assert (outputs[x] - outputs[y]).abs().max() > 1e-3


def test_samples_share_what_does_not_differ_between_them(rng):
    """A conditioning of size 1 is that of every sample; a batch of samples is a loop over samples."""
    module = stack()
    a, s, z = rows(rng, 1, 4, N, C), rows(rng, 1, 1, N, C_S), rows(rng, 1, N, N, C_Z)
    bias = pair_biases(module.pair_weight(), z, torch.ones(1, N, dtype=torch.bool))
    together = module(a, s, bias, Everyone())
    assert_close(together, module(a, s.expand(1, 4, N, C_S), bias, Everyone()), FLOAT64_IDENTITY)
    assert_close(together, torch.cat([module(a[:, k : k + 1], s, bias, Everyone()) for k in range(4)], dim=1), FLOAT64_IDENTITY)


def test_biases_of_all_blocks_are_made_of_any_rows_of_pairs(rng):
    """The biases of some rows of z are those rows of the biases, and keys that do not exist have a large negative one."""
    module = stack()
    z, seen = rows(rng, 2, N, N, C_Z), torch.rand(2, N, generator=rng) > 0.4
    whole = pair_biases(module.pair_weight(), z, seen)
    assert whole.shape == (2, module.biases, N, N)
    assert_close(pair_biases(module.pair_weight(), z[:, 2:5], seen), whole[:, :, 2:5], FLOAT64_IDENTITY)
    assert (whole.permute(0, 3, 1, 2)[~seen] < -1e8).all() and (whole.permute(0, 3, 1, 2)[seen] > -1e3).all()


def test_initialisation_is_that_of_the_si(rng):
    """AdaLN starts as half of LN_0(a), gates at a half, the closing gates at sigmoid(-2) = 0.1192; biases where the SI has them."""
    a, s = torch.randn(1, 1, N, C, generator=rng), torch.randn(1, 1, N, C_S, generator=rng)
    norm = torch.nn.functional.layer_norm(a, (C,))
    assert_close(AdaLN(C, C_S)(a, s), norm / 2, FLOAT64_IDENTITY)
    attend = AttentionPairBias(C, C_S, HEADS, "shared")
    assert attend.gate.weight.abs().max() == 0 and attend.out.weight.abs().max() > 0
    for module in (attend, ConditionedTransition(C, C_S, 2)):
        assert torch.allclose(torch.sigmoid(module.s_gate(s)), torch.tensor(0.11920292))
    biased = {name for name, p in attend.named_parameters() if name.endswith("bias")}
    assert biased == {"norm.scale.bias", "q.bias", "s_gate.bias"}


def test_parameter_counts_are_those_of_the_si():
    """A token block of the SI's sizes has 8,264,320 parameters, an atom block 279,504 or 312,528 with an AdaLN of the keys."""

    def count(**sizes) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in DiffusionTransformer(blocks=1, transition=2, pair_norm="per_block", **sizes).parameters())

    assert count(c=768, c_s=384, c_z=128, heads=16) == 8_264_320
    assert count(c=128, c_s=128, c_z=16, heads=4) == 279_504
    assert count(c=128, c_s=128, c_z=16, heads=4, kv_norm="separate") == 312_528


def test_bfloat16_follows_float64(rng):
    """The whole transformer in bfloat16 stays within the tolerance of bfloat16."""
    module = stack()
    a, s, z = rows(rng, 1, 2, N, C), rows(rng, 1, 1, N, C_S), rows(rng, 1, N, N, C_Z)
    seen = torch.ones(1, N, dtype=torch.bool)
    expected = module(a, s, pair_biases(module.pair_weight(), z, seen), Everyone())
    low = module.to(torch.bfloat16)
    a, s, z = a.bfloat16(), s.bfloat16(), z.bfloat16()
    with torch.no_grad():
        assert_close(low(a, s, pair_biases(low.pair_weight(), z, seen), Everyone()), expected, BFLOAT16)
