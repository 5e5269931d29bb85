"""Students of generators: what they start as, what they are taught, and how they are sampled."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import AverageVelocity, Ddim, generators, sample
from structgen.vision.condition import Condition
from structgen.vision.dit import DiTConfig
from structgen.vision.draw import Drawing, draw, guided
from structgen.vision.formulations import Student, Trajectory
from structgen.vision.steering import Steering
from structgen.vision.students import PictureDistillation, student_of
from structgen.vision.system import NetworkChoice, System, SystemConfig
from tests.vision.weights import drawn

CLASSES, SIZE = ("a", "b"), (1, 4, 4)


def teacher(trajectory: Trajectory = Trajectory.RF) -> System:
    """A small generator with drawn weights."""
    dit = DiTConfig(channels=1, width=16, depth=2, heads=2, steering=Steering(classes=2, frequencies=8))
    system = System(SystemConfig(NetworkChoice(dit=dit), SIZE, trajectory, classes=CLASSES, guidance=1.5))
    drawn(system.network)
    return system.requires_grad_(False).eval()


@pytest.mark.parametrize("method", Student)
def test_a_new_student_is_its_teacher_without_guidance(method):
    """Before training its network says what the teacher's says, whatever second time it is given; its file says how it is sampled."""
    own = teacher()
    student = student_of(own, PictureDistillation(method, student_steps=3), "teacher")
    x, cond = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0)), Condition(label=torch.tensor([0, 1, -1]))
    t, s = torch.tensor([0.3, 0.7, 1.0]), torch.tensor([0.0, 0.2, 0.9])
    first, second = own.denoiser()(x, t, s, cond), student.denoiser()(x, t, s, cond)
    assert torch.allclose(own.formulation.path.velocity(first, t), student.formulation.path.velocity(second, t), atol=1e-5)
    assert student.config.steps == (4 if method is Student.PROGRESSIVE else 3) and student.config.guidance == 1.0
    assert isinstance(student.formulation.reading, AverageVelocity) == (method is Student.MEAN_FLOW)


@pytest.mark.parametrize("trajectory", [Trajectory.RF, Trajectory.X_RF])
def test_a_perfect_progressive_student_lands_where_the_guided_teacher_does(trajectory):
    """The loss is 0 for a denoiser that points from every state of the student's grid to where two guided steps lead, and one step of it
    lands there."""
    own = teacher(trajectory)
    terms = PictureDistillation(teacher_steps=2, stride=2, guidance=2.0)
    objective, cond = terms.objective(own), Condition(label=torch.tensor([0, 1]))
    noise = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1))
    path, grid = own.formulation.path, own.formulation.grid(2)
    end = sample(path, guided(own, cond, 2, 2.0), Ddim(), grid, noise, torch.Generator())

    def perfect(x: torch.Tensor, t: torch.Tensor, s: torch.Tensor, cond: Condition):
        led = sample(path, guided(own, cond, len(x), 2.0), Ddim(), grid, x, torch.Generator())
        return path.through(x, t, led, s)

    loss = objective(perfect, torch.zeros(2, *SIZE), cond, generators(0, 2)).total
    assert loss.max() < 1e-8
    assert torch.allclose(sample(path, partial(perfect, cond=cond), Ddim(), [1.0, 0.0], noise, torch.Generator()), end, atol=1e-5)


@pytest.mark.parametrize("method", Student)
def test_students_learn_and_draw_in_one_step(method):
    """Every method's loss falls from its start on a batch that stays the same, and one step gives pictures, the same for the same seed."""
    own = teacher()
    student = student_of(own, PictureDistillation(method, teacher_steps=4), "teacher")
    objective = PictureDistillation(method, teacher_steps=4).objective(own)
    data, cond = torch.randn(8, *SIZE, generator=torch.Generator().manual_seed(2)), Condition(label=torch.arange(8) % 2)
    optimiser, losses = torch.optim.Adam(student.network.parameters(), lr=3e-3), []
    for _ in range(12):
        loss = objective(student.denoiser(), data, cond, generators(3, 8)).total.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    made = [draw(student, cond.rows(slice(n)), n, Drawing(1, 1.0, seed=4)) for n in (8, 3)]
    assert made[0].shape == (8, *SIZE) and torch.allclose(made[0][:3], made[1], atol=1e-5)


def test_what_cannot_be_a_teacher_is_said():
    """A flow with uneven steps, a student of a method that leaves no flow, and steps that no stride divides."""
    with pytest.raises(ConfigError, match="students follow 'rf'"):
        student_of(teacher(Trajectory.V_COS), PictureDistillation(), "file")
    consistent = student_of(teacher(), PictureDistillation(Student.CONSISTENCY), "teacher")
    with pytest.raises(ConfigError, match="take its teacher"):
        student_of(consistent, PictureDistillation(Student.CONSISTENCY), "file")
    with pytest.raises(ConfigError, match="no multiple"):
        replace(PictureDistillation(), teacher_steps=5)
