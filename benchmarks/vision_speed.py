"""Pictures drawn by structgen and by diffusers' pipelines, the same networks with the same weights in both (docs/vision.md).

    python -m venv peers && peers/bin/pip install -e . "torch>=2.9,<2.14" diffusers==0.42.1 transformers accelerate
    PYTHONPATH=. peers/bin/python -m benchmarks.vision_speed [--page FILE] [--only DiT|MMDiT|UNet] [--repeats 1]

One process, one thread; the two are called in turns, and the least processor time of several calls counts. A call is all that a user's call
is: noise of one generator a picture, every step, guidance. What comes before and after the sampler (text encoder, decoder) is left out of
both. What a step costs beside the network is the slope of the time against steps of calls whose networks return a ready tensor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import diffusers
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DiTPipeline, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch import Tensor, nn

from benchmarks.vision_diffusers import dit, mmdit, unet
from structgen.generative import Euler, Linear, generators, normal_like, sample
from structgen.vision.condition import Condition
from structgen.vision.dit import DiTConfig
from structgen.vision.draw import Drawing, draw, guided
from structgen.vision.formulations import Trajectory
from structgen.vision.mmdit import MMDiTConfig
from structgen.vision.steering import Steering
from structgen.vision.system import NetworkChoice, System, SystemConfig
from structgen.vision.unet import UNetConfig
from tests.vision.answers import Case
from tests.vision.weights import drawn

K = TypeVar("K", bound=Hashable)
STEPS, GUIDANCE = 10, 2.0
MANY = 200  # steps of the calls that say what a step costs beside the network: enough that a call's own noise is small beside them
REPEATS = {1: 12, 4: 6, 16: 3, 64: 2}  # by pictures of a call
SIDE, CLASSES, WORDS, C_WORDS = 16, 1000, 8, 64  # diffusers' DiT pipeline takes class 1000 for none


@dataclass(frozen=True)
class Pair:
    """One network in both libraries, and how pictures are drawn with it."""

    name: str
    peer_name: str
    system: System
    peer: nn.Module
    ours: Callable[[int, int], object]  # pictures, steps
    theirs: Callable[[int, int], object]


class Decoder(nn.Module):
    """Stands where diffusers' DiT pipeline wants its decoder of latents [b, c, h, w]."""

    config = SimpleNamespace(scaling_factor=1.0)
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, pixels: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pixels = pixels

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.pixels(z))


def system_of(choice: NetworkChoice, channels: int, trajectory: Trajectory, **inputs: Tensor) -> tuple[System, Case]:
    """A system without a codec and with drawn weights, and its network as a case whose weights can be copied."""
    system = System(SystemConfig(choice, (channels, SIDE, SIDE), trajectory)).eval()
    case = Case(drawn(system.network), {"x": torch.zeros(1, channels, SIDE, SIDE), **inputs}, lambda net, i: net(**i))
    return system, case


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def of_classes() -> Pair:
    config = DiTConfig(channels=4, width=128, depth=4, heads=4, steering=Steering(classes=CLASSES))
    system, case = system_of(NetworkChoice(dit=config), 4, Trajectory.EPS_LINEAR)
    pipeline = quiet(DiTPipeline(dit(case)[0].eval(), Decoder(lambda z: z), DDIMScheduler(clip_sample=False)))

    def ours(count: int, steps: int) -> object:
        return draw(system, Condition(label=torch.arange(count)), count, Drawing(steps, GUIDANCE))

    def theirs(count: int, steps: int) -> object:
        given = dict(num_inference_steps=steps, generator=generators(0, count), output_type="pt")
        return pipeline(list(range(count)), guidance_scale=GUIDANCE, **given).images

    return Pair("`DiT` by class, guidance, DPM-Solver++ 2M", "`DiTPipeline`, DDIM", system, pipeline.transformer, ours, theirs)


def of_words() -> Pair:
    """Raises `AssertionError` where both do not draw the same pictures with Euler steps from the same noise."""
    steering = Steering(c_vector=C_WORDS, longest=MMDiTConfig(1, 1).steering.longest)
    config = MMDiTConfig(channels=4, c_tokens=C_WORDS, width=128, depth=4, heads=4, steering=steering)
    system, case = system_of(NetworkChoice(mmdit=config), 4, Trajectory.RF)
    nothing = dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3", "vae"))
    pipeline = quiet(StableDiffusion3Pipeline(mmdit(case)[0].eval(), FlowMatchEulerDiscreteScheduler(), **nothing))

    def cond(count: int) -> Condition:
        rng = generators(1, count)
        return Condition(tokens=normal_like(torch.empty(count, WORDS, C_WORDS), rng), vector=normal_like(torch.empty(count, C_WORDS), rng))

    def peer(count: int, steps: int, **given: Any) -> Tensor:
        own = cond(count)
        embedded = {"prompt_embeds": own.require("tokens"), "pooled_prompt_embeds": own.require("vector")}
        empty = {f"negative_{name}": torch.zeros_like(value) for name, value in embedded.items()}
        fixed = dict(num_inference_steps=steps, guidance_scale=GUIDANCE, output_type="latent")
        return pipeline(**embedded, **empty, **fixed, **given).images

    check_equal(system, cond(4), pipeline, peer)
    return Pair(
        "`MMDiT` by words, guidance, Adams 2", "`StableDiffusion3Pipeline`, Euler", system, pipeline.transformer,
        lambda count, steps: draw(system, cond(count), count, Drawing(steps, GUIDANCE)),
        lambda count, steps: peer(count, steps, generator=generators(0, count)),
    )  # fmt: skip


