"""SI Algorithm 31 in every reading, and the losses that train it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from structgen.alphafold3.confidence import ConfidenceHead, ConfidenceLogits, atom_ranks, distance_class
from structgen.alphafold3.confidence_losses import confidence_losses, plddt_classes
from structgen.alphafold3.config import Config, tiny
from structgen.alphafold3.labels import Labels, make_labels
from structgen.alphafold3.trunk import TrunkOutput
from tests.alphafold3.crop import ATOMS, crop, random_rotation
from tests.oracles import confidence as oracle
from tests.tolerance import BFLOAT16, FLOAT32_STACK, FLOAT64_ORACLE, assert_close

N, ATOM_COUNT = len(ATOMS), sum(ATOMS)
SWITCHES: list[dict[str, object]] = [
    {},
    {"row": "second"},
    {"extra_distance": True},
    {"s_norm": True},
    {"head_norm": True},
    {"pde_symmetry": "logits_after", "head_norm": True},
    {"pde_symmetry": "pair_before_norm", "head_norm": True},
    {"outer_residual": True},
    {"size": True},
]


def normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def make_head(rng: torch.Generator, **switches: object) -> ConfidenceHead:
    """A tiny head in float64 with every weight random, those that start at zero too."""
    head = ConfidenceHead(configuration(**switches)).double().eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3, generator=rng)
    return head


def configuration(**switches: object) -> Config:
    config = tiny()
    return dataclasses.replace(config, confidence=dataclasses.replace(config.confidence, **switches))


def trunk_output(rng: torch.Generator, examples: int = 1, extra: int = 0) -> TrunkOutput:
    config = tiny()
    n = N + extra
    single = [normal(rng, examples, n, c) for c in (config.inputs.c_s_inputs, config.c_s)]
    return TrunkOutput(*single, normal(rng, examples, n, n, config.c_z))


def norm_of(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The oracle's form of a head's norm, or of none."""
    if isinstance(module, nn.Identity):
        return lambda x: x
    weight, bias = (p.detach().numpy() for p in (module.weight, module.bias))
    return lambda x: oracle.layer_norm(x, weight, bias)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@torch.no_grad()
def test_head_equals_its_oracle(rng: torch.Generator, switches: dict[str, object]) -> None:
    """Lines 1-3, 5 and 6 by loops around the pairformer, for two examples and each reading."""
    head, batch, trunk, x = make_head(rng, **switches), crop(2), trunk_output(rng, 2), 8 * normal(rng, 2, ATOM_COUNT, 3)
    logits = head(batch, trunk, x, None)
    config = head.config
    own = {name: p.detach().numpy() for name, p in head.named_parameters()}
    row, column = ("first", "second") if config.row == "first" else ("second", "first")
    weights = {"row": own[f"{row}.weight"], "column": own[f"{column}.weight"], "bins": own["distance_bins.weight"]}
    if config.extra_distance:
        weights["distance"] = own["distance.weight"]
    for b in range(2):
        points = x[b, batch.representative_atom[b]].numpy()
        s = trunk.s[b]
        if config.s_norm:
            s = torch.from_numpy(np.stack([norm_of(head.s_norm)(np.clip(row, -512, 512)) for row in s.numpy()]))
        z = torch.from_numpy(oracle.pair_input(trunk.z[b].numpy(), trunk.s_inputs[b].numpy(), points, weights, config.extra_distance))
        if config.size:
            added = torch.from_numpy(own["size.weight"][:, 0]) * math.log(N / 128)
            s, z = s + added[: s.shape[-1]], z + added[s.shape[-1] :]
        s_out, z_out = (y[0] for y in head.stack(s[None], z[None], None))
        if config.outer_residual:
            s_out, z_out = s + s_out, z + z_out
        token, slot = batch.atom_to_token[b].numpy(), batch.atom_slot[b].numpy()
        expected = {
            "pae": oracle.pair_logits(z_out.numpy(), own["pae.weight"], norm_of(head.pae_norm)),
            "pde": oracle.pde_logits(z_out.numpy(), own["pde.weight"], norm_of(head.pde_norm), config.pde_symmetry),
        }
        for name, bins, norm in (("plddt", 50, head.plddt_norm), ("resolved", 2, head.resolved_norm)):
            table = own[f"{name}.weight"].reshape(24, bins, -1)
            expected[name] = oracle.atom_logits(s_out.numpy(), table, token, slot, norm_of(norm))
        for name, value in expected.items():
            assert_close(getattr(logits, name)[b], torch.from_numpy(value), FLOAT64_ORACLE)


