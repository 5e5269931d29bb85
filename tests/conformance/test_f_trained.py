"""Rows F3 and F13, trained for a minute: what grows with the network, and whether a control is followed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import structgen
from structgen.generative import Denoiser, Ema, Linear, LogitNormal, ReadVelocity, Regression, generators
from structgen.generative.weights import Constant
from structgen.pictures.edges import edge_agreement, edges
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet, to_bytes, to_float
from structgen.tasks.batches import Batching, indices
from structgen.tasks.generator import GeneratorTask, GeneratorTraining, reduced
from structgen.tasks.task import Context
from structgen.train import Optimisation, TrainState, train_step
from structgen.vision.cascade import Scale
from structgen.vision.condition import Condition
from structgen.vision.controlnet import ControlConfig, ControlledConfig
from structgen.vision.dit import DiTConfig
from structgen.vision.draw import Drawing, draw
from structgen.vision.files import Coded, load, save
from structgen.vision.steering import Steering
from structgen.vision.system import NetworkChoice, System
from structgen.vision.unet import UNetConfig
from structgen.vision.video_dit import Packed, VideoDiT, pack, packed_velocity_error
from tests.vision.training import published

SHIPPED = Path(__file__).parents[2] / "data" / "pictures"
CUTS = ((8, 16, 16), (4, 16, 8), (8, 8, 16), (16, 8, 8))  # frames, rows, columns
PATCH = (2, 4, 4)
UNET = UNetConfig(
    c_in=4, c_out=4, widths=(48, 64), attend=(True, True), blocks=1, head_width=16, steering=Steering(classes=10, frequencies=64)
)


def mixed(pictures: PictureSet, rows: np.ndarray, seed: int) -> tuple[torch.Tensor, Packed]:
    """Clips of four lengths and shapes in one batch, cut at places of chance."""
    rng, clips = np.random.default_rng(seed), []
    for n, row in enumerate(rows):
        size = CUTS[n % len(CUTS)]
        starts = [int(rng.integers(whole - part + 1)) for whole, part in zip(pictures.pixels.shape[2:], size, strict=True)]
        t, h, w = (slice(start, start + part) for start, part in zip(starts, size, strict=True))
        clips.append(to_float(pictures.pixels[row][:, t, h, w]))
    return pack(clips, PATCH, Condition(label=torch.from_numpy(pictures.labels[rows])))


@pytest.mark.slow
def test_F3_larger_models_have_a_lower_held_out_loss(measured):
    """Three sizes on the same batches of mixed lengths and shapes: the loss on held-out clips falls."""
    pictures = reduced(read_set(SHIPPED / "moving_digits_200.npz"), Scale(2))
    train, held_out = pictures.part(False), pictures.part(True)
    objective = Regression(Linear(), LogitNormal(), Constant(), packed_velocity_error)
    losses = {}
    for width, depth in ((16, 1), (32, 2), (64, 4)):
        torch.manual_seed(0)
        net = VideoDiT(DiTConfig(1, PATCH, width, depth, 4, steering=Steering(classes=10, frequencies=32)))
        denoiser = Denoiser(net, Linear(), ReadVelocity())

        def loss(place: int, rng: torch.Generator, denoiser: Denoiser[Packed] = denoiser) -> tuple[torch.Tensor, dict[str, float]]:
            tokens, packed = mixed(train, indices(len(train), 16, place, 0), place)
            return objective(denoiser, tokens, packed, rng).total.mean(), {}

        optimisation = Optimisation(3e-3, (0.9, 0.99), warmup_steps=20, decay=0.1, decay_steps=400, clip_norm=1.0, ema=Ema(0.98))
        state = TrainState.start(net, optimisation)
        for step in range(400):
            state, _ = train_step(state, [step], loss, optimisation, generators(0, 1, first=step))
        net.load_state_dict(state.average)
        rows = np.arange(160) % len(held_out)
        with torch.no_grad():
            parts = [mixed(held_out, part, 10_000 + k) for k, part in enumerate(np.split(rows, 4))]
            found = [objective(denoiser, *part, generators(k, 40)).total for k, part in enumerate(parts)]
        losses[sum(p.numel() for p in net.parameters())] = torch.cat(found).mean().item()
        measured("F3", f"held-out loss of width {width}, depth {depth}", list(losses.values())[-1], None)
    assert list(losses.values()) == sorted(losses.values(), reverse=True)


@pytest.mark.slow
def test_F13_pictures_follow_the_edges_they_are_given(measured, tmp_path):
    """A U-Net of latents, then a ControlNet of it, each trained for a minute: edges of what is drawn agree with held-out ones far better
    than those of its base, which hears the same class and noise."""
    shipped = load(Path(structgen.__file__).parent / "weights" / "pictures" / "fashion.safetensors", System)
    coded = Coded(shipped.config.codec)
    coded.codec.load_state_dict(shipped.codec.state_dict())
    save(coded, tmp_path / "codec.safetensors", card="")
    data = SHIPPED / "fashion_550.npz"
    own = GeneratorTraining(NetworkChoice(unet=UNET), codec=str(tmp_path / "codec.safetensors"), batches=Batching(32))
    torch.manual_seed(0)
    base = published(GeneratorTask(own, Context(0, data, tmp_path)), tmp_path / "base.safetensors", 300)
    choice = NetworkChoice(controlnet=ControlledConfig(UNET, ControlConfig(1, (16, 32, 32))))
    task = GeneratorTask(replace(own, network=choice), Context(0, data, tmp_path, init=str(base)))
    control = published(task, tmp_path / "control.safetensors", 300)
    asked = read_set(data).part(True)
    wanted = edges(asked.pixels)
    cond = Condition(label=torch.from_numpy(asked.labels), control=to_float(wanted))
    drawn = [draw(load(path, System), cond, len(asked), Drawing(12, 1.0)) for path in (base, control)]
    without, followed = (edge_agreement(edges(to_bytes(pictures)), wanted) for pictures in drawn)
    measured("F13", "F1 of edges with held-out ones, of the base", without, None)
    measured("F13", "F1 of edges with held-out ones, controlled", followed, without + 0.2, "of the base, and 0.2 more")
    assert followed > without + 0.2
