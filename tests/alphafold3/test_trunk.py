"""SI Algorithm 1 without the diffusion: recycling, gradients of the last cycle, padding, order; the distogram."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from structgen.alphafold3.config import Config, Distogram, Inputs, Msa, tiny
from structgen.alphafold3.msa import draw_rows
from structgen.alphafold3.trunk import DistogramHead, Trunk
from structgen.features.batch import Batch
from structgen.features.featurise import pad
from tests.alphafold3.crop import crop
from tests.alphafold3.weights import randomise
from tests.tolerance import BFLOAT16, FLOAT32_STACK, FLOAT64_IDENTITY, assert_close

ALL_ROWS = replace(tiny(), msa=replace(tiny().msa, subset="all"))


def rich(rng, examples=1) -> Batch:
    """A batch in which every feature that the trunk reads is drawn."""
    batch = crop(examples)
    n, l = batch.tokens, batch.atoms  # noqa: E741
    rows, slots = (examples, 5, n), (examples, 2, n)
    return replace(
        batch,
        profile=torch.rand(examples, n, 32, generator=rng),
        deletion_mean=torch.rand(examples, n, generator=rng),
        ref_pos=torch.randn(examples, l, 3, generator=rng),
        msa=torch.randint(0, 32, rows, generator=rng),
        has_deletion=torch.randint(0, 2, rows, generator=rng).float(),
        deletion_value=torch.rand(rows, generator=rng),
        msa_mask=torch.ones(rows, dtype=torch.bool),
        template_restype=torch.randint(0, 32, slots, generator=rng),
        template_frame=5 * torch.randn(*slots, 3, 3, generator=rng),
        template_frame_mask=torch.rand(slots, generator=rng) > 0.3,
        template_pseudo_beta=15 * torch.randn(*slots, 3, generator=rng),
        template_pseudo_beta_mask=torch.rand(slots, generator=rng) > 0.3,
    )


def make(rng, config: Config = ALL_ROWS) -> Trunk:
    return randomise(Trunk(config), rng, scale=0.15).eval()


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.mark.parametrize("z_init_from", ["s_inputs", "s_init"])
def test_two_cycles_by_hand(z_init_from, rng):
    """Lines 1 to 14 written out, with rows of the alignment drawn anew in each cycle and every `z_init_from`."""
    config = replace(tiny(), z_init_from=z_init_from)
    trunk, batch = make(rng, config), rich(rng)
    s_inputs = trunk.inputs(batch)
    s_init = trunk.s_init(s_inputs)
    u = s_inputs if z_init_from == "s_inputs" else s_init
    z_init = trunk.z_rows(u)[:, :, None] + trunk.z_columns(u)[:, None] + trunk.relative(batch) + trunk.bonds(batch.token_bonds[..., None])
    s, z, draws = torch.zeros_like(s_init), torch.zeros_like(z_init), seed()
    for _ in range(2):
        z = z_init + trunk.z_recycle(trunk.z_norm(z))
        z = z + trunk.template(batch, z, None)
        z = trunk.msa(draw_rows(batch, config.msa, draws), z, s_inputs, None)
        s = s_init + trunk.s_recycle(trunk.s_norm(s))
        s, z = trunk.pairformer(s, z, None)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            out = trunk(batch, cycles=2, rng=seed())
        for got, expected in zip((out.s_inputs, out.s, out.z), (s_inputs, s, z), strict=True):
            assert_close(got, expected, FLOAT32_STACK)


def test_the_first_cycle_is_recycled_too(rng):
    """Lin(LN(0)) is the offset's projection: it is added even with one cycle."""
    trunk, batch = make(rng), rich(rng)
    with torch.no_grad():
        before = trunk(batch, cycles=1, rng=seed())
        trunk.z_norm.bias.add_(1)
        trunk.s_norm.bias.add_(1)
        after = trunk(batch, cycles=1, rng=seed())
    assert (before.z - after.z).abs().max() > 1e-3 and (before.s - after.s).abs().max() > 1e-3


def test_gradients_flow_through_the_last_cycle_alone(rng):
    """Two cycles give the gradient of one cycle that starts from the first one's result; the template and the alignment are in it."""
    trunk, batch = make(rng), rich(rng)
    out = trunk(batch, cycles=2, rng=seed())
    (out.s.sum() + out.z.square().sum()).backward()
    assert all(p.grad is not None for n, p in trunk.named_parameters() if not n.startswith("msa.blocks.1"))
    got = {n: p.grad.clone() for n, p in trunk.named_parameters() if p.grad is not None}
    trunk.zero_grad()
    start = trunk._start(batch)
    with torch.no_grad():
        s, z = trunk._cycle(batch, start, torch.zeros_like(start.s), torch.zeros_like(start.z), seed())
    s, z = trunk._cycle(batch, start, s.requires_grad_(), z.requires_grad_(), seed())
    (s.sum() + z.square().sum()).backward()
    for name, parameter in trunk.named_parameters():
        if name in got:
            assert_close(got[name], parameter.grad, FLOAT32_STACK)


