"""A DiT trained by structgen and one by diffusers on the same samples: Frechet distance against the number of steps.

    python -m benchmarks.trajectories fashion_mnist_25k.npz JUDGE OUT                        # trains structgen's, in its own environment
    PYTHONPATH=. peers/bin/python -m benchmarks.vision_training fashion_mnist_25k.npz JUDGE OUT

diffusers' is what its pipeline is trained with: noise predicted, a thousand linear betas, drawn by `DiTPipeline` with DDIM and with
DPM-Solver++ 2M. Size, start of the layers, latents, their order, optimiser, average of weights and lost labels are those of structgen's
run; its transformer keeps an embedding of times and of 1,000 classes in every block, as its pipeline wants it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiTPipeline, DPMSolverMultistepScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.vision_diffusers import dit
from benchmarks.vision_speed import CLASSES, Decoder, quiet
from structgen.configuration import from_mapping
from structgen.generative import generators
from structgen.judging import drawn, in_parts
from structgen.metrics.frechet import frechet_distance
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet, to_bytes, to_float
from structgen.tasks.batches import indices
from structgen.tasks.latents import read_latents
from structgen.vision.dit import DiT
from structgen.vision.draw import Drawing
from structgen.vision.files import load
from structgen.vision.judge import Judge
from structgen.vision.system import System
from structgen.vision.unclip import Models
from tests.vision.answers import Case
from workflows.training_run import TrainingRun

STEPS, AT_ONCE = (4, 10, 20, 50), 50
OWN = {"structgen, rf/lognorm(0.00, 1.00)": "rf_lognorm_0.00_1.00", "structgen, eps/linear": "eps_linear"}


def optimised(model: nn.Module, run: TrainingRun, loss: Callable[[int], Tensor]) -> nn.Module:
    """The model with averaged weights after the steps of a run, `loss` being that of a step: as structgen's trainer does it."""
    optimisation = run.optimisation
    optimiser, average = optimisation.start(list(model.parameters())), EMAModel(model.parameters(), decay=optimisation.ema.decay)
    for step in range(run.steps):
        optimiser.zero_grad()
        loss(step).backward()
        nn.utils.clip_grad_norm_(model.parameters(), optimisation.clip_norm)
        for group in optimiser.param_groups:
            group["lr"] = optimisation.rate(step)
        optimiser.step()
        average.step(model.parameters())
    average.copy_to(model.parameters())
    return model.requires_grad_(False)


def trained(latents: PictureSet, run: TrainingRun, system: System) -> nn.Module:
    """diffusers' transformer with averaged weights, after the run's number of samples."""
    size, config = run.task["batches"]["size"], system.config.network.dit
    assert config is not None
    torch.manual_seed(run.seed)
    start = DiT(replace(config, steering=replace(config.steering, classes=CLASSES, frequencies=256)))
    model = dit(Case(start, {"x": torch.zeros(1, *latents.pixels.shape[1:])}, lambda net, i: net(**i)))[0].eval()
    scheduler, rng = DDPMScheduler(), torch.Generator().manual_seed(run.seed)

    def loss(step: int) -> Tensor:
        rows = indices(len(latents), size, step, run.seed)
        x, labels = torch.from_numpy(latents.pixels[rows]), torch.from_numpy(latents.labels[rows])
        labels = torch.where(torch.rand(size, generator=rng) < 0.1, CLASSES, labels)
        noise, t = torch.randn(x.shape, generator=rng), torch.randint(0, 1000, (size,), generator=rng)
        guess = model(scheduler.add_noise(x, noise, t), timestep=t, class_labels=labels).sample
        return F.mse_loss(guess, noise)

    return optimised(model, run, loss)


def by_own(system: System, asked: PictureSet, steps: int) -> Tensor:
    """Pictures of the labels."""
    return drawn(Models((system,)), asked, [Drawing(steps, system.config.guidance)])


def by_pipeline(pipeline: DiTPipeline, asked: PictureSet, steps: int, guidance: float) -> Tensor:
    """Pictures of the labels, through bytes as those of structgen."""
    parts = []
    for start in range(0, len(asked), AT_ONCE):
        labels = asked.labels[start : start + AT_ONCE].tolist()
        given = dict(num_inference_steps=steps, generator=generators(start, len(labels)), output_type="pt")
        pixels = 2 * pipeline(labels, guidance_scale=guidance, **given).images - 1
        parts.append(to_float(to_bytes(pixels)))
    return torch.cat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("judge", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    judge, held_out = load(options.judge, Judge), read_set(options.pictures).part(True)
    real = held_out.take(np.linspace(0, len(held_out) - 1, 1000).astype(int))
    asked = real.take(np.linspace(0, len(real) - 1, options.count).astype(int))
    features = in_parts(judge.features)
    of_real = features(real.tensor()).numpy()
    systems = {name: load(options.out / folder / "model.safetensors", System) for name, folder in OWN.items()}
    system = next(iter(systems.values()))
    latents = read_latents(options.out / "latents", options.out / "codec.safetensors")[0].part(False)
    run = from_mapping(TrainingRun, json.loads((options.out / next(iter(OWN.values())) / "run.json").read_text()))
    model = trained(latents, run, system)
    ways: dict[str, Callable[[int], Tensor]] = {name: partial(by_own, own, asked) for name, own in systems.items()}
    for name, scheduler in (("DDIM", DDIMScheduler(clip_sample=False)), ("DPM-Solver++ 2M", DPMSolverMultistepScheduler())):
        pipeline = quiet(DiTPipeline(model, Decoder(system.decoded), scheduler))
        ways[f"diffusers, {name}"] = partial(by_pipeline, pipeline, asked, guidance=system.config.guidance)
    print("| | " + " | ".join(f"{steps} steps" for steps in STEPS) + " |\n" + "| --- " * (len(STEPS) + 1) + "|")
    for name, way in ways.items():
        found = []
        for steps in STEPS:
            with torch.no_grad():
                made = way(steps)
            distance = frechet_distance(features(made).numpy(), of_real)
            found.append(f"{distance:.3f}, {(in_parts(judge)(made).argmax(1).numpy() == asked.labels).mean():.2f}")
        print(f"| {name} | " + " | ".join(found) + " |", flush=True)


if __name__ == "__main__":
    main()
