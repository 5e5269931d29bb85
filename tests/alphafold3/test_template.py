"""SI Algorithm 16 and the template features of SI Table 5."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from structgen.alphafold3 import transition
from structgen.alphafold3.config import Config, Inputs, Pair, Template, tiny
from structgen.alphafold3.inputs import classes
from structgen.alphafold3.template import TemplateEmbedder, axes, templates, unit_vectors
from structgen.features.batch import Batch
from structgen.features.featurise import pad
from tests.alphafold3.crop import crop, random_rotation
from tests.alphafold3.weights import randomise
from tests.oracles import template as oracle
from tests.tolerance import BFLOAT16, FLOAT32_STACK, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

PAIR = Pair(c_z=4, tri_hidden=4, heads=2, c_head=2, transition=2)


def config(**changes) -> Config:
    return replace(tiny(), template=replace(Template(blocks=1, c=4, pair=PAIR), **changes))


def templated(rng, slots=2) -> Batch:
    """Eleven tokens in five chains and templates with holes, in float64."""
    batch = crop(1)
    shape = (1, slots, batch.tokens)
    frame = 3 * torch.randn(*shape, 3, 3, generator=rng, dtype=torch.float64)
    frame[..., 1:2, :] += 8 * torch.randn(*shape, 1, 3, generator=rng, dtype=torch.float64)
    return replace(
        batch,
        template_restype=torch.randint(0, 32, shape, generator=rng),
        template_frame=frame,
        template_frame_mask=torch.rand(shape, generator=rng) > 0.3,
        template_pseudo_beta=20 * torch.randn(*shape, 3, generator=rng, dtype=torch.float64),
        template_pseudo_beta_mask=torch.rand(shape, generator=rng) > 0.3,
    )


def first_tokens(batch: Batch, n: int) -> Batch:
    """The first tokens as Algorithm 16 sees them."""
    slots = {name: x[:, :, :n] for name, x in batch.tensors().items() if name.startswith("template")}
    return replace(batch, asym_id=batch.asym_id[:, :n], restype=batch.restype[:, :n], token_mask=batch.token_mask[:, :n], **slots)


def without_second(batch: Batch) -> Batch:
    """The first chain has nothing in the second slot."""
    keep = torch.ones_like(batch.template_frame_mask)
    keep[:, 1] = batch.asym_id != batch.asym_id[:, :1]
    return replace(
        batch,
        template_frame_mask=batch.template_frame_mask & keep,
        template_pseudo_beta_mask=batch.template_pseudo_beta_mask & keep,
    )


def draw_z(rng, n=11):
    return torch.randn(1, n, n, tiny().c_z, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize(
    ("switches", "absent"),
    [
        ({"mean_over": "given"}, [31, 31]),
        ({"mean_over": "given", "outer_residual": True}, [31, 31]),
        ({"mean_over": "slots", "no_residue": "gap"}, [31, 31, 31, 31]),
        ({"mean_over": "slots", "no_residue": "gap_first"}, [31, 0, 0, 0]),
        ({"mean_over": "slots", "no_residue": "zero"}, [0, 0, 0, 0]),
    ],
    ids=str,
)
def test_template_embedder_is_its_algorithm(switches, absent, rng, monkeypatch):
    """Algorithm 16 with every switch, loop by loop; in blocks the values are the same. One chain has no template in the second slot."""
    layer = randomise(TemplateEmbedder(config(slots=4, **switches)).double(), rng).eval()
    batch, z = without_second(first_tokens(templated(rng), 5)), draw_z(rng, 5)
    expected = oracle.template_embedder(layer, batch, z[0], batch.token_mask[0], absent=absent, count=len(absent))[None]
    assert_close(layer(batch, z, None), expected, FLOAT64_ORACLE)
    with torch.no_grad():
        monkeypatch.setattr(transition, "ROWS", 11)
        assert_close(layer(batch, z, None), expected, FLOAT64_ORACLE)


def test_the_short_alphabet_maps_every_class(rng):
    """AlphaFold 3's 31 classes: the amino acids as they are, gap 21, RNA one later, DNA as it is, N and DN 30."""
    letters = Inputs(restypes=31)
    assert classes(letters, torch.device("cpu"))[[0, 20, 31, 21, 24, 25, 26, 29, 30]].tolist() == [0, 20, 21, 22, 25, 30, 26, 29, 30]
    short = replace(config(), inputs=replace(tiny().inputs, restypes=31))
    layer = randomise(TemplateEmbedder(short).double(), rng).eval()
    batch, z = templated(rng), draw_z(rng)
    n_class = replace(batch, template_restype=torch.full_like(batch.template_restype, 25))
    dn_class = replace(batch, template_restype=torch.full_like(batch.template_restype, 30))
    assert layer.features.weight.shape[1] == 106
    assert torch.equal(layer(n_class, z, None), layer(dn_class, z, None))


def test_without_templates_nothing_is_added(rng):
    """t = 0, and slots in which nothing is given, under `given`; under `slots` even an empty slot speaks."""
    z = draw_z(rng)
    none, empty = templated(rng, slots=0), pad(templated(rng, slots=0), templates=3)
    given = randomise(TemplateEmbedder(config()).double(), rng).eval()
    slots = randomise(TemplateEmbedder(config(mean_over="slots")).double(), rng).eval()
    for batch in (none, empty):
        assert given(batch, z, None).abs().max() == 0
        assert slots(batch, z, None).abs().max() > 0
    assert_close(slots(none, z, None), slots(empty, z, None), FLOAT64_IDENTITY)


