"""An MM-DiT trained by structgen and one by diffusers on the same captions: Frechet distance and CLIP score against the number of steps.

    PYTHONPATH=. peers/bin/python -m benchmarks.vision_captions emoji_captioned_32.npz OUT       # environment: that of vision_speed

Everything is made here: the CLIP (configs/image_unclip_text.yaml), the codec and the generator (configs/image_emoji*.yaml), then diffusers'
`SD3Transformer2DModel` with the same first weights, on the same batches of the same latents, with the same optimiser, average and share of
lost captions, as its training script does it: logit-normal times of a thousand. A run that was cut goes on where it stopped. Both hear the
words through the same CLIP, which stands still; it measures the CLIP score as well. structgen hides the padding of a caption, diffusers'
pipeline reads it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from diffusers.training_utils import compute_density_for_timestep_sampling
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.vision_diffusers import mmdit
from benchmarks.vision_speed import quiet
from benchmarks.vision_training import optimised
from structgen.generative import Euler, generators, normal_like, sample
from structgen.judging import drawn, heard, in_parts
from structgen.metrics.frechet import frechet_distance
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet, to_bytes, to_float
from structgen.tasks.generator import GeneratorTask
from structgen.vision.condition import Condition, emptied
from structgen.vision.draw import Drawing, guided, latent_size
from structgen.vision.files import load, model_file
from structgen.vision.judge import Judge
from structgen.vision.system import System
from structgen.vision.unclip import Models
from tests.vision.answers import Case
from workflows.train import build_task, train
from workflows.training_run import TrainingRun, read_run

CONFIGS, STEPS, AT_ONCE, TIMES = Path(__file__).parents[1] / "configs", (4, 10, 20, 50), 64, 1000
Way = Callable[[int], Tensor]  # number of steps -> pictures


@dataclass(frozen=True)
class Measure:
    """Figures of pictures that were drawn for the captions of held-out ones, beside all held-out ones."""

    judge: Judge
    system: System  # whose CLIP listens
    asked: PictureSet
    real: np.ndarray  # features

    @classmethod
    def of(cls, system: System, pictures: PictureSet, count: int) -> Measure:
        judge, held_out = load(model_file(Path("emoji_judge")), Judge), pictures.part(True)
        asked = held_out.take(np.linspace(0, len(held_out) - 1, count).astype(int))
        return cls(judge, system, asked, in_parts(judge.features)(held_out.tensor()).numpy())

    def figures(self, made: Tensor) -> str:
        distance = frechet_distance(in_parts(self.judge.features)(made).numpy(), self.real)
        texts, clip = heard(self.system, self.asked, None).require("vector"), self.system.clip
        assert clip is not None
        return f"{distance:.3f}, {(in_parts(clip.pictures)(made) * texts).sum(1).mean().item():.3f}"


def systems(pictures: Path, out: Path, changes: dict[str, Any]) -> tuple[TrainingRun, System]:
    """CLIP, codec and generator, trained where they are not there yet."""
    for name, config in (("text", "image_unclip_text"), ("codec", "image_emoji_codec")):
        train(read_run(CONFIGS / f"{config}.yaml", {"data": str(pictures)}), out / name)
    parts = {name: str(out / name / "model.safetensors") for name in ("text", "codec")}
    run = read_run(CONFIGS / "image_emoji.yaml", changes | {"data": str(pictures), "task": parts})
    train(run, out / "structgen")
    return run, load(out / "structgen" / "model.safetensors", System)


def peer(run: TrainingRun, out: Path) -> nn.Module:
    """diffusers' transformer with averaged weights, after the run's number of samples; read from where that was done."""
    task = build_task(run, out)
    assert isinstance(task, GeneratorTask)
    latents = task.latents[:1]
    model = mmdit(Case(task.network, {"x": latents}, lambda net, i: net(**i)))[0].eval()
    path = out / "diffusers.safetensors"
    if not path.exists():
        save_file(dict(optimised(model, run, velocity_loss(task, model, run.seed)).state_dict()), path)
    model.load_state_dict(load_file(path))
    return model.requires_grad_(False)


def velocity_loss(task: GeneratorTask, model: nn.Module, seed: int) -> Callable[[int], Tensor]:
    """Of a step: noise less data is to be said, at logit-normal times."""
    rng, sigmas = torch.Generator().manual_seed(seed), FlowMatchEulerDiscreteScheduler().sigmas
    drop, size = task.settings.drop, task.settings.batches.size

    def loss(step: int) -> Tensor:
        batch = task.example(step)
        cond = emptied(task.condition(task.train, batch.index), torch.rand(size, generator=rng) < drop)
        share = compute_density_for_timestep_sampling("logit_normal", size, logit_mean=0.0, logit_std=1.0, generator=rng)
        sigma, noise = sigmas[(share * TIMES).long()], torch.randn(batch.x.shape, generator=rng)
        noised = torch.lerp(batch.x, noise, sigma[:, None, None, None])
        return F.mse_loss(model(noised, cond.tokens, cond.vector, sigma * TIMES).sample, noise - batch.x)

    return loss


def in_turn(system: System, asked: PictureSet, latents: Callable[[Condition, int, list[torch.Generator]], Tensor]) -> Way:
    """Pictures of the captions, through bytes as a file would hold them; `latents` of a condition, in so many steps."""

    def way(steps: int) -> Tensor:
        parts = []
        for start in range(0, len(asked), AT_ONCE):
            rows = asked.take(np.arange(start, min(start + AT_ONCE, len(asked))))
            z = latents(heard(system, rows, None), steps, generators(start, len(rows)))
            parts.append(to_float(to_bytes(system.decoded(z))))
        return torch.cat(parts)

    return way


def by_pipeline(system: System, pipeline: Any, asked: PictureSet) -> Way:
    def latents(cond: Condition, steps: int, rng: list[torch.Generator]) -> Tensor:
        embedded = {"prompt_embeds": cond.require("tokens"), "pooled_prompt_embeds": cond.require("vector")}
        empty = {f"negative_{name}": torch.zeros_like(value) for name, value in embedded.items()}
        given = dict(num_inference_steps=steps, guidance_scale=system.config.guidance, output_type="latent")
        return pipeline(**embedded, **empty, **given, generator=rng).images

    return in_turn(system, asked, latents)


def by_euler(system: System, asked: PictureSet) -> Way:
    """structgen's sampler with a method of first order."""
    formulation, size = system.formulation, latent_size(system)

    def latents(cond: Condition, steps: int, rng: list[torch.Generator]) -> Tensor:
        noise, denoise = normal_like(torch.empty(len(rng), *size), rng), guided(system, cond, len(rng), system.config.guidance)
        return sample(formulation.path, denoise, Euler(), formulation.grid(steps), noise, rng)

    return in_turn(system, asked, latents)


