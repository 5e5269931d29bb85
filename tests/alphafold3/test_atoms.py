"""SI Algorithms 5-7: atoms in windows, atoms and tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from structgen.alphafold3 import config as configs
from structgen.alphafold3.atoms import AtomAttentionDecoder, AtomAttentionEncoder, AtomLayout, TrunkFeatures, TrunkToAtoms, float32
from structgen.alphafold3.config import Atoms, Inputs
from structgen.features.batch import Batch
from structgen.nn.linear import Linear
from tests.oracles import atoms as oracle
from tests.oracles.inputs import TOKENS, job, padded, together
from tests.oracles.transformer import randomise
from tests.tolerance import FLOAT32_LAYER, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

C_S, C_Z, C_TOKEN = 6, 5, 9
SMALL = Atoms(c_atom=8, c_pair=4, blocks=2, heads=2, queries=4, keys=12)
SWITCHES = [
    {},
    {"q_init": "before"},
    {"kv_norm": "separate"},
    {"kv_norm": "chained"},
    {"key_window": "shifted"},
    {"pair_norm": "per_stack"},
]


class Part:
    """Encoder, decoder and the projections of the trunk, with random weights, run as the diffusion module runs them."""

    def __init__(self, **switches) -> None:
        config = replace(SMALL, **switches)
        self.encoder = AtomAttentionEncoder(Inputs(), config, C_TOKEN)
        self.decoder = AtomAttentionDecoder(config, C_TOKEN)
        self.to_atoms = TrunkToAtoms(config, C_S, C_Z)
        for seed, module in enumerate((self.encoder, self.decoder, self.to_atoms)):
            randomise(module, seed)

    def __call__(self, batch: Batch, s: torch.Tensor, z: torch.Tensor, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [b, k, n, c_token] and positions [b, k, atoms, 3]."""
        layout = AtomLayout.of(batch, self.encoder.config)
        features = TrunkFeatures(self.to_atoms.tokens(s), self.to_atoms.pairs(z))
        cond = self.encoder.condition(batch, layout, (self.encoder.transformer, self.decoder.transformer), features)
        shape = r.shape
        r = layout.pad(r.flatten(0, 1)).unflatten(0, shape[:2])
        a, q = self.encoder(layout, cond, self.to_atoms.positions(r))
        return a, self.decoder(a, q, layout, cond)[:, :, : batch.atoms]


def trunk(rng: torch.Generator, batch: Batch, samples: int = 2) -> tuple[torch.Tensor, ...]:
    b, n = batch.token_mask.shape
    shapes = ((b, n, C_S), (b, n, n, C_Z), (b, samples, batch.atoms, 3))
    return tuple(torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_encoder_and_decoder_equal_their_oracles(rng, switches):
    """Algorithms 5-7 for two jobs of different size in one batch, two samples each, without gradients (pairs made window by window)."""
    jobs = job(0), job(1, TOKENS[:7])
    batch, part = together(*jobs), Part(**switches)
    s, z, r = trunk(rng, batch)
    with torch.no_grad():
        tokens, positions = part(batch, s, z, r)
        for b, one in enumerate(jobs):
            n, l = one.tokens, one.atoms  # noqa: E741
            for k in range(2):
                a, skip = oracle.encode(part.encoder, one, part.to_atoms, (s[b, :n], z[b, :n, :n], r[b, k, :l]))
                assert_close(tokens[b, k, :n], torch.stack(a), FLOAT64_ORACLE)
                expected = torch.stack(oracle.decode(part.decoder, a, skip, one))
                assert_close(positions[b, k, :l], expected, FLOAT64_ORACLE)


def test_switches_are_different_models(rng):
    """Every switch changes the positions, given the same weights."""
    batch = job(0)
    s, z, r = trunk(rng, batch)
    base, outputs = Part(), []
    for switches in SWITCHES:
        part = Part(**switches)
        for name in ("encoder", "decoder", "to_atoms"):
            mine, shared = getattr(part, name), getattr(base, name).state_dict()
            mine.load_state_dict({k: v for k, v in shared.items() if k in mine.state_dict()}, strict=False)
        outputs.append(part(batch, s, z, r)[1])
    for x in range(len(outputs)):
        for y in range(x):
            assert (outputs[x] - outputs[y]).abs().max() > 1e-3, (SWITCHES[x], SWITCHES[y])


@pytest.mark.parametrize("rule", ["centred", "shifted"])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 127, 128, 129, 300])
def test_windows_are_those_of_the_si(count, rule):
    """32 queries see 128 keys: indices against a loop over atoms, with and without padding after the last atom."""
    config = Atoms(key_window=rule)
    batch = job(0, ((1, 1, count),))
    expected = oracle.sees(count, config)
    for one in (batch, padded(batch, 1, 70)):
        layout = AtomLayout.of(one, config)
        for atom in range(count):
            window = atom // 32
            seen = layout.neighbours[0, window][layout.neighbour_mask[0, window]]
            assert seen.tolist() == expected[atom]


