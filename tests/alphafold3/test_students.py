"""Students of the structure head: their samplers, and what they are taught, against the definitions by hand."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
import torch

from structgen.alphafold3.config import Head, Sampling, tiny
from structgen.alphafold3.model import AlphaFold3, load_model, save_model
from structgen.alphafold3.sampling import first_state, sampling_schedule
from structgen.alphafold3.students import Distillation, StudentLoss, check_teacher, deterministic_times, student_sampling
from structgen.errors import ConfigError
from structgen.features.chains import ChainSet
from structgen.features.examples import Crops, Example, draw_example
from structgen.generative import Ddim, Ema, Endpoints, Linear, Loss, Noised, Path, VarianceExploding, sample
from structgen.tasks.student import StudentTraining
from structgen.tasks.task import Context
from structgen.train import Optimisation, TrainState, train_step
from tests.alphafold3.weights import randomise
from tests.archive import random_chains, write_archive

SD = 16.0


@pytest.fixture
def archive(tmp_path: pathlib.Path) -> pathlib.Path:
    rng = np.random.default_rng(0)
    return write_archive(tmp_path / "chains", [*random_chains(rng, 3, 14), *random_chains(rng, 1, 12, split="val")], rng)


@pytest.fixture
def teacher(rng: torch.Generator) -> AlphaFold3:
    """A network in which every part has a say."""
    return randomise(AlphaFold3(tiny()), rng, scale=0.1).eval().requires_grad_(False)


@pytest.fixture
def example(archive: pathlib.Path) -> Example:
    chains = ChainSet(archive)
    return draw_example(chains, chains.clusters(chains.split("train")), Crops(tokens=10), np.random.default_rng(1))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(last_sigma="zero", rho=5.0)])
def test_the_grid_of_a_student_is_a_part_of_its_teachers(sampling: Sampling):
    """Every fourth of 16 steps is the grid of 4, so rounds chain, and the published sampler runs on the times it was trained on."""
    torch.testing.assert_close(
        deterministic_times(sampling, 16, SD)[::4], deterministic_times(sampling, 4, SD), rtol=1e-9, atol=0, check_stride=False
    )
    own = Distillation(teacher_steps=16, stride=4).sampling(sampling)
    torch.testing.assert_close(sampling_schedule(own, SD)[0], deterministic_times(sampling, 16, SD)[::4], rtol=1e-9, atol=0)


def test_a_progressive_student_is_sampled_by_ddim():
    """Algorithm 18 without churn carries the state exactly where DDIM does."""
    path, start = VarianceExploding(), 2560 * torch.randn(2, 5, 3, dtype=torch.float64)
    times, solver = sampling_schedule(student_sampling(Sampling(), "progressive", 4), SD)

    def denoise(x: torch.Tensor, t: torch.Tensor, s: torch.Tensor) -> Endpoints:
        return path.from_data(torch.tanh(x / 30) * 10, x, t)

    ends = [sample(path, denoise, one, times, start, torch.Generator().manual_seed(0)) for one in (solver, Ddim())]
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("path", [VarianceExploding(), Linear(scale=SD)], ids=["diffusion", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_consistency_student_is_sampled_from_fresh_noise(steps: int, path: Path):
    """With the exact consistency function of normal data every number of steps gives the data's own law (deviation within 3 %), and what
    came before the last step is forgotten: the levels that the function is asked at are those of the teacher's grid."""
    times, solver = sampling_schedule(student_sampling(Sampling(), "consistency", steps), SD, path)
    asked = []

    def denoise(x: torch.Tensor, t: torch.Tensor, s: torch.Tensor) -> Endpoints:
        asked.append(float(t[0]))
        alpha, sigma = path.alpha_sigma(t)
        return path.from_data(x * (SD / (alpha**2 * SD**2 + sigma**2).sqrt())[:, None], x, t)

    rng = torch.Generator().manual_seed(0)
    start = first_state(path, times, torch.randn(20_000, 1, dtype=torch.float64, generator=rng))
    ends = sample(path, denoise, solver, times, start, rng)
    assert ends.std().item() == pytest.approx(SD, rel=0.03)
    levels = sampling_schedule(dataclasses.replace(Sampling(), steps=steps), SD, path)[0][:-1]
    assert asked == pytest.approx(levels.tolist(), rel=1e-9)


