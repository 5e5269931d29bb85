"""Rows D4 to D8: progressive distillation and consistency, against closed forms."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import (
    Adjacent,
    Consistency,
    Consistent,
    Cosine,
    Ddim,
    Denoiser,
    Endpoints,
    Euler,
    Heun,
    Linear,
    LogNormal,
    Noised,
    Progressive,
    PseudoHuber,
    ReadData,
    Solver,
    VarianceExploding,
    advance,
    doubling_steps,
    growing_steps,
    halvings,
    inverse_gap,
    normal_like,
    sample,
    target_decay,
    with_weights,
)
from structgen.generative.times import karras, uniform
from tests.conformance.students import EPS, NORMAL, STD, Closed, Fixed, Perceptron, Recorder, exact, exact64, flow, normal, trained
from tests.generative.mixture import PATHS, Mixture, start_of
from tests.tolerance import FLOAT64_IDENTITY, FLOAT64_ORACLE, assert_close

F64 = torch.float64
EACH_PATH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
# D4


def student_and_target(path, stride, times):
    """Where a student is asked, (x, t, s), and the endpoints that it is told, for 64 examples."""
    student, error = Recorder(lambda x, t, s, cond: Endpoints(x, x)), Recorder(lambda guess, example, cond: None)
    objective = Progressive(path, lambda x, t, s, cond: Mixture().denoise(path, x, t), times, stride, error=error)
    objective(student, normal(64, 3), None, torch.Generator().manual_seed(1))
    return student.calls[0][:3], error.calls[0][1].truth


@EACH_PATH
@pytest.mark.parametrize("stride", [2, 5])
def test_D4_one_student_step_makes_the_teachers_steps(path, stride, measured):
    """A DDIM step with the target endpoints lands where the teacher's steps land, on every path, on the step to t = 0 as on the other; the
    target is the lecture's formula."""
    times = uniform(2 * stride, start_of(path), 0.0)
    (x, t, s), target = student_and_target(path, stride, times)
    assert {0.0, times[stride].item()} == set(s.tolist()) and set(t.tolist()) == {times[stride].item(), times[0].item()}
    teacher = x
    for j in range(stride):
        knots = (t + (s - t) * k / stride for k in (j, j + 1))
        teacher = advance(path, Mixture().denoiser(path), Ddim(), teacher, *knots, torch.Generator())
    student = advance(path, lambda x, t, s: target, Ddim(), x, t, s, torch.Generator())
    worst = (student - teacher).abs().max().item() / teacher.abs().max().item()
    measured("D4", f"student's step less {stride} of the teacher, {path!r}", worst, 1e-12)
    assert worst <= 1e-12
    (a, sigma), (a_s, sigma_s) = ([c[:, None] for c in path.alpha_sigma(time)] for time in (t, s))
    lecture = (teacher - sigma_s / sigma * x) / (a_s - sigma_s / sigma * a)
    assert_close(target.data, lecture, FLOAT64_ORACLE)
    assert_close(target.data[s == 0], teacher[s == 0], FLOAT64_IDENTITY)


def test_D4_rounds_halve_the_steps():
    """32, 16, 8, 4, 2 steps of the teacher, every grid half of the one before; other numbers and grids that rise are refused."""
    grids = list(halvings(uniform(32, 1.0, 0.0)))
    assert [len(grid) - 1 for grid in grids] == [32, 16, 8, 4, 2]
    assert all(torch.equal(a[::2], b) for a, b in itertools.pairwise(grids)) and grids[-1].tolist() == [1.0, 0.5, 0.0]
    for steps in (1, 12):
        with pytest.raises(ConfigError, match=f"power of two; found {steps}"):
            halvings(uniform(steps, 1.0, 0.0))
    with pytest.raises(ConfigError, match="9 steps of the teacher are no multiple of 2"):
        Progressive(Linear(), Mixture().denoiser(Linear()), uniform(9, 1.0, 0.0))
    with pytest.raises(ConfigError, match="fall"):
        Progressive(Linear(), Mixture().denoiser(Linear()), uniform(8, 0.0, 1.0))