@pytest.mark.parametrize("switches", [{}, {"outer_residual": True}], ids=str)
@torch.no_grad()
def test_stack_in_bfloat16_changes_logits_little(rng: torch.Generator, switches: dict[str, object]) -> None:
    """What comes out is in the head's own precision, and differs by the rounding of the stack alone."""
    head, batch, trunk, x = make_head(rng, **switches), crop(1), trunk_output(rng), 8 * normal(rng, 1, ATOM_COUNT, 3)
    for parameter in head.stack.parameters():
        parameter *= 0.1  # a stack of random weights of this size drowns its input
    exact = head(batch, trunk, x, None)
    head.stack.to(torch.bfloat16)
    rounded = head(batch, trunk, x, None)
    for field in dataclasses.fields(ConfidenceLogits):
        value = getattr(rounded, field.name)
        assert value.dtype == torch.float64 and (value != getattr(exact, field.name)).any()
        assert_close(value, getattr(exact, field.name), BFLOAT16)


@pytest.mark.parametrize(
    ("switches", "shows"),
    [
        ({"row": "second"}, True),
        ({"pde_symmetry": "pair_before_norm"}, True),
        ({"pde_symmetry": "logits_after"}, False),
        ({"outer_residual": True}, True),
        ({"first_bin": 4.0}, True),
    ],
    ids=str,
)
@torch.no_grad()
def test_switches_show(rng: torch.Generator, switches: dict[str, object], shows: bool) -> None:
    """Equal weights give another PDE in another reading; a matrix without bias gives the same for added pairs as for added logits."""
    batch, trunk, x = crop(1), trunk_output(rng), 8 * normal(rng, 1, ATOM_COUNT, 3)
    printed, other = (
        make_head(torch.Generator().manual_seed(1), head_norm=True, **reading)(batch, trunk, x, None).pde for reading in ({}, switches)
    )
    assert ((printed - other).abs().max().item() > FLOAT32_STACK) is shows


@torch.no_grad()
def test_rows_by_presence_close_the_gaps(rng: torch.Generator) -> None:
    """`slots` present counts the atoms that a token has: places that its residue leaves empty, and padding, do not matter."""
    full, trunk, x = crop(1), trunk_output(rng), 8 * normal(rng, 1, ATOM_COUNT, 3)
    expected = make_head(torch.Generator().manual_seed(1))(full, trunk, x, None)
    later = dataclasses.replace(full, atom_slot=full.atom_slot + 1)
    present = make_head(torch.Generator().manual_seed(1), slots="present")
    assert (make_head(torch.Generator().manual_seed(1))(later, trunk, x, None).plddt - expected.plddt).abs().max() > 1e-3
    assert torch.equal(present(later, trunk, x, None).plddt, expected.plddt)
    assert atom_ranks(crop(2, padding=(2, 3)))[1].tolist() == [*full.atom_slot[0].tolist(), 0, 0, 0]


@torch.no_grad()
def test_head_does_not_see_the_frame(rng: torch.Generator) -> None:
    """Rotated, shifted or mirrored coordinates give the same logits; PDE is symmetric and PAE is not."""
    head, batch, trunk, x = make_head(rng), crop(1), trunk_output(rng), 8 * normal(rng, 1, ATOM_COUNT, 3)
    logits = head(batch, trunk, x, None)
    for y in (x @ random_rotation(rng).mT + 50, -x):
        moved = head(batch, trunk, y, None)
        for field in dataclasses.fields(logits):
            assert_close(getattr(moved, field.name), getattr(logits, field.name), FLOAT64_ORACLE)
    assert_close(logits.pde, logits.pde.transpose(1, 2), FLOAT64_ORACLE)
    assert (logits.pae - logits.pae.transpose(1, 2)).abs().max() > 0.1


