"""SI Algorithms 27 and 28 and the losses of SI section 3.7 against their oracles, closed forms and symmetries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from structgen.alphafold3.config import Distogram
from structgen.alphafold3.labels import Labels, make_labels, neighbour_pairs
from structgen.alphafold3.losses import (
    StructureError,
    aligned_mse,
    bond_loss,
    distogram_edges,
    distogram_loss,
    smooth_lddt_loss,
    weighted_rigid_align,
)
from structgen.generative import Denoiser, Endpoints, Loss, Noised, Preconditioned, Regression, VarianceExploding
from structgen.generative.times import LogNormal
from structgen.generative.weights import Edm
from tests.alphafold3.crop import ATOMS, crop, random_rotation
from tests.oracles import losses as oracle
from tests.tolerance import FLOAT32_LAYER, FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

ATOM_COUNT = sum(ATOMS)


def normal(rng: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=rng, dtype=torch.float64)


def example(rng: torch.Generator, *, padding: tuple[int, int] = (0, 0)) -> Labels:
    """Two crops about 30 angstrom wide, a fifth of the atoms unresolved, in float64."""
    batch = crop(2, padding=padding)
    positions = torch.full((2, batch.atoms, 3), torch.nan, dtype=torch.float64)
    positions[:, :ATOM_COUNT] = normal(rng, 2, ATOM_COUNT, 3, scale=8.0)
    resolved = torch.zeros(2, batch.atoms, dtype=torch.bool)
    resolved[:, :ATOM_COUNT] = torch.rand(2, ATOM_COUNT, generator=rng) > 0.2
    return make_labels(batch, positions, resolved)


def moved(rng: torch.Generator, x: Tensor) -> Tensor:
    """Every sample after a rigid motion of its own."""
    return x @ random_rotation(rng, len(x)).mT + normal(rng, len(x), 1, 3, scale=20.0)


def twice(x: Tensor) -> Tensor:
    """Labels for two samples of every crop."""
    return x.repeat_interleave(2, 0)


def test_smooth_lddt_equals_the_double_loop(rng: torch.Generator) -> None:
    """Algorithm 27 on two samples of two crops, nucleotides with the wider radius of their rows."""
    labels = example(rng)
    x = twice(labels.positions) + normal(rng, 4, ATOM_COUNT, 3, scale=2.0)
    expected = [
        oracle.smooth_lddt(*(t.numpy() for t in (x[s], labels.positions[s // 2], labels.nucleic[s // 2], labels.resolved[s // 2])))
        for s in range(4)
    ]
    assert labels.nucleic.any() and {1.0, 2.0} == set(labels.pairs.weight.tolist())
    assert_close(smooth_lddt_loss(x, labels.pairs), torch.tensor(expected, dtype=torch.float64), FLOAT64_ORACLE)


def test_smooth_lddt_at_its_best_and_worst(rng: torch.Generator) -> None:
    """Equal distances give one minus the mean sigmoid of the thresholds, 0.1959, whatever the frame; an exploded sample gives 1."""
    labels = example(rng)
    best = 1 - torch.sigmoid(torch.tensor([0.5, 1, 2, 4], dtype=torch.float64)).mean()
    assert round(best.item(), 4) == 0.1959
    assert_close(smooth_lddt_loss(moved(rng, labels.positions), labels.pairs), best.expand(2), FLOAT64_IDENTITY)
    mirrored = labels.positions * torch.tensor([1.0, 1.0, -1.0])
    assert_close(smooth_lddt_loss(mirrored, labels.pairs), best.expand(2), FLOAT64_IDENTITY)
    assert_close(smooth_lddt_loss(1e6 * labels.positions, labels.pairs), torch.ones(2), FLOAT64_IDENTITY)


def test_smooth_lddt_gradient(rng: torch.Generator) -> None:
    """The gradient made on the way is that of finite differences, and finite (zero) for coinciding atoms."""
    resolved, nucleic = torch.ones(7, dtype=torch.bool), torch.arange(7) > 4
    pairs = neighbour_pairs(normal(rng, 1, 7, 3, scale=8.0), resolved[None], nucleic[None])
    x = normal(rng, 3, 7, 3, scale=8.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: smooth_lddt_loss(y, pairs), (x,))
    point = torch.zeros(1, 7, 3, requires_grad=True)
    smooth_lddt_loss(point, pairs).sum().backward()
    assert (point.grad == 0).all()


def test_pairs_and_loss_do_not_depend_on_blocks(rng: torch.Generator) -> None:
    """Rows found in one block or in many are the same list, and a list longer than a block of the loss sums to the same."""
    x = normal(rng, 400, 3, scale=8.0)
    resolved, nucleic = (torch.rand(1, 400, generator=rng) > share for share in (0.1, 0.5))
    pairs, blocked = neighbour_pairs(x[None], resolved, nucleic), neighbour_pairs(x[None], resolved, nucleic, rows=7)
    for field in dataclasses.fields(pairs):
        assert torch.equal(getattr(pairs, field.name), getattr(blocked, field.name))
    samples = x + normal(rng, 16, 400, 3)
    assert len(pairs.first) * 48 > 1 << 19
    alone = torch.cat([smooth_lddt_loss(sample[None], pairs) for sample in samples])
    assert_close(smooth_lddt_loss(samples, pairs), alone, FLOAT64_IDENTITY)


def test_crop_without_pairs_costs_nothing(rng: torch.Generator) -> None:
    """A single resolved atom has no distances: loss 0, gradient 0."""
    x = normal(rng, 2, 5, 3).requires_grad_()
    loss = smooth_lddt_loss(x, neighbour_pairs(normal(rng, 1, 5, 3), torch.arange(5)[None] == 2, torch.zeros(1, 5, dtype=torch.bool)))
    loss.sum().backward()
    assert (loss == 0).all() and (x.grad == 0).all()


def test_alignment_recovers_a_rigid_motion(rng: torch.Generator) -> None:
    """Points that were moved rigidly are moved back, atoms of weight zero along with them and without influence."""
    x = normal(rng, 5, 9, 3, scale=10.0)
    weight = torch.rand(5, 9, generator=rng, dtype=torch.float64)
    weight[:, 3] = 0
    target = moved(rng, x)
    assert_close(weighted_rigid_align(x, target, weight), target, FLOAT64_IDENTITY)
    disturbed = target.clone()
    disturbed[:, 3] += 100
    assert_close(weighted_rigid_align(x, disturbed, weight), target, FLOAT64_IDENTITY)


def test_alignment_equals_quaternions(rng: torch.Generator) -> None:
    """Algorithm 28 on points that no motion superposes, mirrored ones among them, against Horn's quaternion method."""
    x, weight = normal(rng, 6, 7, 3, scale=5.0), torch.rand(6, 7, generator=rng, dtype=torch.float64)
    target = torch.cat([moved(rng, x[:3]) + normal(rng, 3, 7, 3), x[3:] * torch.tensor([-1.0, 1.0, 1.0])])
    expected = [oracle.rigid_align(x[b].numpy(), target[b].numpy(), weight[b].numpy()) for b in range(6)]
    assert_close(weighted_rigid_align(x, target, weight), torch.tensor(np.array(expected)), FLOAT64_ORACLE)