def test_D4_float32_targets_on_a_fine_grid(measured):
    """At 1024 steps of the teacher the target is still within 1e-3 of that in float64: it is a difference of near states over a step."""
    path, times = Cosine(), uniform(1024, 1.0, 0.0)
    worst = 0.0
    for seed in range(20):
        told = []
        for dtype in (F64, torch.float32):
            error = Recorder(lambda guess, example, cond: None)
            objective = Progressive(path, lambda x, t, s, cond: Mixture().denoise(path, x, t), times, error=error)
            rng = torch.Generator().manual_seed(seed)
            ends = Endpoints(normal(4, 3), normal(4, 3, seed=1))
            objective = replace(objective, coupling=Fixed(Endpoints(ends.data.to(dtype), ends.noise.to(dtype))))
            objective(lambda x, t, s, cond: Endpoints(x, x), ends.data.to(dtype), None, rng)
            told.append(error.calls[0][1].truth.data.double())
        worst = max(worst, (told[0] - told[1]).abs().max().item())
    measured("D4", "target in float32 less in float64, 1024 steps", worst, 1e-3)
    assert worst < 1e-3


# D5


@EACH_PATH
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_D5_boundary_is_exact(path, dtype, measured):
    """Whatever the network says, f(x, eps) is x / alpha bit for bit (x itself where alpha = 1), and f is continuous there."""
    reading, x = Consistent(STD, eps=0.01), normal(5, 3).to(dtype)
    t = torch.full((5,), 0.01, dtype=dtype)
    alpha, _ = path.alpha_sigma(t)
    raw = 100 * normal(5, 3, seed=1).to(dtype)
    at = reading.endpoints(path, raw, x, t, t)
    assert torch.equal(at.data, x / alpha[:, None]) or (at.data - x / alpha[:, None]).abs().max() <= torch.finfo(dtype).eps * x.abs().max()
    if path == VarianceExploding():
        assert torch.equal(at.data, x)
    near = reading.endpoints(path, raw, x, t * (1 + 1e-4), t).data
    assert 0 < (near - at.data).abs().max() < 0.02
    measured("D5", f"f(x, eps) - x / alpha, {path!r}, {dtype}", (at.data - x / alpha[:, None]).abs().max().item(), torch.finfo(dtype).eps)


def test_D5_scalings_are_those_of_the_paper():
    """On sigma = t: c_skip = sd^2 / ((t - eps)^2 + sd^2) and c_out = sd (t - eps) / sqrt(sd^2 + t^2)."""
    t, x, raw = torch.tensor([0.002, 0.3, 80.0], dtype=F64), normal(3, 2), normal(3, 2, seed=1)
    c_skip, c_out = STD**2 / ((t - 0.002) ** 2 + STD**2), STD * (t - 0.002) / (STD**2 + t**2).sqrt()
    found = Consistent(STD).endpoints(VarianceExploding(), raw, x, t, t).data
    assert_close(found, c_skip[:, None] * x + c_out[:, None] * raw, FLOAT64_IDENTITY)


def test_D5_a_trained_consistency_function_is_the_closed_form(measured, rng):
    """Distilled from the exact score of normal data: within 2 % of m + (x - m) sqrt((sd^2 + eps^2) / (sd^2 + t^2)), at every level."""
    path = VarianceExploding()
    model = Denoiser(Perceptron(2, 1, width=32, blocks=1), path, Consistent(STD, EPS))
    objective = Consistency(path, Adjacent(karras(40, 80.0, EPS)), exact(NORMAL, path), weight=inverse_gap)
    trained(model, objective, NORMAL, 1500, rng, rate=4e-3, late=256)
    worst = 0.0
    for level in (0.05, 0.3, 1.0, 5.0, 40.0, 80.0):
        t = torch.full((2000,), level, dtype=F64)
        x = NORMAL.draw_at(path, level, 2000, rng)
        found, truth = model(x.float(), t.float(), t.float(), None).data, flow(x, t, torch.full_like(t, EPS))
        worst = max(worst, ((found - truth).square().mean().sqrt() / STD).item())
    measured("D5", "root mean square error over the data's standard deviation, worst of 6 levels", worst, 0.02)
    assert worst < 0.02