def test_every_cycle_draws_its_own_rows(rng):
    """The generator's state decides the rows; the same state gives the same bits."""
    config = replace(tiny(), msa=replace(tiny().msa, subset="random_depth"))
    trunk, batch = make(rng, config), rich(rng)
    with torch.no_grad():
        first, same, other = (trunk(batch, cycles=1, rng=torch.Generator().manual_seed(x)).z for x in (0, 0, 5))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "sizes", [{"tokens": 16}, {"atoms": 90}, {"rows": 9}, {"templates": 4}, {"tokens": 13, "atoms": 101, "rows": 6, "templates": 3}]
)
def test_padding_changes_no_real_output(sizes, rng):
    """Tokens, atoms, alignment rows and template slots padded by any amount."""
    trunk, batch = make(rng), rich(rng, examples=2)
    n = batch.tokens
    with torch.no_grad():
        plain, padded = (trunk(x, cycles=2, rng=seed()) for x in (batch, pad(batch, **sizes)))
    assert_close(padded.s_inputs[:, :n], plain.s_inputs, FLOAT32_STACK)
    assert_close(padded.s[:, :n], plain.s, FLOAT32_STACK)
    assert_close(padded.z[:, :n, :n], plain.z, FLOAT32_STACK)


def test_permuting_the_tokens_permutes_the_outputs(rng):
    """Tokens in another order, their atoms with them: no part of the trunk counts places (the atoms' windows hold all atoms here)."""
    trunk = make(rng, replace(ALL_ROWS, atoms=replace(ALL_ROWS.atoms, keys=512)))
    batch = rich(rng)
    order = torch.randperm(batch.tokens, generator=rng)
    place = torch.empty_like(order)
    place[order] = torch.arange(batch.tokens)
    atoms = place[batch.atom_to_token[0]].argsort(stable=True)
    axes = {f.name: str(f.type).replace("'", '"').split('"')[1].split() for f in fields(Batch)}
    moved = {}
    for name, x in batch.tensors().items():
        for dim, axis in enumerate(axes[name]):
            x = x.index_select(dim, {"n": order, "l": atoms}[axis]) if axis in "nl" else x
        moved[name] = place[x] if name == "atom_to_token" else x
    with torch.no_grad():
        plain, turned = (trunk(x, cycles=2, rng=seed()) for x in (batch, Batch(**moved)))
    assert_close(turned.s, plain.s[:, order], FLOAT32_STACK)
    assert_close(turned.z, plain.z[:, order][:, :, order], FLOAT32_STACK)


def test_an_example_does_not_see_its_neighbours(rng):
    """A batch of two is its two examples."""
    trunk, batch = make(rng), rich(rng, examples=2)
    with torch.no_grad():
        both = trunk(batch, cycles=2, rng=seed())
        for x in range(2):
            one = Batch(**{name: tensor[x : x + 1] for name, tensor in batch.tensors().items()})
            alone = trunk(one, cycles=2, rng=seed())
            assert_close(both.s[x], alone.s[0], FLOAT32_STACK)
            assert_close(both.z[x], alone.z[0], FLOAT32_STACK)


def test_bonds_and_chains_reach_the_pairs(rng):
    """A bond more changes z at its pair; renumbering a chain into another entity changes z between the chains."""
    trunk, batch = make(rng), rich(rng)
    with torch.no_grad():
        before = trunk._start(batch).z
        bonds = batch.token_bonds.clone()
        bonds[0, 1, 6] = 1
        after = trunk._start(replace(batch, token_bonds=bonds)).z
    changed = (before - after).abs().sum(-1)[0] > 1e-6
    assert changed.nonzero().tolist() == [[1, 6]]


def test_bfloat16_stays_within_its_rounding(rng):
    """The trunk in bfloat16 gives finite numbers of its type near those of float32."""
    trunk, batch = make(rng), rich(rng)
    with torch.no_grad():
        high = trunk(batch, cycles=1, rng=seed())
        low = trunk.to(torch.bfloat16)(batch, cycles=1, rng=seed())
    assert low.z.dtype == low.s.dtype == torch.bfloat16
    assert_close(low.z, high.z, 2 * BFLOAT16)
    assert_close(low.s, high.s, 2 * BFLOAT16)


@pytest.mark.parametrize("bias", [False, True])
def test_distogram_is_symmetric_and_a_bias_counts_twice(bias, rng):
    """Line 17: h_ij + h_ji with h = Lin(z)."""
    config = replace(tiny(), distogram=Distogram(bias=bias))
    head = randomise(DistogramHead(config).double(), rng)
    z = torch.randn(2, 5, 5, config.c_z, generator=rng, dtype=torch.float64)
    logits = head(z)
    assert logits.shape == (2, 5, 5, 64)
    assert torch.equal(logits, logits.transpose(1, 2))
    expected = (z[1, 2, 4] + z[1, 4, 2]) @ head.project.weight.T + (2 * head.project.bias if bias else 0)
    assert_close(logits[1, 2, 4], expected, FLOAT64_IDENTITY)


def test_parameters_are_as_many_as_the_supplement_says():
    """The trunk's own matrices, recycling, relative positions and bonds: 470,144; with s_init as source of z 453,504 (AF3_ALGORITHMS 8)."""
    with torch.device("meta"):
        for source, expected in (("s_inputs", 470_144), ("s_init", 453_504)):
            trunk = Trunk(replace(Config(), z_init_from=source, inputs=Inputs(), msa=Msa(blocks=1)))
            own = sum(p.numel() for n, p in trunk.named_parameters() if n.split(".")[0] not in ("inputs", "template", "msa", "pairformer"))
            assert own == expected
