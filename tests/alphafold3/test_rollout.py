"""Roll-outs are samples of Algorithm 18 with nothing attached, and the head learns from them alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch

from structgen.alphafold3.confidence_losses import confidence_losses
from structgen.alphafold3.config import tiny
from structgen.alphafold3.labels import make_labels
from structgen.alphafold3.model import AlphaFold3, Model
from structgen.alphafold3.relaxation import relaxed
from structgen.alphafold3.rollout import ConfidenceLoss, ConfidenceTerms, Rollout, roll_out
from structgen.alphafold3.sampling import CentreRandomAugmentation, sampling_schedule
from structgen.alphafold3.symmetry import fitted
from structgen.errors import NumericalError
from structgen.features.chains import ChainRecord
from structgen.features.conformers import pose_conformers
from structgen.features.examples import Example, labelled
from structgen.predict import fold, generator
from structgen.train import Optimisation, TrainState, train_step
from tests.alphafold3.weights import randomise
from tests.oracles import diffusion as oracle
from tests.structures import batch_of, tokens_of
from tests.tolerance import FLOAT32_STACK, assert_close

SAMPLING = dataclasses.replace(tiny().sampling, samples=2, steps=3, cycles=1)


def example(rng: torch.Generator) -> Example:
    """Seven residues near a line, a side-chain atom of the third unresolved."""
    sequence = "MKVGSWA"
    positions = torch.randn(7, 14, 3, generator=rng).numpy() + 3.8 * np.arange(7)[:, None, None].astype(np.float32)
    mask = np.ones((7, 14), bool)
    mask[2, 5] = False
    batch, xyz, resolved = labelled(ChainRecord("made", sequence, positions, mask, None))
    return Example(pose_conformers(batch, rng), torch.from_numpy(xyz)[None], torch.from_numpy(resolved)[None])


def network(rng: torch.Generator) -> AlphaFold3:
    return randomise(AlphaFold3(tiny()).eval(), rng, scale=0.1)


def test_a_rollout_is_a_literal_algorithm_18(rng: torch.Generator) -> None:
    """The samples equal the SI's loop over the same denoiser and the same random numbers, each for itself."""
    model, given = network(rng), example(rng)
    rollout = roll_out(model, given, SAMPLING, torch.Generator().manual_seed(5))
    draws, atoms = torch.Generator().manual_seed(5), given.batch.atoms
    with torch.no_grad():
        trunk = model.trunk(given.batch, cycles=1, rng=draws)
        condition = model.diffusion.condition(given.batch, trunk)

        def denoise(x: torch.Tensor, t: float) -> torch.Tensor:
            time = torch.full((2,), t)
            return model.denoiser(x, time, time, condition).data

        levels = sampling_schedule(SAMPLING, model.config.diffusion.sigma_data)[0].tolist()
        first, augment = torch.randn(2, atoms, 3, generator=draws), CentreRandomAugmentation(given.batch.atom_mask)
        expected = oracle.sample(
            denoise,
            lambda x: augment(x, draws),
            lambda: torch.randn(2, atoms, 3, generator=draws),
            levels[0] * first,
            levels,
            gamma_0=SAMPLING.gamma_0,
            gamma_min=SAMPLING.gamma_min,
            noise_scale=SAMPLING.noise_scale,
            step_scale=SAMPLING.step_scale,
        )
    assert_close(rollout.samples, expected, FLOAT32_STACK)
    assert_close(rollout.trunk.z, trunk.z, 0.0)
    assert rollout.samples.std() > 1


def test_samples_are_relaxed_where_the_model_is(rng: torch.Generator) -> None:
    """`sampling.relaxed`: the same samples, relaxed, in a roll-out as in a fold; the head is asked about what is written."""
    made, given, run = network(rng), example(rng), dataclasses.replace(SAMPLING, relaxed=True)
    raw, moved = (roll_out(made, given, how, torch.Generator().manual_seed(5)) for how in (SAMPLING, run))
    assert torch.equal(moved.samples, relaxed(raw.samples, given.batch)) and not torch.equal(moved.samples, raw.samples)
    model, tokens = Model(made, "", ""), tokens_of("MKVGSWA")
    batch = pose_conformers(batch_of(tokens), generator(1, "conformers"))
    before, after = (np.stack([one.positions for one in fold(tokens, batch_of(tokens), model, how, 1)]) for how in (SAMPLING, run))
    np.testing.assert_array_equal(after, relaxed(torch.from_numpy(before), batch).numpy())


