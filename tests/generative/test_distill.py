"""What all distillations share: conditions, masks, shapes, generators, and the heads and latents that they are for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from structgen.errors import ConfigError
from structgen.generative import (
    Adjacent,
    AverageVelocity,
    Consistency,
    Consistent,
    ContinuousConsistency,
    Cosine,
    Denoiser,
    Ema,
    Endpoints,
    Linear,
    Loss,
    MeanFlow,
    Noised,
    Preconditioned,
    Progressive,
    Proportional,
    ReadVelocity,
    Sorted,
    Uniform,
    VarianceExploding,
    generators,
    with_weights,
)
from structgen.generative.distill.tangent import raw_along
from structgen.generative.times import uniform
from structgen.generative.weights import Edm, TruncatedSnr
from structgen.train import Optimisation, TrainState, train_step
from tests.alphafold3.test_diffusion import module, positions, tiny, trunk
from tests.generative.mixture import Mixture
from tests.oracles.inputs import job
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

F64 = torch.float64
PATH = Linear()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Mixer(nn.Module):
    """A convolution over latents [b, 3, h, w] with a shift from the times and the condition [b]; keeps the conditions that it sees."""

    def __init__(self, times: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1, dtype=F64), nn.Conv2d(4, 3, 3, padding=1, dtype=F64)
        self.when = nn.Linear(times + 1, 4, dtype=F64)
        self.conditions: list[object] = []

    def forward(self, x, times, cond):
        self.conditions.append(cond)
        return self.last(torch.tanh(self.first(x) + self.when(torch.cat([times, cond[:, None]], 1))[:, :, None, None]))


def masked_error(guess: Endpoints, example: Noised, cond) -> Loss:
    """Over the left half of the latents only."""
    error = (guess.data - example.truth.data)[..., :2].square().flatten(1).mean(1)
    return Loss(example.weight * error, {"data": error.detach()})


def masked_square(difference, cond):
    return difference[..., :2].square().flatten(1).mean(1)


def objectives(teacher, *, masked: bool = False) -> dict[str, tuple[object, object, int]]:
    """Every distillation with the reading that it wants and the number of times that the network sees."""
    error = {"error": masked_error} if masked else {}
    square = {"square": masked_square} if masked else {}
    return {
        "progressive": (Progressive(PATH, teacher, uniform(8, 1.0, 0.0), **error), ReadVelocity(), 1),
        "consistency": (Consistency(PATH, Adjacent(uniform(8, 0.99, 0.05)), teacher, **error), Consistent(0.5, 0.05), 1),
        "scratch": (Consistency(PATH, Proportional(Uniform(0.1, 0.9), 0.2), **error), ReadVelocity(), 1),
        "continuous": (ContinuousConsistency(PATH, Uniform(0.1, 0.9), Edm(1.0), teacher, 0.1, **square), ReadVelocity(), 1),
        "meanflow": (MeanFlow(PATH, Sorted(Uniform(), 0.5), teacher=teacher, **square), AverageVelocity(), 2),
    }


NAMES = list(objectives(None))
EACH = pytest.mark.parametrize("name", NAMES)


@EACH
def test_conditions_reach_student_and_teacher(name, rng):
    """The same object, whole; latents of any shape; one loss an example; gradients for every weight of the student."""
    seen: list[object] = []

    def teacher(x, t, s, cond):
        seen.append(cond)
        return Mixture().denoise(PATH, x, t)

    objective, reading, times = objectives(teacher)[name]
    student, cond, data = Denoiser(Mixer(times), PATH, reading), torch.arange(6, dtype=F64), normal(6, 3, 4, 4)
    loss = objective(student, data, cond, rng)
    loss.total.mean().backward()
    assert loss.total.shape == (6,) and all(part.shape == (6,) for part in loss.parts.values())
    assert all(torch.equal(one, cond) for one in student.network.conditions + seen) and bool(seen) == (name != "scratch")
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in student.parameters())


@EACH
def test_examples_have_their_own_generators(name):
    """With one generator an example, its loss does not depend on the others of its batch."""
    objective, reading, times = objectives(lambda x, t, s, cond: Mixture().denoise(PATH, x, t))[name]
    student, cond, data = Denoiser(Mixer(times), PATH, reading), torch.arange(4, dtype=F64), normal(4, 3, 4, 4)
    together = objective(student, data, cond, generators(7, 4)).total
    alone = objective(student, data[2:3], cond[2:3], generators(7, 1, first=2)).total
    assert_close(together[2:3] / together[2].detach(), alone / together[2].detach(), FLOAT64_ORACLE)


@EACH
def test_masks_leave_out_what_they_mask(name, rng):
    """With an error over half of the latents, the bias of the last layer learns from that half alone: what comes out on the other side
    changes nothing."""
    objective, reading, times = objectives(lambda x, t, s, cond: Mixture().denoise(PATH, x, t), masked=True)[name]

    class Spoiled(nn.Module):
        def __init__(self, size: float) -> None:
            super().__init__()
            self.body, self.size = Mixer(times), size

        def forward(self, x, times, cond):
            right = torch.cat([torch.zeros_like(x[..., :2]), torch.ones_like(x[..., 2:])], -1)
            inner = self.body(x * (1 - right), times, cond)
            return inner + self.size * right

    losses, state = [], rng.get_state()
    for size in (0.0, 5.0):
        rng.set_state(state)
        losses.append(objective(Denoiser(Spoiled(size), PATH, reading), normal(4, 3, 4, 4), torch.zeros(4, dtype=F64), rng).total)
    assert_close(losses[1], losses[0], FLOAT64_IDENTITY)
    assert losses[0].abs().min() > 0


def test_a_guided_teacher_is_a_function():
    """Guidance changes what the student is told: at weight 1 it is the conditional model, at 0 the other."""
    from structgen.generative import classifier_free

    def model(x, t, s, cond):
        return PATH.from_data(torch.full_like(x, cond), x, t)

    told = []
    for weight in (0.0, 1.0, 3.0):

        def guided(x, t, s, cond, weight=weight):
            return classifier_free(lambda *at: model(*at, 0.0), lambda *at: model(*at, cond), weight)(x, t, s)

        def keep(guess, example, cond):
            told.append(example.truth.data)
            return data_loss(guess)

        objective = Progressive(PATH, guided, uniform(4, 1.0, 0.0), error=keep)
        objective(lambda x, t, s, cond: Endpoints(x, x), normal(3, 2), 2.0, torch.Generator().manual_seed(0))
    for found, value in zip(told, (0.0, 2.0, 6.0), strict=True):
        assert_close(found, torch.full_like(found, value), FLOAT64_IDENTITY)


def data_loss(guess: Endpoints) -> Loss:
    return Loss(guess.data.flatten(1).mean(1), {})


def test_pairs_on_no_grid(rng):
    """Proportional: s = t - share (t - stop), never below stop; adjacent pairs need a grid that falls."""
    t, s = Proportional(Uniform(0.0, 1.0), 0.25, stop=0.1).draw(normal(500, 1), rng)
    assert_close(s, t - 0.25 * (t - 0.1), FLOAT64_IDENTITY)
    assert s.min() >= 0.1
    for bad in (uniform(4, 0.0, 1.0), torch.tensor([1.0]), torch.ones(3)):
        with pytest.raises(ConfigError, match="fall"):
            Adjacent(bad)


@pytest.mark.parametrize("reading", [Preconditioned(0.5), ReadVelocity()], ids=repr)
def test_pairs_may_end_on_data(reading, rng):
    """At t = 0 the target is the state itself, whatever the reading says there, and the loss is finite."""
    model = Denoiser(Mixer(1), PATH, reading)
    objective = Consistency(PATH, Adjacent(torch.tensor([0.3, 0.0], dtype=F64)), error=lambda guess, example, cond: Loss(
        (guess.data - example.truth.data).square().flatten(1).sum(1), {"wanted": example.truth.data}))  # fmt: skip
    data = normal(5, 3, 4, 4)
    loss = objective(model, data, torch.zeros(5, dtype=F64), rng)
    assert torch.equal(loss.parts["wanted"], data) and loss.total.isfinite().all()


def test_truncated_snr_takes_the_larger_error():
    """max(SNR, 1) times the data error is the larger of data and noise error, for endpoints on one line."""
    path, t, x = Cosine(), torch.tensor([0.1, 0.49, 0.51, 0.9, 1.0], dtype=F64), normal(5, 3)
    a, b = (path.from_data(normal(5, 3, seed=k), x, t) for k in (1, 2))
    data, noise = ((p - q).square().sum(1) for p, q in ((a.data, b.data), (a.noise, b.noise)))
    assert_close(TruncatedSnr()(path, t) * data, torch.maximum(data, noise), FLOAT64_ORACLE)


def test_float32_mean_rates_are_those_of_float64():
    """Short and long steps: the endpoints of a mean velocity in float32 are within 1e-3 of those in float64, on the curved path."""
    path, x, u = Cosine(), normal(64, 2), normal(64, 2, seed=1)
    t = torch.full((64,), 0.6, dtype=F64)
    s = t - 10 ** torch.linspace(-7, -0.3, 64, dtype=F64)
    exact = path.from_mean_velocity(u, x, t, s)
    found = path.from_mean_velocity(*(v.float() for v in (u, x, t, s)))
    assert_close(found.data, exact.data, 1e-3)
    assert_close(found.noise, exact.noise, 1e-3)


@dataclass(frozen=True)
class Trainer:
    """An objective as what `train_step` minimises."""

    objective: object
    denoiser: Denoiser

    def __call__(self, example, rng):
        loss = self.objective(self.denoiser, *example, rng)
        return loss.total.mean(), {name: part.mean().item() for name, part in loss.parts.items()}


@EACH
def test_train_step_trains_them_all(name, rng):
    """The optimisation step of everything else serves, and the target may be the average that it keeps."""
    teacher = lambda x, t, s, cond: Mixture().denoise(PATH, x, t)  # noqa: E731
    objective, reading, times = objectives(teacher)[name]
    student = Denoiser(Mixer(times), PATH, reading)
    optimisation = Optimisation(learning_rate=1e-2, warmup_steps=1, ema=Ema(0.9))
    state = TrainState.start(student, optimisation)
    if isinstance(objective, Consistency):
        objective = replace(objective, target=with_weights(student, state.average))
    before = state.average["network.first.weight"].clone()
    for _ in range(3):
        example = normal(8, 3, 4, 4), torch.zeros(8, dtype=F64)
        state, metrics = train_step(state, [example], Trainer(objective, student), optimisation, rng)
    assert state.step == 3 and math.isfinite(metrics["loss"]) and not torch.equal(before, state.average["network.first.weight"])


def test_the_head_for_atoms_has_forward_derivatives(rng):
    """SI Algorithm 20 as a student: the derivative along a trajectory equals central differences, in float64, and with the layers that
    float32 inference takes; a continuous-time distillation of it has a gradient for every weight that its update has."""
    batch, network = job(0), module(tiny())
    cond = network.condition(batch, trunk(rng, batch, tiny()))
    model, x, v = Denoiser(network, VarianceExploding(), Preconditioned(16.0)), 20 * positions(rng, batch, 2), positions(rng, batch, 2)
    t, aim, h = torch.tensor([10.0, 3.0], dtype=F64), torch.zeros(2, dtype=F64), 1e-4
    _, rate = raw_along(model, (x, t, aim), (v, torch.ones_like(t), torch.zeros_like(t)), cond)
    with torch.no_grad():
        ends = [network(*model.reading.inputs(model.path, x + k * h * v, t + k * h, aim), cond) for k in (-1, 1)]
    assert_close(rate / rate.abs().max(), (ends[1] - ends[0]) / (2 * h) / rate.abs().max(), 1e-6)
    objective = ContinuousConsistency(model.path, Uniform(2.0, 30.0), Edm(16.0), normalise=0.1)
    objective(model, x, cond, rng).total.mean().backward()
    assert sum(weight.grad is not None and weight.grad.abs().max() > 0 for weight in network.parameters()) > 20


def test_float32_inference_layers_are_not_taken_for_constants():
    """A layer that runs another kernel without gradients still has its derivative in float32."""
    from structgen.nn.linear import Linear as Affine

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = Affine(3, 3, bias=True)

        def forward(self, x, times, cond):
            return self.layer(x) * times

    model, x, v = Denoiser(Network(), PATH, ReadVelocity()), normal(4, 3).float(), normal(4, 3, seed=1).float()
    t = torch.full((4,), 0.5)
    with torch.no_grad():
        value, rate = raw_along(model, (x, t, t), (v, torch.ones_like(t), torch.zeros_like(t)), None)
    wanted = nn.functional.linear(v, model.network.layer.weight) * 0.5 + model.network.layer(x)
    assert_close(rate, wanted.detach(), 1e-6)
    assert_close(value, (model.network.layer(x) * 0.5).detach(), 1e-6)
