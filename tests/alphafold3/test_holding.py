"""Samples held to templates: the projection's definition, what it leaves alone, and that samplers end inside of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from structgen.alphafold3.config import Config, tiny
from structgen.alphafold3.holding import CA, FEWEST, expected_deviation, holds_of
from structgen.alphafold3.losses import weighted_rigid_align
from structgen.alphafold3.model import AlphaFold3, Model
from structgen.features.atoms import build_atoms
from structgen.features.batch import Batch
from structgen.features.job import Chain, Job, Kind, Modification
from structgen.features.tokens import tokenise
from structgen.generative import VarianceExploding, projected
from structgen.generative.path import Endpoints
from structgen.predict import fold
from tests.structures import batch_of, tokens_of
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

CHAIN = "ACDEFGHIKLMNPQRSTVWY"
HELD = slice(3, 17)  # residues that the template covers


def templated(rng: torch.Generator, *, same: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Batch, Tensor]:
    """One chain with one template on residues 3 to 16, of which a share are the same, and the template's N, CA and C [14, 3, 3]."""
    batch = batch_of(tokens_of(CHAIN))
    n, covered = len(CHAIN), torch.arange(len(CHAIN))[HELD]
    walk = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng, dtype=dtype), dim=-1).cumsum(0) * 3.8
    sides = torch.nn.functional.normalize(torch.randn(n, 3, 3, generator=rng, dtype=dtype), dim=-1) * torch.tensor([1.46, 0, 1.52])[:, None]
    frame, mask, restype = torch.zeros(1, 1, n, 3, 3, dtype=dtype), torch.zeros(1, 1, n, dtype=torch.bool), batch.restype[:, None].clone()
    frame[0, 0, HELD], mask[0, 0, HELD] = (walk[:, None] + sides.to(dtype))[HELD], True
    restype[0, 0, covered[round(same * len(covered)) :]] = 20
    beta = {"template_pseudo_beta": frame[..., CA, :], "template_pseudo_beta_mask": mask}
    return replace(batch, template_restype=restype, template_frame=frame, template_frame_mask=mask, **beta), frame[0, 0, HELD]


def laid(place: Tensor, backbone: Tensor) -> Tensor:
    """The template's N, CA and C [k, 3, 3] on those of samples [s, k, 3, 3], by the CA atoms."""
    weight = torch.zeros(backbone.shape[:3], dtype=backbone.dtype)
    weight[..., CA] = 1
    return weighted_rigid_align(place.expand_as(backbone).flatten(1, 2), backbone.flatten(1, 2), weight.flatten(1, 2)).view_as(backbone)


def drawn(batch: Batch, rng: torch.Generator, samples: int = 3) -> Tensor:
    return 6 * torch.randn(samples, batch.atoms, 3, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize(("same", "identity"), [(1.0, 1.0), (0.5, 0.5)])
def test_radius_is_what_a_relative_is_worth(rng: torch.Generator, same: float, identity: float) -> None:
    """0.4 angstrom for equal sequences, 1.02 for half (Chothia & Lesk 1986), times the scale; without templates, nothing holds."""
    batch, _ = templated(rng, same=same)
    holds = holds_of(batch, 2.0)
    assert holds is not None and len(holds.holds) == 1
    assert holds.holds[0].radius == pytest.approx(2 * 0.4 * math.exp(1.87 * (1 - identity)))
    assert expected_deviation(0.5) == pytest.approx(1.0189, abs=1e-3)
    assert holds_of(batch_of(tokens_of(CHAIN)), 1.0) is None
    assert holds_of(templated(rng, same=0.2)[0], 1.0) is None
    few = torch.zeros_like(batch.template_frame_mask)
    few[0, 0, : FEWEST - 1] = True
    assert holds_of(replace(batch, template_frame_mask=few), 1.0) is None


def test_projection_by_its_definition(rng: torch.Generator) -> None:
    """N, CA and C of held residues are where they were, or on the sphere about their places on the template, laid on the sample.

    The other atoms of a residue move as its CA does; a perfect sample and all without a template stand still.
    """
    batch, place = templated(rng)
    holds = holds_of(batch, 1.0)
    assert holds is not None
    atoms, frames, own = drawn(batch, rng), batch.frame_atoms[0], batch.atom_to_token[0]
    atoms[:, frames[HELD]] = place + 3 * torch.randn(3, *place.shape, generator=rng, dtype=torch.float64)
    atoms[0, frames[HELD]] = place
    moved = holds(atoms)
    where = laid(place, atoms[:, frames[HELD]])
    before, after = (((x[:, frames[HELD]] - where).norm(dim=-1)) for x in (atoms, moved))
    assert_close(after, before.clamp_max(holds.holds[0].radius), FLOAT64_ORACLE)
    assert before[1:].max() > 2 and torch.equal(moved[0], atoms[0])
    steps, others = moved - atoms, torch.ones(batch.atoms, dtype=torch.bool)
    others[frames[HELD].flatten()] = False
    assert_close(steps[:, others], steps[:, frames[own, CA]][:, others], FLOAT64_IDENTITY)
    free = (own < HELD.start) | (own >= HELD.stop)
    assert free.any() and steps[:, free].abs().max() == 0


def test_a_turned_sample_is_held_as_well(rng: torch.Generator) -> None:
    """P(R x + t) = R P(x) + t: the template has no frame of its own."""
    batch, _ = templated(rng, same=0.6)
    holds = holds_of(batch, 1.0)
    assert holds is not None
    atoms = drawn(batch, rng)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn).sign()
    assert_close(holds(atoms @ turn.T + 7), holds(atoms) @ turn.T + 7, 1e-8)