def test_nothing_is_attached(rng: torch.Generator) -> None:
    """No gradient reaches the network through a roll-out, and its weights are as they were."""
    model = network(rng)
    before = [p.clone() for p in model.parameters()]
    rollout = roll_out(model, example(rng), SAMPLING, rng)
    assert not any(t.requires_grad for t in rollout.tensors().values())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_rollouts_travel_whole(rng: torch.Generator) -> None:
    """To safetensors and back: every tensor, with its type."""
    rollout = roll_out(network(rng), example(rng), SAMPLING, rng)
    back = Rollout.from_tensors(safetensors.torch.load(safetensors.torch.save(rollout.tensors())))
    for name, tensor in rollout.tensors().items():
        assert torch.equal(back.tensors()[name], tensor) and back.tensors()[name].dtype == tensor.dtype


def test_exploded_coordinates_are_refused(rng: torch.Generator) -> None:
    """A network that gives no finite coordinates is no source of truth about itself."""
    model = network(rng)
    with torch.no_grad():
        for parameter in model.diffusion.decoder.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(NumericalError, match="not finite"):
        roll_out(model, example(rng), SAMPLING, rng)


def test_loss_is_the_si_s_on_one_sample(rng: torch.Generator) -> None:
    """The weighted sum of the four losses of the sample that the generator draws, its labels named to fit; both samples come up."""
    model = network(rng)
    rollout = roll_out(model, example(rng), SAMPLING, rng)
    loss = ConfidenceLoss(model.confidence, ConfidenceTerms(plddt=1.0, pae=2.0, pde=3.0, resolved=4.0))
    totals = []
    for k in range(2):
        atoms = rollout.samples[k, None]
        named = fitted(Example(rollout.batch, rollout.positions, rollout.resolved), atoms)
        labels = make_labels(rollout.batch, named.positions, named.resolved)
        parts = confidence_losses(model.confidence(rollout.batch, rollout.trunk, atoms, None), atoms, rollout.batch, labels)
        totals.append((parts.plddt + 2 * parts.pae + 3 * parts.pde + 4 * parts.resolved).item())
        assert loss.of_sample(rollout, k)[0].item() == pytest.approx(totals[k])
    drawn = {round(loss(rollout, rng)[0].item(), 4) for _ in range(12)}
    assert drawn == {round(t, 4) for t in totals}


def test_chains_without_side_chains_say_nothing_of_what_is_resolved(rng: torch.Generator) -> None:
    """Where only backbones were kept, the fourth loss does not count; where a side chain is there, it does."""
    given = example(rng)
    backbone = given.resolved & (given.batch.atom_slot < 4)
    model = network(rng)
    loss = ConfidenceLoss(model.confidence, ConfidenceTerms())
    for resolved, counts in ((given.resolved, True), (backbone, False)):
        total, parts = loss.of_sample(roll_out(model, dataclasses.replace(given, resolved=resolved), SAMPLING, rng), 0)
        assert total.item() == pytest.approx(sum(parts.values()))
        assert (parts["resolved"] > 0) == counts


def test_the_head_alone_learns(rng: torch.Generator) -> None:
    """Forty steps on one roll-out more than halve the loss; everything else stays as it is, to the bit."""
    model = AlphaFold3(tiny()).eval().requires_grad_(False)
    rollout = roll_out(model, example(rng), SAMPLING, rng)
    model.confidence.requires_grad_(True)
    others = {name: p.clone() for name, p in model.named_parameters() if not name.startswith("confidence")}
    optimisation = Optimisation(learning_rate=0.02, warmup_steps=1)
    state, losses = TrainState.start(model, optimisation), []
    for _ in range(40):
        state, metrics = train_step(state, [rollout], ConfidenceLoss(model.confidence, ConfidenceTerms()), optimisation, rng)
        losses.append(metrics["loss"])
    assert losses[0] == pytest.approx(np.log(50) + 2 * np.log(64) + np.log(2), rel=1e-4)  # it starts knowing nothing
    assert losses[-1] < 0.5 * losses[0]
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], p) for name, p in others.items())