def test_D5_multistep_sampling_is_algorithm_1(measured, rng):
    """`Ddim(eta=inf)` makes x-hat + tau z where Algorithm 1 has sqrt(tau^2 - eps^2) z, from the same noise."""
    path, grid = VarianceExploding(), [80.0, 2.0, 0.4, 0.0]
    start, model = 80 * normal(6, 2), Denoiser(Closed(), path, ReadData())
    found = sample(path, lambda x, t, s: model(x, t, s, None), Ddim(eta=math.inf), grid, start, torch.Generator().manual_seed(3))
    again = torch.Generator().manual_seed(3)
    x = flow(start, torch.full((6,), 80.0, dtype=F64), torch.full((6,), EPS, dtype=F64))
    for tau in grid[1:-1]:
        x = x + math.sqrt(tau**2 - EPS**2) * normal_like(x, again)
        x = flow(x, torch.full((6,), tau, dtype=F64), torch.full((6,), EPS, dtype=F64))
    worst = (found - x).abs().max().item()
    measured("D5", "three-step sample less Algorithm 1's", worst, 1e-4, "tau for sqrt(tau^2 - eps^2), eps = 0.002")
    assert 0 < worst < 1e-4


# D6


class StepPlan(NamedTuple):
    t: object
    s: object


@dataclass(frozen=True)
class Exactly(Solver[StepPlan, None]):
    """The flow of NORMAL on sigma = t."""

    def plan(self, path, t, s):
        return StepPlan(t, s)

    def step(self, plan, denoise, x, memory, rng):
        return flow(x, plan.t, plan.s), None


def losses(solver, steps) -> float:
    """The mean loss of the closed form on a grid of this many steps."""
    path = VarianceExploding()
    objective = Consistency(path, Adjacent(uniform(steps, 2.0, EPS)), exact64(path), solver=solver)
    data, model = NORMAL.draw(4000, torch.Generator().manual_seed(0)), Denoiser(Closed(), path, ReadData())
    return objective(model, data, None, torch.Generator().manual_seed(1)).total.mean().item()


def test_D6_loss_vanishes_at_the_closed_form(measured):
    """With an exact solver the loss at D5's closed form is 0 to rounding; with Euler's steps its root is O(dt^2), with Heun's O(dt^3)."""
    zero = losses(Exactly(), 16)
    measured("D6", "loss at the closed form with an exact solver", zero, 1e-28)
    assert zero < 1e-28
    for solver, order in ((Euler(), 2), (Heun(), 3)):
        slope = math.log2(losses(solver, 64) / losses(solver, 256)) / 4
        measured("D6", f"order of the root of the loss in the step, {type(solver).__name__}", slope, order)
        assert slope == pytest.approx(order, abs=0.1)


def test_D6_teacher_and_target_take_no_gradient(rng):
    """Only the student's weights have gradients; the target's weights are those of the moving average, at every call."""
    path = VarianceExploding()
    student, teacher, target = (Denoiser(Closed(), path, ReadData()) for _ in range(3))
    for teach, aim in ((teacher, target), (None, target), (teacher, None), (None, None)):
        objective = Consistency(path, Adjacent(karras(8, 80.0, EPS)), teach, aim, weight=inverse_gap)
        objective(student, NORMAL.draw(16, rng), None, rng).total.sum().backward()
    Progressive(path, teacher, karras(8, 80.0, EPS))(student, NORMAL.draw(16, rng), None, rng).total.sum().backward()
    assert student.network.weight.grad is not None and teacher.network.weight.grad is None and target.network.weight.grad is None
    average = {"network.weight": torch.tensor(2.0, dtype=F64)}
    averaged = with_weights(student, average)
    x, t = normal(3, 2), torch.full((3,), 0.7, dtype=F64)
    assert torch.equal(averaged(x, t, t, None).data, 2 * flow(x, t, torch.full_like(t, EPS)))
    average["network.weight"].fill_(3.0)
    assert torch.equal(averaged(x, t, t, None).data, 3 * flow(x, t, torch.full_like(t, EPS)))