def test_a_residue_is_held_by_the_first_template_alone(rng: torch.Generator) -> None:
    """The second slot holds what the first leaves, if that is enough."""
    batch, _ = templated(rng)
    mask = torch.ones_like(batch.template_frame_mask)
    for stop, expected in ((FEWEST, 2), (FEWEST + 6, 1)):
        first = torch.zeros_like(mask)
        first[0, 0, :stop] = True
        doubled = {name: torch.cat([x, x], 1) for name, x in batch.tensors().items() if name.startswith("template")}
        doubled["template_frame_mask"] = torch.cat([first, mask], 1)
        holds = holds_of(replace(batch, **doubled), 1.0)
        assert holds is not None and len(holds.holds) == expected
        tokens = torch.cat([hold.token for hold in holds.holds])
        assert len(tokens.unique()) == len(tokens)


def test_guided_data_lies_on_the_line_through_the_state(rng: torch.Generator) -> None:
    """Guidance changes the data and keeps x_t = alpha data + sigma noise."""
    batch, _ = templated(rng)
    path, atoms, t = VarianceExploding(), drawn(batch, rng), torch.full((3,), 2.5, dtype=torch.float64)
    holds, guess = holds_of(batch, 1.0), drawn(batch, rng)

    def denoise(x: Tensor, t: Tensor, s: Tensor) -> Endpoints:
        return path.from_data(guess, x, t)

    assert holds is not None
    ends = projected(path, denoise, holds)(atoms, t, t)
    assert_close(ends.data, holds(guess), FLOAT64_IDENTITY)
    assert_close(path.state(ends, t), atoms, FLOAT64_IDENTITY)


def test_samples_end_within_the_radius(rng: torch.Generator) -> None:
    """A random network draws nothing like the template; held, N, CA and C of what it covers end within the radius."""
    torch.manual_seed(0)
    config: Config = tiny()
    model = Model(AlphaFold3(config).eval(), "digest", "")
    tokens, (batch, place) = tokens_of(CHAIN), templated(rng, dtype=torch.float32)
    worst = {}
    for scale in (0.0, 1.0):
        sampling = replace(config.sampling, samples=2, steps=4, cycles=1, held=scale)
        atoms = torch.stack([torch.as_tensor(one.positions) for one in fold(tokens, batch, model, sampling, 1)])
        here = atoms[:, batch.frame_atoms[0, HELD]].float()
        worst[scale] = (here - laid(place, here)).norm(dim=-1).max().item()
    assert worst[0.0] > 3 and worst[1.0] < 1.02 * expected_deviation(1.0)


def test_atoms_of_a_modified_residue_are_free(rng: torch.Generator) -> None:
    """They are tokens of their own with the template's CA as theirs: held, all of them would end on one point."""
    chain = Chain("A", Kind.PROTEIN, CHAIN, (Modification(6, "SEP"),))
    batch = batch_of(tokenise(build_atoms(Job(name="made", slug="made", chains=(chain,), source="made"))))
    n = batch.tokens
    assert n > len(CHAIN) + 5
    slot = {"restype": batch.restype[:, None], "frame": torch.randn(1, 1, n, 3, 3, generator=rng), "frame_mask": torch.ones(1, 1, n) > 0}
    holds = holds_of(replace(batch, **{f"template_{name}": x for name, x in slot.items()}), 1.0)
    assert holds is not None and len(holds.holds[0].token) == len(CHAIN) - 1
    moved = holds(torch.zeros(1, batch.atoms, 3))
    assert moved[0, torch.bincount(batch.atom_to_token[0])[batch.atom_to_token[0]] == 1].abs().max() == 0


def test_forced_templates_come_first(rng: torch.Generator) -> None:
    """A forced template holds within its own radius, whatever its identity and the scale, before a template of an earlier slot."""
    batch, _ = templated(rng, same=0.1)
    doubled = {name: torch.cat([x, x], 1) for name, x in batch.tensors().items() if name.startswith("template")}
    both = replace(batch, **doubled)
    assert holds_of(both, 0.0) is None and holds_of(both, 1.0) is None
    holds = holds_of(both, 0.0, {(0, 1): 1.5})
    assert holds is not None and [hold.radius for hold in holds.holds] == [1.5]
    other = replace(both, template_restype=both.restype[:, None].expand(-1, 2, -1))
    radii = [hold.radius for hold in holds_of(other, 1.0, {(0, 1): 1.5}).holds]  # type: ignore[union-attr]
    assert radii == [1.5]  # the first slot has no residue of its own left
