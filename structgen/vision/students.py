"""Students of generators: networks that start as a copy of a teacher's and learn to take few steps, its guidance inside of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative import Ddim, Endpoints, Objective, Time
from structgen.generative.distill import Adjacent, Consistency, MeanFlow, Progressive, PseudoHuber
from structgen.generative.objective import velocity_error
from structgen.generative.weights import Constant
from structgen.vision.condition import Condition
from structgen.vision.draw import guided
from structgen.vision.formulations import Student
from structgen.vision.system import NetworkChoice, System


@dataclass(frozen=True)
class PictureDistillation:
    """How a student is taught, from the guided flow of the teacher; the core's methods.

    `progressive`: one step of it does what `stride` of the teacher's `teacher_steps` do (Salimans & Ho 2022; with guidance, Meng et al.
    2023); it is sampled in teacher_steps / stride deterministic steps. `consistency`: the data that it predicts do not change along the
    teacher's flow, of which `teacher_steps` intervals are compared (Song et al. 2023). `mean-flow`: it learns the mean velocity between any
    two times, from the teacher's velocity (Geng et al. 2025), and its network is given a second time. Both are sampled in any number of
    steps, `student_steps` when nothing is said.
    """

    method: Student = Student.PROGRESSIVE
    teacher_steps: int = 8
    stride: int = 2  # progressive alone
    student_steps: int = 2  # consistency and mean-flow
    guidance: float | None = None  # of the teacher; None: what its file says

    def __post_init__(self) -> None:
        if min(self.teacher_steps, self.stride, self.student_steps) < 1:
            raise ConfigError("distillation: steps and stride are 1 or more")
        if self.method is Student.PROGRESSIVE and self.teacher_steps % self.stride:
            raise ConfigError(f"distillation: {self.teacher_steps} steps of the teacher are no multiple of {self.stride}")

    @property
    def steps(self) -> int:
        """In which the published student is sampled."""
        return self.teacher_steps // self.stride if self.method is Student.PROGRESSIVE else self.student_steps

    def objective(self, teacher: System) -> Objective:
        """The core's objective, whose target is the guided teacher."""
        own, weight = teacher.formulation, teacher.config.guidance if self.guidance is None else self.guidance

        def teach(x: Tensor, t: Time, s: Time, cond: Condition) -> Endpoints:
            return guided(teacher, cond, len(x), weight)(x, t, s)

        if self.method is Student.MEAN_FLOW:
            return MeanFlow(own.path, power=0.0, teacher=teach)
        times = own.grid(self.teacher_steps)
        if self.method is Student.PROGRESSIVE:
            return Progressive(own.path, teach, times, self.stride, weight=Constant(), error=velocity_error)
        # the student itself without gradient is the target: no average of it is needed (Song & Dhariwal 2023, section 3.2)
        return Consistency(own.path, Adjacent(times), teach, solver=Ddim(), error=PseudoHuber(0.03))


def student_of(teacher: System, terms: PictureDistillation, name: str) -> System:
    """A system that starts as the teacher and says how the student is sampled. Raises `ConfigError` for a teacher whose flow is not the
    straight one, and for one that is no flow itself because it was taught by another method."""
    config = teacher.config
    if teacher.formulation.stop:
        found = config.trajectory.value
        raise ConfigError(f"init: {name} is of the trajectory {found!r}; students follow 'rf' and 'x/rf', whose steps are even")
    if config.student is not None and Student.PROGRESSIVE not in (config.student, terms.method):
        raise ConfigError(f"init: {name} is a {config.student.value} student itself; take its teacher")
    network = seeing_two_times(config.network) if terms.method is Student.MEAN_FLOW else config.network
    student = System(replace(config, network=network, student=terms.method, steps=terms.steps, guidance=1.0))
    weights = teacher.state_dict()
    missing = [key for key in student.state_dict() if key not in weights]
    if missing and not all(".times.1." in key for key in missing):
        raise ConfigError(f"init: {name} does not become a student: {missing[0]} is missing")
    student.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for key in missing:  # the second time says nothing at first
            if ".second." in key:
                student.get_parameter(key).zero_()
    return student


def seeing_two_times(choice: NetworkChoice) -> NetworkChoice:
    """The network with a second time among what steers it. Raises `ConfigError` for one that has no place for it."""
    for name in ("dit", "mmdit", "unet"):
        if (own := getattr(choice, name)) is not None:
            return replace(choice, **{name: replace(own, steering=replace(own.steering, times=2))})
    raise ConfigError("a mean-flow student sees two times: it is a DiT, an MM-DiT or a U-Net")