@torch.no_grad()
def test_padding_changes_nothing(rng: torch.Generator) -> None:
    """Masked tokens and atoms do not reach the real ones."""
    head, trunk, x = make_head(rng, size=True), trunk_output(rng, extra=3), 8 * normal(rng, 1, ATOM_COUNT + 7, 3)
    batch = crop(1, padding=(3, 7))
    padded = head(batch, trunk, x, batch.token_mask)
    alone = TrunkOutput(trunk.s_inputs[:, :N], trunk.s[:, :N], trunk.z[:, :N, :N])
    plain = head(crop(1), alone, x[:, :ATOM_COUNT], None)
    assert_close(padded.pae[:, :N, :N], plain.pae, FLOAT64_ORACLE)
    assert_close(padded.pde[:, :N, :N], plain.pde, FLOAT64_ORACLE)
    assert_close(padded.plddt[:, :ATOM_COUNT], plain.plddt, FLOAT64_ORACLE)
    assert_close(padded.resolved[:, :ATOM_COUNT], plain.resolved, FLOAT64_ORACLE)


def test_nothing_flows_back(rng: torch.Generator) -> None:
    """Gradients reach every weight of the head, but neither trunk nor coordinates, which are left as they were."""
    head, batch, trunk = make_head(rng, head_norm=True, s_norm=True, extra_distance=True, size=True), crop(1), trunk_output(rng)
    x = (8 * normal(rng, 1, ATOM_COUNT, 3)).requires_grad_()
    inputs = [trunk.s_inputs, trunk.s, trunk.z]
    before = [y.clone() for y in inputs]
    for y in inputs:
        y.requires_grad_()
    logits = head(batch, trunk, x, None)
    sum(getattr(logits, field.name).square().mean() for field in dataclasses.fields(logits)).backward()
    assert x.grad is None and all(y.grad is None for y in inputs)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())
    with torch.no_grad():
        head(batch, trunk, x, None)
    assert all(torch.equal(y, b) for y, b in zip(inputs, before, strict=True))


def test_trunk_in_bfloat16_is_taken_up(rng: torch.Generator) -> None:
    """The head answers in the dtype of its own weights."""
    trunk = trunk_output(rng)
    half = TrunkOutput(trunk.s_inputs.bfloat16(), trunk.s.bfloat16(), trunk.z.bfloat16())
    logits = ConfidenceHead(tiny())(crop(1), half, torch.zeros(1, ATOM_COUNT, 3), None)
    assert logits.pae.dtype == logits.plddt.dtype == torch.float32
    assert (logits.pae == 0).all() and (logits.plddt == 0).all()  # the last matrices start at zero


def test_distance_classes() -> None:
    """No class below 3.25 and on an edge; else the number of edges below."""
    lengths = torch.tensor([0.0, 3.25, 3.3, 4.5, 4.6, 50.75, 51.0, 1e4])
    expected = [float(np.arange(1, 40) @ oracle.distance_one_hot(length)) for length in lengths.tolist()]
    assert distance_class(lengths, tiny().confidence).tolist() == expected == [0, 0, 1, 0, 2, 0, 39, 39]


def losses_example(rng: torch.Generator) -> tuple[Labels, Tensor, ConfidenceLogits]:
    batch = crop(2)
    truth = 6 * normal(rng, 2, ATOM_COUNT, 3)
    resolved = torch.rand(2, ATOM_COUNT, generator=rng) > 0.1
    shapes = ((ATOM_COUNT, 50), (N, N, 64), (N, N, 64), (ATOM_COUNT, 2))
    logits = ConfidenceLogits(*(normal(rng, 2, *shape) for shape in shapes))
    return make_labels(batch, truth, resolved), truth + normal(rng, 2, ATOM_COUNT, 3), logits


