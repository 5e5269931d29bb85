"""Row F3, trained for some minutes: the loss falls with the size of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.generative import Denoiser, Ema, Linear, LogitNormal, ReadVelocity, Regression, generators
from structgen.generative.weights import Constant
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet, to_float
from structgen.tasks.batches import indices
from structgen.tasks.generator import reduced
from structgen.train import Optimisation, TrainState, train_step
from structgen.vision.cascade import Scale
from structgen.vision.condition import Condition
from structgen.vision.dit import DiTConfig
from structgen.vision.steering import Steering
from structgen.vision.video_dit import Packed, VideoDiT, pack, packed_velocity_error

SHIPPED = Path(__file__).parents[2] / "data" / "pictures"
CUTS = ((8, 16, 16), (4, 16, 8), (8, 8, 16), (16, 8, 8))  # frames, rows, columns
PATCH = (2, 4, 4)


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
