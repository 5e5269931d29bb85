"""SI Algorithms 20-22: the diffusion module."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from structgen.alphafold3 import config as configs
from structgen.alphafold3.config import Config
from structgen.alphafold3.diffusion import DiffusionConditioning, DiffusionModule, FourierEmbedding
from structgen.alphafold3.trunk import TrunkOutput
from structgen.features.batch import Batch
from structgen.generative import Denoiser, Preconditioned, VarianceExploding
from tests.oracles import diffusion as oracle
from tests.oracles.inputs import TOKENS, job, padded, together
from tests.oracles.transformer import randomise
from tests.tolerance import BFLOAT16, FLOAT32_LAYER, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

SD = 16.0
SWITCHES = [{}, {"relpos": "raw"}, {"pair_norm": "per_stack"}, {"fourier_bias": "uniform"}]


def tiny(**switches) -> Config:
    """With windows small enough that a job of 29 atoms has eight of them."""
    config = configs.tiny()
    atoms = replace(config.atoms, queries=4, keys=12)
    return replace(config, diffusion=replace(config.diffusion, atoms=atoms, **switches))


def module(config: Config) -> DiffusionModule:
    built = DiffusionModule(config)
    randomise(built)
    return built


def trunk(rng: torch.Generator, batch: Batch, config: Config, dtype: torch.dtype = torch.float64) -> TrunkOutput:
    b, n = batch.token_mask.shape
    shapes = ((b, n, config.inputs.c_s_inputs), (b, n, config.c_s), (b, n, n, config.c_z))
    return TrunkOutput(*(torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype) for shape in shapes))


def positions(rng: torch.Generator, batch: Batch, samples: int) -> torch.Tensor:
    return torch.randn(len(batch.atom_mask) * samples, batch.atoms, 3, generator=rng, dtype=torch.float64)


def cut(out: TrunkOutput, example: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return out.s_inputs[example, :n], out.s[example, :n], out.z[example, :n, :n]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_the_denoiser_is_algorithm_20(rng, switches):
    """With the core's preconditioning: two jobs of different size, two samples each, every sample at its own noise level."""
    config, jobs = tiny(**switches), (job(0), job(1, TOKENS[:7]))
    batch, network = together(*jobs), module(tiny(**switches))
    given, levels = trunk(rng, batch, config), torch.tensor([3.0, 160.0, 0.02, 16.0], dtype=torch.float64)
    x = positions(rng, batch, 2) * (SD + levels)[:, None, None]
    with torch.no_grad():
        cond = network.condition(batch, given)
        actual = Denoiser(network, VarianceExploding(), Preconditioned(SD))(x, levels, levels, cond).data
        for k in range(4):
            one, b = jobs[k // 2], k // 2
            expected = oracle.denoise(network, one, cut(given, b, one.tokens), x[k, : one.atoms], float(levels[k]), SD)
            assert_close(actual[k, : one.atoms], expected, FLOAT64_ORACLE)


def test_switches_are_different_models(rng):
    """Every switch changes the update, given the same weights."""
    batch, outputs = job(0), []
    given, r, times = trunk(rng, batch, tiny()), positions(rng, batch, 1), torch.tensor([[0.2]], dtype=torch.float64)
    base = module(tiny()).state_dict()
    for switches in SWITCHES:
        network = module(tiny(**switches))
        own = network.state_dict()
        same = {k: v for k, v in base.items() if k in own and v.shape == own[k].shape and not k.endswith("fourier.b")}
        network.load_state_dict(same, strict=False)
        outputs.append(network(r, times, network.condition(batch, given)))
    for x in range(len(outputs)):
        for y in range(x):
            assert (outputs[x] - outputs[y]).abs().max() > 1e-3, (SWITCHES[x], SWITCHES[y])


def test_with_and_without_gradients_agree(rng):
    """In one piece with gradients, or row by row and window by window without; at equal noise levels conditioned once for all."""
    batch, network = together(job(0), job(1, TOKENS[:7])), module(tiny())
    given, r = trunk(rng, batch, tiny()), positions(rng, batch, 3)
    for times in (torch.full((6, 1), 0.3), torch.linspace(-1, 1, 6)[:, None]):
        kept = network(r, times.double(), network.condition(batch, given))
        with torch.no_grad():
            assert_close(network(r, times.double(), network.condition(batch, given)), kept, FLOAT64_ORACLE)


def test_rows_of_pairs_are_worked_on_in_blocks(rng, monkeypatch):
    """Blocks of three rows give the biases of the whole."""
    monkeypatch.setattr("structgen.alphafold3.transition.ROWS", 3 * 10)
    batch, network = job(0), module(tiny())
    given = trunk(rng, batch, tiny())
    whole = network.condition(batch, given)
    with torch.no_grad():
        blocked = network.condition(batch, given)
    assert isinstance(blocked.bias, torch.Tensor) and isinstance(whole.bias, torch.Tensor)
    assert_close(blocked.bias, whole.bias, FLOAT64_ORACLE)
    for blocked_bias, whole_bias in zip(blocked.atoms.biases, whole.atoms.biases, strict=True):
        assert_close(blocked_bias, whole_bias, FLOAT64_ORACLE)


def test_a_condition_for_one_call_is_the_same_condition(rng):
    """Biases made when their block runs give the update of biases that are kept."""
    batch, network = together(job(0), job(1, TOKENS[:7])), module(tiny())
    given, r, times = trunk(rng, batch, tiny()), positions(rng, batch, 2), torch.full((4, 1), 0.2, dtype=torch.float64)
    with torch.no_grad():
        kept = network(r, times, network.condition(batch, given))
        assert_close(network(r, times, network.condition_once(batch, given)), kept, FLOAT64_ORACLE)


@pytest.mark.parametrize(("tokens", "atoms"), [(1, 0), (0, 1), (3, 7), (5, 100)])
@pytest.mark.parametrize("rule", ["centred", "shifted"])
def test_padding_changes_nothing(rng, tokens, atoms, rule):
    """Any number of tokens and atoms that do not exist, holding anything."""
    config = tiny()
    config = replace(config, diffusion=replace(config.diffusion, atoms=replace(config.diffusion.atoms, key_window=rule)))
    batch, network = job(0), module(config)
    given, r, times = trunk(rng, batch, config), positions(rng, batch, 2), torch.full((2, 1), 0.1, dtype=torch.float64)
    before = network(r, times, network.condition(batch, given))
    wide = trunk(rng, padded(batch, tokens, atoms), config)
    n = batch.tokens
    wide.s_inputs[:, :n], wide.s[:, :n], wide.z[:, :n, :n] = given.s_inputs, given.s, given.z
    more = torch.cat([r, torch.full((2, atoms, 3), 4.0, dtype=torch.float64)], dim=1)
    after = network(more, times, network.condition(padded(batch, tokens, atoms), wide))
    assert_close(after[:, : batch.atoms], before, FLOAT64_ORACLE)
    assert after[:, batch.atoms :].abs().sum() == 0


def test_permuted_chains_permute_the_update(rng):
    """The order of chains is no information (as long as every atom sees every other one)."""
    config, batch = configs.tiny(), job(0)
    network, given, r = module(config), trunk(rng, batch, config), positions(rng, batch, 1)
    times = torch.full((1, 1), 0.1, dtype=torch.float64)
    order = torch.argsort(-batch.asym_id[0], stable=True)
    rank = torch.argsort(order)
    atoms = torch.argsort(rank[batch.atom_to_token[0]], stable=True)
    names = ("token_index", "residue_index", "asym_id", "entity_id", "sym_id", "restype", "profile", "deletion_mean", "token_mask")
    other = replace(batch, **{name: getattr(batch, name)[:, order] for name in names})
    names = ("ref_pos", "ref_charge", "ref_mask", "ref_element", "ref_atom_name_chars", "ref_space_uid", "atom_mask")
    other = replace(other, **{name: getattr(batch, name)[:, atoms] for name in names}, atom_to_token=rank[batch.atom_to_token][:, atoms])
    turned = TrunkOutput(given.s_inputs[:, order], given.s[:, order], given.z[:, order][:, :, order])
    before = network(r, times, network.condition(batch, given))
    assert_close(network(r[:, atoms], times, network.condition(other, turned)), before[:, atoms], FLOAT64_ORACLE)


def test_the_condition_knows_no_noise_level(rng):
    """Made once or made again it is the same, bit for bit, and no call changes it."""
    batch, network = job(0), module(tiny())
    given, r = trunk(rng, batch, tiny()), positions(rng, batch, 2)
    with torch.no_grad():
        cond, again = network.condition(batch, given), network.condition(batch, given)
        first = network(r, torch.full((2, 1), 0.3), cond)
        network(r * 2, torch.full((2, 1), -0.3), cond)
        assert torch.equal(network(r, torch.full((2, 1), 0.3), cond), first)
    assert isinstance(cond.bias, torch.Tensor) and isinstance(again.bias, torch.Tensor) and torch.equal(cond.bias, again.bias)
    assert all(map(torch.equal, cond.atoms.biases, again.atoms.biases))


def test_every_parameter_learns(rng):
    """A loss on the update has a gradient in every parameter and in the trunk."""
    batch, network = together(job(0), job(1)), module(tiny())
    given = trunk(rng, batch, tiny())
    for part in (given.s_inputs, given.s, given.z):
        part.requires_grad_()
    network(positions(rng, batch, 2), torch.linspace(-1, 1, 4).double()[:, None], network.condition(batch, given)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert all(part.grad is not None and part.grad.abs().max() > 0 for part in (given.s_inputs, given.s, given.z))


def test_a_new_module_predicts_c_skip_x(rng):
    """With the SI's initialisation the update is exactly 0, so the denoised positions are c_skip x."""
    batch, network = job(0), DiffusionModule(tiny())
    given, r = trunk(rng, batch, tiny(), torch.float32), positions(rng, batch, 2).float()
    cond = network.condition(batch, given)
    assert network(r, torch.zeros(2, 1), cond).abs().max() == 0
    x, t = r * 20, torch.full((2,), 8.0)
    data = Denoiser(network, VarianceExploding(), Preconditioned(SD))(x, t, t, cond).data
    assert_close(data, x * SD**2 / (SD**2 + 64), FLOAT32_LAYER)


def test_bfloat16_keeps_positions(rng):
    """A bfloat16 module gives float32 updates near those of float64, and its Fourier numbers are not rounded."""
    batch, network = job(0), module(tiny())
    given, r, times = trunk(rng, batch, tiny()), positions(rng, batch, 2), torch.full((2, 1), 0.3)
    w = network.conditioning.fourier.w.clone()
    with torch.no_grad():
        expected = network(r, times, network.condition(batch, given))
        network.to(torch.bfloat16)
        low = TrunkOutput(given.s_inputs.bfloat16(), given.s.bfloat16(), given.z.bfloat16())
        cond = network.condition(batch, low)
        actual = network(r.float(), times, cond)
    assert actual.dtype == torch.float32 and isinstance(cond.bias, torch.Tensor) and cond.bias.dtype == torch.bfloat16
    assert_close(actual, expected, 5 * BFLOAT16)  # a stack of six attentions and as many transitions on random weights
    assert torch.equal(network.conditioning.fourier.w.double(), w.float().double())


def test_fourier_numbers_travel_in_the_checkpoint():
    """Algorithm 22: drawn once with a fixed seed, saved and loaded; b has period 1; values within [-1, 1]."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for kind in ("normal", "uniform"):
        first, second = FourierEmbedding(32, kind), FourierEmbedding(32, kind)
        assert set(first.state_dict()) == {"w", "b"} and torch.equal(first.w, second.w) and torch.equal(first.b, second.b)
        second.load_state_dict({"w": first.w + 1, "b": first.b * 2})
        assert (first(x) - second(x)).abs().max() > 0.1
        second.load_state_dict({"w": first.w, "b": first.b + 3})
        assert_close(second(x).double(), first(x).double(), FLOAT32_LAYER)
        assert first(x).abs().max() <= 1
        exact = first.double()
        assert_close(exact(x)[3], oracle.fourier(exact, x[3]), FLOAT64_IDENTITY)
    assert (0 <= FourierEmbedding(64, "uniform").b).all() and (FourierEmbedding(64, "normal").b < 0).any()


def test_sizes_are_those_of_the_si():
    """203,058,929 parameters, 2,438,209 of them in Algorithm 21."""
    with torch.device("meta"):
        assert sum(p.numel() for p in DiffusionModule(configs.af3()).parameters()) == 203_058_929
        assert sum(p.numel() for p in DiffusionConditioning(configs.af3()).parameters()) == 2_438_209
