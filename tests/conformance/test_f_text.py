"""Row F5: pictures and captions in one space."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from structgen.generative import generators
from structgen.tasks.batches import Batching
from structgen.tasks.task import Context
from structgen.tasks.text import TextTask, TextTraining, Towers
from structgen.train import Optimisation, TrainState, train_step
from structgen.vision.clip import LARGEST_SCALE, Clip, ClipConfig, contrastive_loss
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.weights import drawn

SHIPPED = Path(__file__).parents[2] / "data" / "pictures"
SMALL = ClipConfig(channels=3, words=20, length=6, width=16, depth=1, heads=2, widths=(8, 16), c_shared=12, groups=4)


def test_F5_loss_is_the_n_way_form_and_symmetric(measured, rng):
    """-1/N sum_i log exp(x_i y_i / tau) / sum_j exp(x_i y_j / tau), over pictures and over texts, by loops; equal either way round."""
    x, y = (F.normalize(torch.randn(5, 8, generator=rng, dtype=torch.float64), dim=1) for _ in range(2))
    scale = torch.tensor(7.0, dtype=torch.float64)
    over_texts = [-(scale * x[i] @ y[i] - torch.stack([(scale * x[i] @ y[j]).exp() for j in range(5)]).sum().log()) for i in range(5)]
    over_pictures = [-(scale * x[i] @ y[i] - torch.stack([(scale * x[j] @ y[i]).exp() for j in range(5)]).sum().log()) for i in range(5)]
    expected = (torch.stack(over_texts).mean() + torch.stack(over_pictures).mean()) / 2
    off = max((contrastive_loss(*pair, scale) - expected).abs().item() for pair in ((x, y), (y, x)))
    measured("F5", "loss against the N-way form by loops, either way round", off, 1e-12)
    assert off < 1e-12
    same = torch.eye(5, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    y[3] = y[0]
    shared = contrastive_loss(x, y, scale, same)
    swapped = contrastive_loss(x, y[[3, 1, 2, 0, 4]], scale, same)
    assert_close(shared, swapped, FLOAT32_LAYER)  # of two equal captions, both are right


def test_F5_temperature_is_learned_and_clamped(rng):
    """1 / 0.07 at first, at most 100, with a gradient below that."""
    clip = Clip(SMALL)
    assert clip.scale().item() == pytest.approx(1 / 0.07, rel=1e-5)
    clip.log_scale.data.fill_(9.0)
    assert clip.scale().item() == pytest.approx(LARGEST_SCALE)
    clip.log_scale.data.fill_(math.log(20))
    vectors = F.normalize(torch.randn(2, 4, 12, generator=rng), dim=2)
    contrastive_loss(*vectors, clip.scale()).backward()
    assert clip.log_scale.grad is not None and clip.log_scale.grad.abs() > 0


def test_F5_vectors_are_of_length_one_and_padding_is_not_heard(rng):
    """Both towers; a caption with more padding is the same caption."""
    clip = drawn(Clip(SMALL))
    tokens = torch.tensor([[1, 5, 7, 2, 0, 0], [1, 9, 2, 0, 0, 0]])
    words, whole = clip.texts(tokens)
    assert words.shape == (2, 6, 16) and whole.shape == (2, 12)
    assert_close(whole.norm(dim=1), torch.ones(2), FLOAT32_LAYER)
    assert_close(clip.pictures(torch.randn(3, 3, 8, 8, generator=rng)).norm(dim=1), torch.ones(3), FLOAT32_LAYER)
    shorter = drawn(Clip(ClipConfig(**{**SMALL.__dict__, "length": 4})))
    shorter.load_state_dict({**clip.state_dict(), "text.place": clip.text.place[:4]})
    assert_close(shorter.texts(tokens[:, :4])[1], whole, FLOAT32_LAYER)


@pytest.mark.slow
def test_F5_held_out_pictures_find_their_captions(measured, tmp_path):
    """Trained on a few hundred shipped clips and pictures: retrieval of what is held out beats chance by far."""
    settings = TextTraining(10, 1, Towers(48, 1, 2, (24, 32, 48), 32), Batching(48, frames=8), held_out=20)
    task = TextTask(settings, Context(0, SHIPPED / "moving_digits_200.npz", tmp_path))
    torch.manual_seed(0)
    optimisation = Optimisation(learning_rate=2e-3, warmup_steps=20, clip_norm=1.0)
    state = TrainState.start(task.network, optimisation)
    for step in range(120):
        state, _ = train_step(state, [task.example(step)], task.loss, optimisation, generators(0, 1, first=step)[0])
    found = task.validate(state.average)
    measured("F5", "recall at 1 of held-out clips over chance", found["recall_at_1"] / found["chance"], 2.0)
    assert found["recall_at_1"] > 2 * found["chance"]