def test_losses_equal_their_oracles(rng: torch.Generator) -> None:
    """Labels from a rolled-out structure, cross-entropies over what the truth knows, nucleotides with the wider radius."""
    batch = crop(2)
    labels, x, logits = losses_example(rng)
    losses = confidence_losses(logits, x, batch, labels)
    assert not labels.resolved.all() and not batch.frame_mask.all()
    for b in range(2):
        truth = oracle.Truth(
            positions=labels.positions[b].numpy(),
            resolved=labels.resolved[b].numpy(),
            nucleic=labels.nucleic[b].numpy(),
            reference=batch.centre_atom[b, :7].tolist(),
            frames=[tuple(frame) for frame in batch.frame_atoms[b].tolist()],
            frame_valid=batch.frame_mask[b].numpy(),
            centre=batch.centre_atom[b].tolist(),
            representative=batch.representative_atom[b].tolist(),
        )
        points = x[b].numpy()
        expected = {
            "plddt": oracle.plddt_loss(logits.plddt[b].numpy(), points, truth),
            "pae": oracle.pae_loss(logits.pae[b].numpy(), points, truth),
            "pde": oracle.pde_loss(logits.pde[b].numpy(), points, truth),
            "resolved": oracle.resolved_loss(logits.resolved[b].numpy(), truth),
        }
        for name, value in expected.items():
            assert_close(getattr(losses, name)[b], torch.tensor(value, dtype=torch.float64), FLOAT64_ORACLE)


def test_perfect_and_lost_structures(rng: torch.Generator) -> None:
    """A moved truth has lDDT 1; an exploded one 0, as has an atom with no reference atom around."""
    labels, _, _ = losses_example(rng)
    batch = crop(2)
    moved = labels.positions @ random_rotation(rng).mT + 3
    assert plddt_classes(moved, batch, labels, 50)[labels.resolved].unique().tolist() == [49]
    assert plddt_classes(1e4 * moved, batch, labels, 50)[labels.resolved].unique().tolist() == [0]
    alone = dataclasses.replace(labels, reference=torch.zeros_like(labels.reference))
    assert plddt_classes(moved, batch, alone, 50).unique().tolist() == [0]


def test_losses_do_not_see_the_frame_or_the_padding(rng: torch.Generator) -> None:
    """Moving the roll-out or appending tokens and atoms leaves every loss as it is; a mirror image costs PAE alone something."""
    labels, x, logits = losses_example(rng)
    batch = crop(2)
    plain = confidence_losses(logits, x, batch, labels)
    moved = confidence_losses(logits, x @ random_rotation(rng).mT - 7, batch, labels)
    mirrored = confidence_losses(logits, -x, batch, labels)
    bigger = crop(2, padding=(2, 5))
    grow = nn.functional.pad
    atoms, pairs = (0, 0, 0, 5), (0, 0, 0, 2, 0, 2)
    wide = ConfidenceLogits(
        grow(logits.plddt, atoms), grow(logits.pae, pairs), grow(logits.pde, pairs), grow(logits.resolved, atoms)
    )
    padded_labels = make_labels(bigger, grow(labels.positions, (0, 0, 0, 5)), grow(labels.resolved, (0, 5), value=True))
    padded = confidence_losses(wide, grow(x, (0, 0, 0, 5)), bigger, padded_labels)
    for field in dataclasses.fields(plain):
        expected = getattr(plain, field.name)
        assert_close(getattr(moved, field.name), expected, FLOAT64_ORACLE)
        assert_close(getattr(padded, field.name), expected, FLOAT64_ORACLE)
        assert ((getattr(mirrored, field.name) - expected).abs().max() > 1e-3) == (field.name == "pae")


def test_losses_of_a_crop_with_nothing_resolved(rng: torch.Generator) -> None:
    """Nothing to compare costs nothing, except that the atoms are not there."""
    labels, x, logits = losses_example(rng)
    empty = make_labels(crop(2), labels.positions, torch.zeros_like(labels.resolved))
    losses = confidence_losses(logits, x, crop(2), empty)
    assert (losses.plddt == 0).all() and (losses.pae == 0).all() and (losses.pde == 0).all() and (losses.resolved > 0).all()