def ways(system: System, model: nn.Module, asked: PictureSet) -> dict[str, Way]:
    """structgen's system, also with Euler steps, and diffusers' pipeline with its scheduler, the shift it ships with, and a faster one."""
    guidance = system.config.guidance
    found: dict[str, Way] = {
        "structgen": lambda steps: drawn(Models((system,)), asked, [Drawing(steps, guidance)]),
        "structgen, Euler": by_euler(system, asked),
    }
    flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True)
    schedulers = {
        "Euler": FlowMatchEulerDiscreteScheduler(), "Euler, shift 3": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "DPM-Solver++ 2M": DPMSolverMultistepScheduler(**flow),
    }  # fmt: skip
    nothing = dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3", "vae"))
    for name, scheduler in schedulers.items():
        found[f"diffusers, {name}"] = by_pipeline(system, quiet(StableDiffusion3Pipeline(model, scheduler, **nothing)), asked)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run, system = systems(options.pictures, options.out, {})
    measure, model = Measure.of(system, read_set(options.pictures), options.count), peer(run, options.out)
    print("| | " + " | ".join(f"{steps} steps" for steps in STEPS) + " |\n" + "| --- " * (len(STEPS) + 1) + "|", flush=True)
    for name, way in ways(system, model, measure.asked).items():
        with torch.no_grad():
            print(f"| {name} | " + " | ".join(measure.figures(way(steps)) for steps in STEPS) + " |", flush=True)
    truth = measure.asked.tensor()
    decoded = in_parts(lambda x: system.decoded(system.encoded(x)))(truth)
    for name, made in {"the pictures asked for": truth, "through the codec": decoded, "shuffled": truth.roll(1, 0)}.items():
        print(f"{name}: {measure.figures(made)}")


if __name__ == "__main__":
    main()