# D7


def test_D7_both_states_share_their_noise(rng):
    """Without a teacher the states at t and s are of the same data and the same noise; neighbours on the grid, each interval as often."""
    path, grid, ends = VarianceExploding(), karras(10, 80.0, EPS), Endpoints(normal(4000, 2), normal(4000, 2, seed=1))
    student = Recorder(lambda x, t, s, cond: Endpoints(x, x))
    Consistency(path, Adjacent(grid), coupling=Fixed(ends))(student, ends.data, None, rng)
    (nearer, s, *_), (x, t, *_) = student.calls
    assert_close(x, ends.data + t[:, None] * ends.noise, FLOAT64_IDENTITY)
    assert_close(nearer, ends.data + s[:, None] * ends.noise, FLOAT64_IDENTITY)
    place = (grid[:, None] == t).int().argmax(0)
    assert torch.equal(grid[place + 1], s)
    assert (torch.bincount(place, minlength=10) - 400).abs().max() < 5 * math.sqrt(400)


def test_D7_intervals_as_often_as_a_density_draws_in_them(measured, rng):
    """Improved consistency training's weights, erf differences of the log levels, with the tails in the outermost intervals."""
    grid, density = karras(10, 80.0, EPS), LogNormal(-1.1, 2.0)
    t, s = Adjacent(grid, density).draw(normal(40_000, 1), rng)
    below = torch.special.ndtr((grid.log() + 1.1) / 2.0)
    below[0], below[-1] = 1.0, 0.0
    expected = -below.diff()
    found = torch.bincount((grid[:, None] == t).int().argmax(0), minlength=10) / 40_000
    worst = ((found - expected).abs() / (expected * (1 - expected) / 40_000).sqrt()).max().item()
    measured("D7", "frequencies of the intervals: largest deviation in standard errors", worst, 4.0)
    assert worst < 4 and (s < t).all()


def test_D7_schedules_grow():
    """Improved training doubles 10 to 1280 in 8 equal shares; the first paper's goes from 2 to 150, and its target's decay from s0's."""
    assert [doubling_steps(k, 800) for k in (0, 99, 100, 350, 799)] == [10, 10, 20, 80, 1280]
    assert [growing_steps(k, 1000) for k in (0, 1000)] == [1, 150]
    steps = [growing_steps(k, 1000) for k in range(1001)]
    assert steps == sorted(steps) and steps[250] == pytest.approx(75, abs=1)
    assert target_decay(2) == pytest.approx(0.9) and target_decay(150) == pytest.approx(0.9 ** (2 / 150))


def test_D7_pseudo_huber_lies_between_a_norm_and_a_square():
    """sqrt(mean square + c^2) - c: the root for large differences, square / 2c for small ones; 1 / (t - s) for the weight."""
    guess, t = Endpoints(torch.tensor([[3.0, 4.0], [3e-6, 4e-6]], dtype=F64), normal(2, 2)), torch.tensor([2.0, 1.0], dtype=F64)
    path = VarianceExploding()
    example = Noised(path, Endpoints(torch.zeros(2, 2, dtype=F64), normal(2, 2)), normal(2, 2), t, inverse_gap(path, t, t / 2))
    total = PseudoHuber(0.001)(guess, example, None).total
    assert total[0].item() == pytest.approx(math.sqrt(12.5) - 0.001, rel=1e-6)
    assert total[1].item() == pytest.approx(2 * 12.5e-12 / 0.002, rel=1e-4)