def test_alignment_stays_proper(rng: torch.Generator) -> None:
    """A mirror image is approached by a rotation: the signed volume of four atoms is kept."""
    x = normal(rng, 8, 4, 3)
    out = weighted_rigid_align(x, -x, torch.ones(8, 4, dtype=torch.float64))
    volume = torch.linalg.det(x[:, 1:] - x[:, :1])
    assert_close(torch.linalg.det(out[:, 1:] - out[:, :1]), volume, FLOAT64_ORACLE)


@pytest.mark.parametrize("atoms", [1, 2, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_alignment_of_a_line_is_finite_and_right(rng: torch.Generator, atoms: int, dtype: torch.dtype) -> None:
    """Atoms on a line leave a free rotation about it, yet land where they should; results are float32 or better."""
    line = torch.linspace(0, 8, atoms, dtype=torch.float64)[None, :, None] * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    target = line @ random_rotation(rng, 1).mT
    out = weighted_rigid_align(line.to(dtype), target.to(dtype), torch.ones(1, atoms, dtype=dtype))
    assert out.dtype == torch.promote_types(dtype, torch.float32)
    assert_close(out, target, 2e-2 if dtype == torch.bfloat16 else FLOAT32_LAYER)


def test_alignment_without_weight_is_finite() -> None:
    """A crop with nothing resolved breaks nothing."""
    assert weighted_rigid_align(torch.ones(1, 3, 3), torch.zeros(1, 3, 3), torch.zeros(1, 3)).isfinite().all()


def test_mse_equals_its_oracle_and_vanishes_on_moved_truth(rng: torch.Generator) -> None:
    """Weighted sum over unweighted count, invariant to rigid motions of the prediction; not to a mirror."""
    labels = example(rng)
    weight, resolved, truth = twice(labels.weight), twice(labels.resolved), twice(labels.positions)
    assert set(labels.weight.unique().tolist()) == {0.0, 1.0, 6.0, 11.0}
    x = truth + normal(rng, 4, ATOM_COUNT, 3, scale=2.0)
    loss = aligned_mse(x, truth, weight, resolved)
    expected = [oracle.aligned_mse(*(t[s].numpy() for t in (x, truth, weight, resolved))) for s in range(4)]
    assert_close(loss, torch.tensor(expected, dtype=torch.float64), FLOAT64_ORACLE)
    assert_close(aligned_mse(moved(rng, x), truth, weight, resolved), loss, FLOAT64_ORACLE)
    assert_close(aligned_mse(moved(rng, truth), truth, weight, resolved), torch.zeros(4), FLOAT64_ORACLE)
    assert (aligned_mse(-truth, truth, weight, resolved) > 1).all()


def test_mse_gradient_is_that_of_a_fixed_target(rng: torch.Generator) -> None:
    """No gradient flows through the alignment: 2 w (x - moved truth) / (3 count). At the optimum this is the whole derivative."""
    x = normal(rng, 2, 5, 3).requires_grad_()
    truth, weight = normal(rng, 2, 5, 3), torch.rand(2, 5, generator=rng, dtype=torch.float64)
    resolved = torch.ones(2, 5, dtype=torch.bool)
    aligned_mse(x, truth, weight, resolved).sum().backward()
    moved_truth = weighted_rigid_align(truth, x.detach(), weight)
    assert_close(x.grad, 2 * weight[..., None] * (x.detach() - moved_truth) / 15, FLOAT64_IDENTITY)
    assert torch.autograd.gradcheck(lambda y: aligned_mse(y, truth, weight, resolved), (x,), atol=1e-6)


def test_bond_loss(rng: torch.Generator) -> None:
    """Mean over bonds against the loop; 0 without bonds; finite gradient where bonded atoms coincide."""
    truth = normal(rng, 4, 6, 3)
    x = (truth + normal(rng, 4, 6, 3)).requires_grad_()
    bonds = (torch.tensor([[0, 3], [1, 5]]), torch.zeros(0, 2, dtype=torch.int64))
    loss = bond_loss(x, truth, bonds)
    expected = [oracle.bond_loss(x[s].detach().numpy(), truth[s].numpy(), bonds[0].tolist()) for s in range(2)]
    assert_close(loss, torch.tensor([*expected, 0.0, 0.0], dtype=torch.float64), FLOAT64_ORACLE)
    point = torch.zeros(4, 6, 3, dtype=torch.float64, requires_grad=True)
    bond_loss(point, truth, bonds).sum().backward()
    assert point.grad.isfinite().all()


def test_labels_of_a_crop(rng: torch.Generator) -> None:
    """Unresolved atoms become zeros of weight 0; lDDT's reference atoms are the centres of standard residues."""
    batch = crop(1)
    positions = normal(rng, 1, ATOM_COUNT, 3)
    positions[0, 0] = torch.nan
    resolved = torch.ones(1, ATOM_COUNT, dtype=torch.bool)
    resolved[0, 0] = False
    labels = make_labels(batch, positions, resolved)
    assert (labels.positions[0, 0] == 0).all() and labels.weight[0, 0] == 0
    assert torch.equal(torch.nonzero(labels.reference[0])[:, 0], batch.centre_atom[0, :7])


def test_bond_to_a_ligand_is_found_by_distance(rng: torch.Generator) -> None:
    """Token 3 is bonded to the ligand's first atom by whichever of its atoms is near; a bond of more than 2.4 angstrom is none."""
    batch = crop(1)
    positions = 50 * torch.arange(ATOM_COUNT, dtype=torch.float64)[None, :, None].repeat(1, 1, 3)
    ligand, partner = sum(ATOMS[:8]), sum(ATOMS[:3]) + 4
    everything = torch.ones(1, ATOM_COUNT, dtype=torch.bool)
    assert make_labels(batch, positions, everything).bonds[0].shape == (0, 2)
    positions[0, ligand] = positions[0, partner] + torch.tensor([1.4, 0.0, 0.0])
    assert make_labels(batch, positions, everything).bonds[0].tolist() == [[partner, ligand]]


def test_distogram_loss_equals_its_oracle(rng: torch.Generator) -> None:
    """Cross-entropy over pairs of tokens with both representative atoms resolved."""
    batch, labels = crop(2), example(rng)
    logits = normal(rng, 2, batch.tokens, batch.tokens, 64)
    at = batch.representative_atom
    expected = [
        oracle.distogram_loss(logits[b].numpy(), labels.positions[b, at[b]].numpy(), labels.resolved[b, at[b]].numpy()) for b in range(2)
    ]
    assert not labels.resolved.gather(1, at).all()
    assert_close(distogram_loss(logits, batch, labels, Distogram()), torch.tensor(expected, dtype=torch.float64), FLOAT64_ORACLE)


def test_distogram_edges() -> None:
    """63 borders from 2.3125 to 21.6875 angstrom."""
    assert_close(distogram_edges(Distogram()), 2.3125 + 0.3125 * torch.arange(63, dtype=torch.float64), FLOAT64_IDENTITY)


def test_padding_changes_nothing(rng: torch.Generator) -> None:
    """Extra tokens and atoms, with NaN for coordinates in the truth, leave every loss as it is."""
    plain, padded = (example(torch.Generator().manual_seed(3), padding=p) for p in ((0, 0), (3, 11)))
    noise = normal(rng, 4, ATOM_COUNT, 3)
    x = twice(plain.positions) + noise
    x_padded = torch.cat([x, normal(rng, 4, 11, 3, scale=100.0)], 1)
    assert_close(smooth_lddt_loss(x_padded, padded.pairs), smooth_lddt_loss(x, plain.pairs), FLOAT64_IDENTITY)
    mse = [aligned_mse(y, twice(p.positions), twice(p.weight), twice(p.resolved)) for y, p in ((x, plain), (x_padded, padded))]
    assert_close(mse[1], mse[0], FLOAT64_IDENTITY)
    n = len(ATOMS)
    logits = normal(rng, 2, n + 3, n + 3, 64)
    expected = distogram_loss(logits[:, :n, :n].contiguous(), crop(2), plain, Distogram())
    assert_close(distogram_loss(logits, crop(2, padding=(3, 11)), padded, Distogram()), expected, FLOAT64_IDENTITY)


def test_structure_error_in_a_regression(rng: torch.Generator) -> None:
    """SI equation 6: deviations and bonds weighted by the noise level, smooth lDDT not; each sample against the truth of its own crop."""
    labels = dataclasses.replace(example(rng), bonds=(torch.tensor([[3, 50]]), torch.tensor([[4, 60], [5, 70]])))
    path, shift = VarianceExploding(), normal(rng, ATOM_COUNT, 3)
    denoiser = Denoiser(lambda r, times, cond: r * 0.3 + shift, path, Preconditioned(16.0))
    error = StructureError(labels, bond=0.5, smooth=0.7)
    data = moved(rng, twice(labels.positions))
    regression = Regression(path, LogNormal(mean=1.5, std=1.5), Edm(16.0), error=_keep(error, seen := []))
    loss = regression(denoiser, data, None, rng)
    (guess, noised) = seen[0]
    t = noised.t
    for s in range(4):
        truth, resolved = labels.positions[s // 2].numpy(), labels.resolved[s // 2].numpy()
        x = guess.data[s].numpy()
        deviation = oracle.aligned_mse(x, truth, labels.weight[s // 2].numpy(), resolved)
        bonds = oracle.bond_loss(x, truth, labels.bonds[s // 2].tolist())
        smooth = oracle.smooth_lddt(x, truth, labels.nucleic[s // 2].numpy(), resolved)
        expected = (t[s] ** 2 + 256) / (t[s] * 16) ** 2 * (deviation + 0.5 * bonds) + 0.7 * smooth
        assert_close(loss.total[s], expected, FLOAT64_ORACLE)
    assert len(t.unique()) == 4


def _keep(error: StructureError, seen: list) -> Callable[[Endpoints, Noised, object], Loss]:
    """The same error, its arguments kept to be looked at."""

    def call(guess: Endpoints, example: Noised, cond: object) -> Loss:
        seen.append((guess, example))
        return error(guess, example, cond)

    return call