def test_padded_slots_and_the_order_of_templates_change_nothing(rng):
    """Under `given` the mean is over the templates that exist, in any order."""
    layer = randomise(TemplateEmbedder(config()).double(), rng).eval()
    batch, z = templated(rng, slots=3), draw_z(rng)
    expected = layer(batch, z, None)
    assert_close(layer(pad(batch, templates=5), z, None), expected, FLOAT64_IDENTITY)
    order = torch.tensor([2, 0, 1])
    turned = {name: x[:, order] for name, x in batch.tensors().items() if name.startswith("template")}
    assert_close(layer(replace(batch, **turned), z, None), expected, FLOAT64_IDENTITY)


def test_padded_tokens_change_nothing(rng):
    """Tokens behind the mask leave the others as they were."""
    layer = randomise(TemplateEmbedder(config()).double(), rng).eval()
    batch, z = templated(rng), draw_z(rng)
    wide = 2 * draw_z(rng, 14)
    wide[:, :11, :11] = z
    longer = pad(batch, tokens=14)
    assert_close(layer(longer, wide, longer.token_mask)[:, :11, :11], layer(batch, z, None), FLOAT64_IDENTITY)


def test_examples_with_different_numbers_of_templates_keep_their_own_mean(rng):
    """A batch is its examples."""
    layer = randomise(TemplateEmbedder(config()).double(), rng).eval()
    two, one = templated(rng, slots=2), pad(templated(rng, slots=1), templates=2)
    both = Batch(**{name: torch.cat([x, one.tensors()[name]]) for name, x in two.tensors().items()})
    z = torch.cat([draw_z(rng), draw_z(rng)])
    expected = torch.cat([layer(two, z[:1], None), layer(one, z[1:], None)])
    assert_close(layer(both, z, None), expected, FLOAT64_IDENTITY)


def test_a_template_has_no_position_or_orientation(rng):
    """Moving a template rigidly changes nothing; a mirror image is another template."""
    layer = randomise(TemplateEmbedder(config()).double(), rng).eval()
    batch, z = templated(rng), draw_z(rng)

    def moved(rotation: torch.Tensor) -> Batch:
        frame, beta = (x @ rotation.T + 7 for x in (batch.template_frame, batch.template_pseudo_beta))
        return replace(batch, template_frame=frame, template_pseudo_beta=beta)

    expected = layer(batch, z, None)
    assert_close(layer(moved(random_rotation(rng)), z, None), expected, FLOAT64_ORACLE)
    assert (layer(moved(-random_rotation(rng)), z, None) - expected).abs().max() > 1e-3


def test_geometry_stops_at_the_chain(rng):
    """Moving one chain of a template against the others changes nothing; inside a chain every token counts."""
    layer = randomise(TemplateEmbedder(config()).double(), rng).eval()
    batch, z = templated(rng), draw_z(rng)
    everywhere = torch.ones_like(batch.template_frame_mask)
    batch = replace(batch, template_frame_mask=everywhere, template_pseudo_beta_mask=everywhere)
    expected = layer(batch, z, None)
    shift = torch.zeros(11, 1, dtype=torch.float64)
    shift[batch.asym_id[0] == 2] = 30
    whole = replace(batch, template_frame=batch.template_frame + shift[:, None], template_pseudo_beta=batch.template_pseudo_beta + shift)
    assert_close(layer(whole, z, None), expected, FLOAT64_ORACLE)
    shift[4] = 0
    part = replace(batch, template_pseudo_beta=batch.template_pseudo_beta + shift)
    assert (layer(part, z, None) - expected).abs().max() > 1e-3


def test_unit_vectors_are_local_and_of_length_one(rng):
    """The first axis points from CA to C; i = j gives zero; a frame of one point gives zeros and no NaN."""
    geometry = next(templates(templated(rng)))
    vectors = unit_vectors(geometry, slice(0, 11))
    off_diagonal = ~torch.eye(11, dtype=torch.bool)
    assert_close(vectors.norm(dim=-1)[0][off_diagonal], torch.ones(110).double(), FLOAT64_IDENTITY)
    assert vectors[0].diagonal().abs().max() == 0
    frame = torch.tensor([[0.5, 1.2, 0.3], [1.0, 1.0, 1.0], [2.5, 1.0, 1.0]])
    assert_close(axes(frame)[0], torch.tensor([1.0, 0.0, 0.0]), FLOAT32_STACK)
    assert_close(torch.linalg.det(axes(frame)), torch.tensor(1.0), FLOAT32_STACK)
    assert axes(torch.ones(3, 3)).abs().max() == 0


def test_a_distance_on_an_edge_is_in_no_bin(rng):
    """Edges are strict: 3.25 and 4.5 belong to nothing, 4.4 to the first bin, 51 to the last, 3 to nothing."""
    layer = TemplateEmbedder(config())
    geometry = replace(next(templates(templated(rng))), pseudo_beta=torch.zeros(1, 6, 3))
    geometry.pseudo_beta[0, :, 0] = torch.tensor([0.0, 3.0, 3.25, 4.4, 4.5, 51.0])
    assert layer._bins(geometry, slice(0, 1))[0, 0].tolist() == [0, 0, 0, 1, 0, 39]


def test_bfloat16_stays_within_its_rounding(rng):
    """Geometry in float32, weights and activations in bfloat16."""
    layer = randomise(TemplateEmbedder(config()), rng, scale=0.2).to(torch.bfloat16).eval()
    batch, z = templated(rng), draw_z(rng).to(torch.bfloat16)
    with torch.no_grad():
        low = layer(batch, z, None)
        assert low.dtype == torch.bfloat16
        assert_close(low, layer.float()(batch, z.float(), None), BFLOAT16)


def test_parameters_are_as_many_as_the_supplement_says():
    """255,872 with the SI's sizes."""
    assert sum(p.numel() for p in TemplateEmbedder(Config()).parameters()) == 255_872