def test_a_step_of_the_student_is_taught_to_do_two_of_its_teacher(teacher: AlphaFold3, example: Example, rng: torch.Generator):
    """The target is on the line through x_t and the state that two Euler steps of the teacher's flow, made here by hand, lead to."""
    terms = Distillation(teacher_steps=4, noise_levels=3, smooth_lddt=0.0)
    loss, seen = StudentLoss(teacher, teacher, terms), []
    trunk = teacher.trunk(example.batch, cycles=1, rng=torch.Generator().manual_seed(5))
    known = teacher.diffusion.condition(example.batch, trunk)

    def record(guess: Endpoints, noised: Noised, cond: object) -> Loss:
        seen.append(noised)
        return Loss(torch.zeros(3), {})

    objective = loss.objective(lambda x, t, s, cond: teacher.denoiser(x, t, s, known), record)  # type: ignore[arg-type]
    data = torch.randn(3, example.batch.atoms, 3, generator=rng) * 5
    objective(teacher.denoiser, data, known, torch.Generator().manual_seed(2))
    times = deterministic_times(teacher.config.sampling, 4, teacher.config.diffusion.sigma_data).tolist()
    for k in range(3):
        x, t = seen[0].x[k : k + 1], seen[0].t[k].item()
        first = int(np.argmin([abs(t - time) for time in times]))
        assert first in (0, 2)
        y = x
        for now, then in ((times[first], times[first + 1]), (times[first + 1], times[first + 2])):
            at = torch.tensor([now], dtype=x.dtype)
            y = y + (then - now) * (y - teacher.denoiser(y, at, at, known).data) / now
        noise = (x - y) / (t - times[first + 2])
        torch.testing.assert_close(seen[0].truth.data[k : k + 1], x - t * noise, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("terms", [Distillation(teacher_steps=4, stride=1), Distillation(method="consistency", teacher_steps=4)])
@pytest.mark.parametrize("objective", ["diffusion", "flow"])
def test_what_the_student_knows_costs_nothing_or_little(example: Example, terms: Distillation, objective: str, rng: torch.Generator):
    """One step for one step: the teacher is its own student without error, whatever its path. Smooth lDDT to the experiment is told beside
    it."""
    config = dataclasses.replace(tiny(), head=Head(objective=objective))  # type: ignore[arg-type]
    teacher = randomise(AlphaFold3(config), rng, scale=0.1).eval().requires_grad_(False)
    terms = dataclasses.replace(terms, noise_levels=4, smooth_lddt=0.0)
    total, parts = StudentLoss(teacher, teacher, terms)(example, torch.Generator().manual_seed(1))
    if terms.method == "progressive":
        assert total.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(total) and 0 < parts["smooth_lddt"] < 1
    with_truth, _ = StudentLoss(teacher, teacher, dataclasses.replace(terms, smooth_lddt=2.0))(example, torch.Generator().manual_seed(1))
    assert with_truth.item() == pytest.approx(total.item() + 2 * parts["smooth_lddt"], rel=1e-4)


@pytest.mark.parametrize(
    "method, objective, left",
    [("progressive", "diffusion", 0.9), ("consistency", "diffusion", 0.9), ("consistency", "flow", 0.998)],  # no skip connection: slower
)
def test_a_student_learns_and_is_an_ordinary_model(
    archive: pathlib.Path, tmp_path: pathlib.Path, method: str, objective: str, left: float, rng: torch.Generator
):
    """On one crop the loss falls; only the head moves; the published file loads and is sampled in the student's steps."""
    config = dataclasses.replace(tiny(), head=Head(objective=objective))  # type: ignore[arg-type]
    teacher = randomise(AlphaFold3(config), rng, scale=0.1).eval().requires_grad_(False)
    save_model(teacher, tmp_path / "teacher.safetensors")
    terms = Distillation(method=method, teacher_steps=8, stride=8, student_steps=2, noise_levels=4, smooth_lddt=1.0)  # type: ignore[arg-type]
    context = Context(seed=0, data=archive, out=tmp_path, init=str(tmp_path / "teacher.safetensors"))
    task = StudentTraining(distillation=terms, crops=Crops(tokens=8)).build(context)
    optimisation = Optimisation(learning_rate=3e-3, warmup_steps=1, ema=Ema(0.5))
    state, example, losses = TrainState.start(task.network, optimisation), task.example(0), []
    for _ in range(12):
        state, metrics = train_step(state, [example], task.loss, optimisation, torch.Generator().manual_seed(0))
        losses.append(metrics["loss"])
    assert np.mean(losses[-3:]) < left * losses[0]
    task.publish(state.average, tmp_path / "student.safetensors", card="test")
    student = load_model(str(tmp_path / "student.safetensors"))
    assert student.config.sampling == terms.sampling(tiny().sampling)
    assert student.config.sampling.steps == (1 if method == "progressive" else 2)
    before, after = teacher.state_dict(), student.network.state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"denoiser"} and method in student.card


def test_impossible_distillations_are_refused():
    """A stride that does not divide, no steps, a consistency student for a teacher."""
    for wrong in ({"teacher_steps": 6, "stride": 4}, {"teacher_steps": 0}, {"noise_levels": 0}, {"smooth_lddt": -1.0}):
        with pytest.raises(ConfigError, match="distillation"):
            Distillation(**wrong)  # type: ignore[arg-type]
    consistency = Distillation(method="consistency")
    check_teacher(dataclasses.replace(tiny(), sampling=Distillation().sampling(Sampling())), "fine")
    with pytest.raises(ConfigError, match="take its teacher"):
        check_teacher(dataclasses.replace(tiny(), sampling=consistency.sampling(Sampling())), "student")
