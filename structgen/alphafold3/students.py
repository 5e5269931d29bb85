"""Students of the structure head: a copy of it that takes few steps, and how it is sampled.

The teacher's sampler is made deterministic (no churn, no random motion between its steps), so that where it leads is a function of where it
starts. Alignment makes the loss blind to rigid motions, as in the head's own training: at high noise the frame of a prediction is no fact.
The student meets every orientation, because the data are turned before they are noised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from structgen.alphafold3.config import Config, Sampling
from structgen.alphafold3.labels import make_labels
from structgen.alphafold3.losses import StructureError
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.sampling import EXPLODING, CentreRandomAugmentation, sampling_schedule
from structgen.alphafold3.training import repeat
from structgen.errors import ConfigError
from structgen.features.examples import Example
from structgen.generative import Ddim, Objective
from structgen.generative.distill import Adjacent, Consistency, Progressive
from structgen.generative.path import Path, Time
from structgen.generative.weights import Edm
from structgen.typing import Float, Tensor

RAISED = 999.0
"""Churn of a consistency student: each step starts at a thousand times the noise level that the last one came to, which is fresh noise."""


@dataclass(frozen=True)
class Distillation:
    """How a student is taught.

    `progressive`: one step of it does what `stride` of the teacher's `teacher_steps` do (Salimans & Ho 2022); it is sampled in
    teacher_steps / stride deterministic steps. `consistency`: the data that it predicts do not change along the teacher's flow, of which
    `teacher_steps` intervals are compared (Song et al. 2023); it is sampled in any number of steps, each from fresh noise.
    """

    method: Literal["progressive", "consistency"] = "progressive"
    teacher_steps: int = 16
    stride: int = 2  # progressive alone
    student_steps: int = 2  # consistency alone: of the published model's sampler
    noise_levels: int = 8  # per crop
    smooth_lddt: float = 1.0  # weight of smooth lDDT to the experimental structure, beside the teacher; 0: the teacher alone

    def __post_init__(self) -> None:
        if min(self.teacher_steps, self.stride, self.student_steps, self.noise_levels) < 1 or self.smooth_lddt < 0:
            raise ConfigError("distillation: steps, stride and noise_levels are 1 or more, smooth_lddt is not negative")
        if self.method == "progressive" and self.teacher_steps % self.stride:
            raise ConfigError(f"distillation: {self.teacher_steps} steps of the teacher are no multiple of {self.stride}")

    @property
    def steps(self) -> int:
        """In which the published student is sampled."""
        return self.teacher_steps // self.stride if self.method == "progressive" else self.student_steps

    def sampling(self, teacher: Sampling) -> Sampling:
        """The student's sampler as SI Algorithm 18, so that it is run like any other model."""
        return student_sampling(teacher, self.method, self.steps)


def student_sampling(teacher: Sampling, method: str, steps: int) -> Sampling:
    """SI Algorithm 18 as the sampler of a student: DDIM without churn, multi-step consistency sampling with a thousandfold one."""
    plain = replace(teacher, steps=steps, gamma_0=0.0, noise_scale=1.0, step_scale=1.0)
    if method == "progressive":
        return plain
    highest, lowest = teacher.sigma_max / (1 + RAISED), teacher.sigma_min / (1 + RAISED)
    return replace(plain, gamma_0=RAISED, gamma_min=0.0, last_sigma="sigma_min", sigma_max=highest, sigma_min=lowest)


def check_teacher(teacher: Config, name: str) -> None:
    """Raises `ConfigError` for a consistency student, which says nothing of the flow that a student would follow."""
    if teacher.sampling.gamma_0 == RAISED:
        raise ConfigError(f"init: {name} is a consistency student itself; take its teacher")


def deterministic_times(teacher: Sampling, steps: int, sigma_data: float, path: Path = EXPLODING) -> Float[Tensor, " steps_plus_1"]:
    """The grid of the teacher's deterministic sampler. A grid of a divisor of `steps` is a part of it."""
    return sampling_schedule(student_sampling(teacher, "progressive", steps), sigma_data, path)[0]


@dataclass(frozen=True)
class StudentLoss:
    """The loss of an example under a student: a `train.Loss`. The teacher's trunk reads it once for both; the student trains its head."""

    student: AlphaFold3
    teacher: AlphaFold3  # takes no gradient
    terms: Distillation

    def __call__(self, example: Example, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        example = example.to(next(self.student.parameters()).device)
        batch, levels = example.batch, self.terms.noise_levels
        labels = make_labels(batch, example.positions, example.resolved)
        with torch.no_grad():
            trunk = self.teacher.trunk(batch, cycles=self.teacher.config.sampling.cycles, rng=rng)
            known = self.teacher.diffusion.condition(batch, trunk)
        condition = self.student.diffusion.condition(batch, trunk)
        data = repeat(labels.positions, levels)
        data = CentreRandomAugmentation(repeat(labels.resolved, levels))(data, rng)
        error = StructureError(labels, bond=0.0, smooth=self.terms.smooth_lddt)

        def teach(x: Tensor, t: Time, s: Time, cond: object) -> object:
            return self.teacher.denoiser(x, t, s, known)  # its condition is made by its own weights

        loss = self.objective(teach, error)(self.student.denoiser, data, condition, rng)
        return loss.total.mean(), {name: part.detach().mean().item() for name, part in loss.parts.items()}

    def objective(self, teach: Callable, error: StructureError) -> Objective:
        """The core's objective for this method."""
        path, sigma_data = self.student.denoiser.path, self.student.config.diffusion.sigma_data
        times = deterministic_times(self.teacher.config.sampling, self.terms.teacher_steps, sigma_data, path)
        if self.terms.method == "progressive":
            return Progressive(path, teach, times, self.terms.stride, weight=Edm(sigma_data), error=error)
        weight = _PerStep(sigma_data)
        # the student itself without gradient is the target: no average of it is needed (Song & Dhariwal 2023, section 3.2)
        return Consistency(path, Adjacent(times), teach, solver=Ddim(), weight=weight, error=error)


@dataclass(frozen=True)
class _PerStep:
    """1 / (sigma_t - sigma_s) for squared errors in units of `sigma_data`: no unit is left.

    Where alpha is 1 this is `inverse_gap` (Song & Dhariwal 2023, section 3.1). That one is in noise levels sigma / alpha, whose difference
    is infinite where a straight path begins with noise alone: a student would never learn its first step.
    """

    sigma_data: float

    def __call__(self, path: Path, t: Time, s: Time) -> Time:
        return 1 / (self.sigma_data * (path.alpha_sigma(t)[1] - path.alpha_sigma(s)[1]))