def test_a_hole_in_the_atoms_is_not_seen(rng):
    """An atom that does not exist in the middle of the list changes nobody else's output, whatever it holds."""
    batch, part = job(0), Part()
    mask = batch.atom_mask.clone()
    mask[0, 3] = False
    batch = replace(batch, atom_mask=mask)
    s, z, r = trunk(rng, batch)
    before = part(batch, s, z, r)
    changed = r.clone()
    changed[:, :, 3] += 10
    ref = batch.ref_pos.clone()
    ref[0, 3] -= 5
    after = part(replace(batch, ref_pos=ref), s, z, changed)
    assert_close(after[0], before[0], FLOAT64_IDENTITY)
    assert_close(after[1][:, :, mask[0]], before[1][:, :, mask[0]], FLOAT64_IDENTITY)


def test_atoms_and_tokens(rng):
    """A token's row reaches all of its atoms; tokens are means of their atoms, and 0 where they have none."""
    batch = together(job(0), job(1, TOKENS[:6]))
    layout = AtomLayout.of(batch, SMALL)
    x = torch.randn(2, 3, batch.tokens, 4, generator=rng)
    back = layout.to_tokens(layout.to_atoms(x))
    assert_close(back[0], x[0], FLOAT32_LAYER)
    assert_close(back[1, :, :6], x[1, :, :6], FLOAT32_LAYER)
    assert back[1, :, 6:].abs().max() == 0
    atoms = torch.randn(2, 3, layout.mask.shape[1], 4, generator=rng)
    assert_close(layout.to_tokens(atoms)[0, 1, 0], atoms[0, 1, :5].mean(0), FLOAT32_LAYER)
    assert torch.equal(layout.to_tokens(atoms), layout.to_tokens(atoms))


def test_row_look_ups_have_their_gradients():
    """Windows, tokens to atoms and atoms to tokens by finite differences."""
    batch = together(job(0, TOKENS[:3]), job(1, TOKENS[:2]))
    layout = AtomLayout.of(batch, SMALL)
    atoms = torch.randn(2, 1, layout.mask.shape[1], 1, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(2, 2, layout.tokens, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layout.keys, atoms)
    assert torch.autograd.gradcheck(layout.to_tokens, atoms)
    assert torch.autograd.gradcheck(layout.to_atoms, tokens)


def test_sizes_and_initialisation_are_those_of_the_si():
    """Parameter counts of Algorithms 5 and 6; the last matrix of each pair and trunk path starts at zero."""
    config = configs.af3()
    with torch.device("meta"):
        encoder = AtomAttentionEncoder(config.inputs, config.diffusion.atoms, 768)
        trunk_part = TrunkToAtoms(config.diffusion.atoms, config.c_s, config.c_z)
        decoder = AtomAttentionDecoder(config.diffusion.atoms, 768)
    assert sum(p.numel() for m in (encoder, trunk_part) for p in m.parameters()) == 1_043_648
    assert sum(p.numel() for p in decoder.parameters()) == 937_328
    small, projections = AtomAttentionEncoder(Inputs(), SMALL, C_TOKEN), TrunkToAtoms(SMALL, C_S, C_Z)
    for layer in (small.pairs.mlp[5], projections.single, projections.pair, AtomAttentionDecoder(SMALL, 3).out):
        assert layer.weight.abs().max() == 0
    assert AtomAttentionDecoder(replace(SMALL, decoder_out_init="default"), 3).out.weight.abs().max() > 0


def test_positions_are_not_rounded_to_bfloat16(rng):
    """A shift of 0.01 that bfloat16 cannot hold at 10 reaches the projection of a bfloat16 module, and its result is float32."""
    linear = Linear(3, 8).to(torch.bfloat16)
    x = torch.full((1, 3), 10.0)
    assert torch.equal((x + 0.01).bfloat16(), x.bfloat16())
    moved = float32(linear, x + 0.01) - float32(linear, x)
    assert moved.dtype == torch.float32
    assert_close(moved, 0.01 * linear.weight.float().sum(1)[None], FLOAT32_LAYER)
