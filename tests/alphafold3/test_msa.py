"""SI Algorithms 8 to 10 and the rows that enter a cycle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from structgen.alphafold3 import transition
from structgen.alphafold3.config import Config, Msa, tiny
from structgen.alphafold3.msa import MsaModule, MsaRows, OuterProductMean, PairWeightedAveraging, draw_rows
from structgen.features.batch import Batch
from structgen.features.featurise import pad
from tests.alphafold3.crop import crop
from tests.alphafold3.weights import randomise
from tests.oracles import msa as oracle
from tests.tolerance import BFLOAT16, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

MSA = Msa(blocks=2, c_m=5, c_opm=3, pwa_heads=2, pwa_channels=4, transition=2, rows=7)
C_Z = tiny().c_z


def config(**changes) -> Config:
    return replace(tiny(), msa=replace(MSA, **changes))


def draw(rng, s=4, n=5):
    """m, z, the mask of the alignment (rows with holes) and the mask of the tokens."""
    m = torch.randn(2, s, n, 5, generator=rng, dtype=torch.float64)
    z = torch.randn(2, n, n, C_Z, generator=rng, dtype=torch.float64)
    mask = torch.rand(2, s, n, generator=rng) > 0.3
    mask[:, 0] = True
    tokens = torch.ones(2, n, dtype=torch.bool)
    tokens[1, 3:] = False
    return m, z, mask, tokens


def draw_msa(rng, s=4, n=5):
    """Rows of the alignment."""
    return MsaRows(
        msa=torch.randint(0, 32, (2, s, n), generator=rng),
        has_deletion=torch.randint(0, 2, (2, s, n), generator=rng).double(),
        deletion_value=torch.rand(2, s, n, generator=rng, dtype=torch.float64),
        mask=draw(rng, s, n)[2],
    )


def test_outer_product_mean_is_its_algorithm(rng):
    """Algorithm 9: masked rows do not count, and the bias is divided too."""
    layer = randomise(OuterProductMean(MSA, C_Z).double(), rng)
    m, _, mask, _ = draw(rng)
    expected = torch.stack([oracle.outer_product_mean(layer, *x) for x in zip(m, mask, strict=True)])
    assert_close(layer(m, mask), expected, FLOAT64_ORACLE)


@pytest.mark.parametrize("eps", [1e-3, 1e-8])
def test_outer_product_mean_divides_by_the_rows_and_eps(eps, rng):
    """`opm_eps`: a pair in no row gets bias / eps; doubling every row leaves the mean, up to eps."""
    layer = randomise(OuterProductMean(replace(MSA, opm_eps=eps), C_Z).double(), rng)
    m, _, mask, _ = draw(rng)
    nowhere = layer(m, torch.zeros_like(mask))
    assert_close(nowhere * eps, layer.out.bias.expand_as(nowhere), FLOAT64_IDENTITY)
    with torch.no_grad():
        layer.out.bias.zero_()
    assert_close(layer(m.repeat(1, 2, 1, 1), mask.repeat(1, 2, 1)), layer(m, mask), eps)


def test_pair_weighted_averaging_is_its_algorithm(rng):
    """Algorithm 10 with padded tokens."""
    layer = randomise(PairWeightedAveraging(MSA, C_Z).double(), rng)
    m, z, _, tokens = draw(rng)
    expected = torch.stack([oracle.pair_weighted_averaging(layer, *x) for x in zip(m, z, tokens, strict=True)])
    assert_close(layer(m, z, tokens), expected, FLOAT64_ORACLE)


def test_rows_are_interchangeable(rng):
    """Permuting the rows permutes Algorithm 10 and leaves Algorithms 9 and 8."""
    outer, average = randomise(OuterProductMean(MSA, C_Z).double(), rng), randomise(PairWeightedAveraging(MSA, C_Z).double(), rng)
    m, z, mask, tokens = draw(rng)
    order = torch.tensor([2, 0, 3, 1])
    assert_close(outer(m[:, order], mask[:, order]), outer(m, mask), FLOAT64_IDENTITY)
    assert_close(average(m[:, order], z, tokens), average(m, z, tokens)[:, order], FLOAT64_IDENTITY)
    module = randomise(MsaModule(config()).double(), rng, scale=0.3).eval()
    rows, s_inputs = draw_msa(rng), torch.randn(2, 5, tiny().inputs.c_s_inputs, generator=rng, dtype=torch.float64)
    turned = MsaRows(rows.msa[:, order], rows.has_deletion[:, order], rows.deletion_value[:, order], rows.mask[:, order])
    assert_close(module(turned, z, s_inputs, tokens), module(rows, z, s_inputs, tokens), FLOAT64_ORACLE)


@pytest.mark.parametrize(("last_update", "outer_residual"), [(True, False), (False, False), (False, True)])
def test_msa_module_is_its_algorithm(last_update, outer_residual, rng):
    """Algorithm 8 with both values of `last_update` and `outer_residual`; in blocks and in place the values are the same."""
    module = randomise(MsaModule(config(last_update=last_update, outer_residual=outer_residual)).double(), rng, scale=0.3).eval()
    rows, s_inputs = draw_msa(rng), torch.randn(2, 5, tiny().inputs.c_s_inputs, generator=rng, dtype=torch.float64)
    z, tokens = draw(rng)[1], draw(rng)[3]
    got = module(rows, z, s_inputs, tokens)
    assert_close(got[:1], oracle.msa_module(module, rows, z[0], s_inputs[0], tokens[0])[None], FLOAT64_ORACLE)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(transition, "ROWS", 21)
        assert_close(module(rows, z, s_inputs, tokens), got, FLOAT64_ORACLE)


def test_the_last_update_has_no_effect_but_its_weights():
    """`last_update` builds weights that nothing reads."""
    with_update, without = MsaModule(config()), MsaModule(config(last_update=False))
    extra = set(with_update.state_dict()) - set(without.state_dict())
    assert extra and all(name.startswith(("blocks.1.average", "blocks.1.transition")) for name in extra)


def test_dropout_is_shared_by_all_rows(rng):
    """m after Algorithm 10: one mask [1, n, c_m] for all rows; none in evaluation."""
    layer = randomise(PairWeightedAveraging(replace(MSA, dropout=0.5), C_Z).double(), rng)
    m, z, _, tokens = draw(rng)
    update = layer(m, z, tokens)
    torch.manual_seed(3)
    share = ((layer.train().add_to(m, z, tokens) - m) / update / 2).round(decimals=6)
    assert share.abs().unique().tolist() == [0.0, 1.0]
    assert torch.equal(share, share[:, :1].expand_as(share))
    assert_close(layer.eval().add_to(m, z, tokens) - m, update, FLOAT64_IDENTITY)


def aligned(rng, depth=23, examples=2) -> Batch:
    """A batch whose MSA rows can be told apart by their deletion value; the second example is shallower."""
    batch = crop(examples)
    shape = (examples, depth, batch.tokens)
    mask = torch.ones(shape, dtype=torch.bool)
    mask[1:, 11:] = False
    return replace(
        batch,
        msa=torch.randint(0, 32, shape, generator=rng),
        has_deletion=torch.zeros(shape),
        deletion_value=torch.arange(depth).float()[None, :, None].expand(shape),
        msa_mask=mask,
    )


def test_random_depth_is_uniform_and_its_rows_too(rng):
    """k uniform in 1..depth, cut at `rows`, and every row equally often: 4 standard errors; no row twice, no padded row."""
    batch, draws = aligned(rng), 2000
    counts, seen = torch.zeros(23), torch.zeros(23)
    for _ in range(draws):
        rows = draw_rows(batch, replace(MSA, rows=12), rng)
        first = rows.deletion_value[0, rows.mask[0, :, 0], 0].long()
        assert len(first.unique()) == len(first)
        counts[len(first)] += 1
        seen[first] += 1
        second = rows.deletion_value[1, rows.mask[1, :, 0], 0]
        assert 1 <= len(second) <= 11 and second.max() < 11
    share = counts[1:12] / draws
    assert (share - 1 / 23).abs().max() < 4 * (1 / 23 / draws) ** 0.5
    assert abs(counts[12] / draws - 12 / 23) < 4 * (0.25 / draws) ** 0.5
    assert (seen / seen.sum() - 1 / 23).abs().max() < 4 * (1 / 23 / seen.sum()) ** 0.5
    assert counts[13:].sum() == 0 == counts[0]


@pytest.mark.parametrize("subset", ["shuffle_first", "all"])
def test_the_other_subsets_take_as_many_rows_as_fit(subset, rng):
    """shuffle_first: any rows in any order; all: the first rows in their order."""
    batch = aligned(rng)
    first = draw_rows(batch, replace(MSA, subset=subset, rows=12), rng)
    again = draw_rows(batch, replace(MSA, subset=subset, rows=12), rng)
    assert first.msa.shape == (2, 12, batch.tokens)
    assert first.mask[:, :, 0].sum(1).tolist() == [12, 11]
    order = first.deletion_value[0, :, 0].tolist()
    assert (order == list(range(12))) is (subset == "all")
    assert torch.equal(first.deletion_value, again.deletion_value) is (subset == "all")


def test_padding_the_alignment_changes_no_draw(rng):
    """The same generator draws the same rows, however many padded rows lie behind."""
    batch = aligned(rng)
    a = draw_rows(batch, MSA, torch.Generator().manual_seed(7))
    b = draw_rows(pad(batch, rows=40), MSA, torch.Generator().manual_seed(7))
    assert torch.equal(a.msa, b.msa) and torch.equal(a.mask, b.mask) and torch.equal(a.deletion_value, b.deletion_value)


def test_a_cycle_takes_the_rows_it_draws(rng):
    """The drawn rows are rows of the alignment with their own deletions and mask."""
    batch = aligned(rng)
    rows = draw_rows(batch, MSA, rng)
    for example in range(2):
        for s in rows.mask[example, :, 0].nonzero()[:, 0]:
            source = int(rows.deletion_value[example, s, 0])
            assert torch.equal(rows.msa[example, s], batch.msa[example, source])


def test_bfloat16_stays_within_its_rounding(rng):
    """The whole module with weights and activations in bfloat16."""
    module = randomise(MsaModule(config()), rng, scale=0.1).to(torch.bfloat16).eval()
    rows, s_inputs = draw_msa(rng), torch.randn(2, 5, tiny().inputs.c_s_inputs, generator=rng).to(torch.bfloat16)
    z = torch.randn(2, 5, 5, C_Z, generator=rng).to(torch.bfloat16)
    with torch.no_grad():
        low = module(rows, z.clone(), s_inputs, None)
        assert low.dtype == torch.bfloat16
        assert_close(low, module.float()(rows, z.float(), s_inputs.float(), None), BFLOAT16)


@pytest.mark.parametrize(("channels", "last", "expected"), [(8, False, 3_001_024), (32, True, 3_211_456)])
def test_parameters_are_as_many_as_the_supplement_says(channels, last, expected):
    """Both readings of the width of Algorithm 10 (`pwa_channels`)."""
    count = sum(p.numel() for p in MsaModule(replace(Config(), msa=Msa(pwa_channels=channels, last_update=last))).parameters())
    assert count == expected