@torch.inference_mode()
def check_equal(system: System, cond: Condition, pipeline: Any, peer: Callable[..., Tensor]) -> None:
    noise = normal_like(torch.empty(4, 4, SIDE, SIDE), generators(0, 4))
    found = peer(4, STEPS, latents=noise)
    own = sample(Linear(), guided(system, cond, 4, GUIDANCE), Euler(), pipeline.scheduler.sigmas, noise, generators(0, 4))
    off = (own - found).abs().max().item() / found.abs().max().item()
    if off > 1e-4:
        raise AssertionError(f"the two draw different pictures: {off:g} of the largest value apart")


def of_nothing() -> Pair:
    steering = Steering(frequencies=32, longest=10_000.0 ** (15 / 16))
    config = UNetConfig(c_in=3, c_out=3, widths=(32, 64), attend=(False, True), blocks=1, head_width=32, groups=8, steering=steering)
    system, case = system_of(NetworkChoice(unet=config), 3, Trajectory.EPS_LINEAR)
    pipeline = quiet(DDIMPipeline(unet(case)[0].eval(), DDIMScheduler()))

    def theirs(count: int, steps: int) -> object:
        return pipeline(count, num_inference_steps=steps, generator=generators(0, count), output_type="np").images

    def ours(count: int, steps: int) -> object:
        return draw(system, Condition(), count, Drawing(steps, 1.0))

    return Pair("`UNet`, no condition, DPM-Solver++ 2M", "`DDIMPipeline`", system, pipeline.unet, ours, theirs)


NETWORKS: Mapping[str, Callable[[], Pair]] = MappingProxyType({"DiT": of_classes, "MMDiT": of_words, "UNet": of_nothing})


def least(ways: Mapping[K, Callable[[], object]], repeats: int) -> dict[K, float]:
    """Seconds of the processor in the cheapest call of each, in turns, after one that does not count."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(repeats + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            spent = time.process_time() - started
            best[name] = min(best[name], spent) if turn else best[name]
    return best


def without_network(pair: Pair, count: int, repeats: int) -> dict[str, float]:
    """Seconds of a step whose network is free."""
    size = (pair.system.config.size[0], SIDE, SIDE)
    ready = {rows: torch.randn(rows, *size) for rows in (count, 2 * count)}
    answers: list[tuple[nn.Module, Callable[..., Any]]] = [
        (pair.system.network, lambda x, *rest, **named: ready[len(x)]),
        (pair.peer, lambda *first, **named: _answer(ready[len(first[0] if first else named["hidden_states"])])),
    ]
    with ExitStack() as stack:
        for module, answer in answers:
            stack.enter_context(mock.patch.object(module, "forward", answer))
        ways = {(name, steps): way for steps in (STEPS, MANY) for name, way in calls(pair, count, steps).items()}
        spent = least(ways, repeats)
    return {name: (spent[name, MANY] - spent[name, STEPS]) / (MANY - STEPS) for name in ("ours", "theirs")}


def calls(pair: Pair, count: int, steps: int) -> dict[str, Callable[[], object]]:
    return {"ours": lambda: pair.ours(count, steps), "theirs": lambda: pair.theirs(count, steps)}


class _answer(tuple):
    """diffusers' networks answer with an object or a tuple."""

    def __new__(cls, sample: Tensor) -> _answer:
        return super().__new__(cls, (sample,))

    @property
    def sample(self) -> Tensor:
        return self[0]


HEAD = f"""# Drawing pictures beside diffusers

Made by `python -m benchmarks.vision_speed` (diffusers {diffusers.__version__}, torch {torch.__version__}, one thread); not to be edited.
Networks and weights are the same in both, {STEPS} steps with one evaluation each, states of {SIDE} x {SIDE}; nothing is encoded or decoded.
With Euler steps from the same noise the two draw the same pictures (checked in the run, MM-DiT). Milliseconds of the processor a picture;
"beside the network" is the share of a step that is left when the network costs nothing.

| | pictures at once | structgen | diffusers | ratio | beside the network: structgen | diffusers |
| --- | --- | --- | --- | --- | --- | --- |
"""


def rows(pair: Pair, times: int) -> list[str]:
    found = []
    for count, repeats in ((count, times * repeats) for count, repeats in REPEATS.items()):
        spent, free = least(calls(pair, count, STEPS), repeats), without_network(pair, count, 3 * repeats)
        own, other = (1000 * spent[name] / count for name in ("ours", "theirs"))
        shares = " | ".join(f"{100 * free[name] * STEPS / spent[name]:.1f} %" for name in ("ours", "theirs"))
        found.append(f"| {pair.name}; {pair.peer_name} | {count} | {own:.1f} | {other:.1f} | {own / other:.2f} | {shares} |")
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="write the tables there, too")
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    parser.add_argument("--repeats", type=int, default=1, help="times the usual number of calls")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [NETWORKS[options.only]] if options.only else NETWORKS.values()
    lines = [row for make in chosen for row in rows(make(), options.repeats)]
    if options.page:
        options.page.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
