"""Row F1: cascades of clips, each stage a model of its own that enlarges space or time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from structgen.errors import ConfigError
from structgen.generative import generators
from structgen.pictures.files import read_set
from structgen.pictures.sets import to_bytes
from structgen.tasks.batches import Batching
from structgen.tasks.generator import GeneratorTask, GeneratorTraining, reduced
from structgen.tasks.task import Context
from structgen.tasks.text import TextTask, TextTraining, Towers
from structgen.train import Optimisation, TrainState, train_step
from structgen.vision.cascade import AUGMENTATION, Lower, Scale
from structgen.vision.condition import Condition
from structgen.vision.draw import Drawing, draw
from structgen.vision.stages import Stage, check_stages, draw_in_turn
from structgen.vision.steering import Steering
from structgen.vision.system import NetworkChoice, System, SystemConfig
from structgen.vision.unet import UNetConfig
from structgen.vision.video_unet import VideoUNetConfig
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.weights import drawn

CLIPS = Path(__file__).parents[2] / "data" / "pictures" / "moving_digits_200.npz"
FRAME = UNetConfig(c_in=1, c_out=1, widths=(8, 8), attend=(False, False), blocks=1, head_width=8, groups=4)
# one base and, by turns, three stages that double the frames and three that double the sides: how much smaller, and what is given
SEVEN = [
    (Scale(8, 8), None),
    (Scale(8, 4), Scale(1, 2)), (Scale(4, 4), Scale(2, 1)),
    (Scale(4, 2), Scale(1, 2)), (Scale(2, 2), Scale(2, 1)),
    (Scale(2, 1), Scale(1, 2)), (Scale(1, 1), Scale(2, 1)),
]  # fmt: skip


def network(*, given: bool, words: bool = False) -> NetworkChoice:
    steering = Steering(level=given, c_vector=8 if words else 0, frequencies=8)
    attend, tokens = ((False, True), 16) if words else (FRAME.attend, 0)
    frame = replace(FRAME, c_image=int(given), steering=steering, attend=attend, c_tokens=tokens)
    return NetworkChoice(video_unet=VideoUNetConfig(frame))


def system(size: tuple[int, ...], scale: Scale | None, level: float = 0.2) -> System:
    """With weights of chance everywhere."""
    made = System(SystemConfig(network(given=scale is not None), size, lower=scale and Lower(scale, 0.5, level), steps=3, guidance=1.0))
    drawn(made.network)
    return made


def test_F1_what_is_given_is_of_the_truth(rng):
    """Means of squares of every second frame; enlarged again linearly, given frames bit for bit, straight lines everywhere but at edges."""
    x = torch.randn(2, 1, 7, 4, 8, generator=rng)
    low = Scale(2, 2).lowered(x)
    assert low.shape[1:] == Scale(2, 2).smaller(x.shape[1:]) == (1, 4, 2, 4)
    assert_close(low[1, 0, 3, 1, 2], x[1, 0, 6, 2:4, 4:6].mean(), FLOAT32_LAYER)
    raised = Scale(1, 2).raised(x[:, :, ::2], (1, 7, 4, 8))
    assert torch.equal(raised[:, :, ::2], x[:, :, ::2])
    assert_close(raised[:, :, 3], (x[:, :, 2] + x[:, :, 4]) / 2, FLOAT32_LAYER)
    assert torch.equal(Scale(1, 2).raised(x[:, :, ::2], (1, 8, 4, 8))[:, :, 7], x[:, :, 6])  # after the last one there is nothing else
    ramp = torch.arange(8.0).expand(1, 1, 4, 8)
    assert_close(Scale(2).raised(Scale(2).lowered(ramp), (1, 4, 8))[..., 1:-1], ramp[..., 1:-1], FLOAT32_LAYER)
    with pytest.raises(ConfigError, match="give sides that are multiples"):
        Scale(3).lowered(x)
    with pytest.raises(ConfigError, match=r"is given \(1, 4, 4, 8\)"):
        Scale(1, 2).raised(x, (1, 7, 4, 8))


def test_F1_clips_of_fewer_frames_begin_at_every_frame():
    """Every second frame of a clip of seven is four frames from the first, three from the second, which is no clip of that length; of one
    of eight it is four from either. What is held out begins at the first."""
    whole = read_set(CLIPS)
    for length, starts in ((8, 2), (7, 1)):
        clips = replace(whole, pixels=whole.pixels[:, :, :length])
        found, train = reduced(clips, Scale(8, 2)), clips.part(False)
        assert found.pixels.shape[1:] == (1, 4, 4, 4) and len(found) == len(clips) + (starts - 1) * len(train)
        assert np.array_equal(found.part(True).pixels, to_bytes(Scale(8, 2).lowered(clips.part(True).tensor())))
        for start, part in enumerate(np.split(found.part(False).pixels, starts)):
            assert np.array_equal(part, to_bytes(Scale(8, 2).lowered(train.tensor()[:, :, start:])))
        assert found.part(False).captions == train.captions * starts
    assert len(reduced(whole.part(True), Scale(8, 2))) == len(whole.part(True))  # nothing to train on, nothing more


def test_F1_every_stage_forgives_noise_of_the_lower_one(measured, rng):
    """The smaller clip is noised along the quarter circle before it is enlarged, by levels drawn evenly; the network hears both."""
    lower, low = Lower(Scale(2, 1), 0.6, 0.2), torch.randn(4000, 1, 2, 2, 2, generator=rng)
    x = low.repeat_interleave(2, -1).repeat_interleave(2, -2)
    cond = lower.of_truth(Condition(), x, torch.Generator().manual_seed(1))
    assert cond.level.min() >= 0 and cond.level.max() <= 0.6
    assert cond.level.mean().item() == pytest.approx(0.3, abs=0.01) and cond.level.var().item() == pytest.approx(0.03, rel=0.05)
    for level in (0.0, 0.3, 1.0):
        found = lower.beside(Condition(), low, (1, 2, 4, 4), torch.full((4000,), level), torch.Generator().manual_seed(2)).image
        corner, (alpha, sigma) = found[..., 0, 0], AUGMENTATION.alpha_sigma(torch.tensor(level))
        slope = (corner * low[..., 0, 0]).mean() / low[..., 0, 0].square().mean()
        spread = (corner - alpha * low[..., 0, 0]).std()
        measured("F1", f"level {level}: share of the lower clip", slope.item(), None, f"{alpha.item():.3f} by the formula")
        assert slope.item() == pytest.approx(alpha.item(), abs=0.03) and spread.item() == pytest.approx(sigma.item(), abs=0.03)
    net, clip = system((1, 2, 4, 4), Scale(2, 1)).network, torch.randn(2, 1, 2, 4, 4, generator=rng)
    times, image = torch.rand(2, 1, generator=rng), torch.randn(2, 1, 2, 4, 4, generator=rng)
    heard = [Condition(image=one, level=torch.full((2,), level)) for one, level in ((image, 0.1), (image, 0.5), (-image, 0.1))]
    outs = [net(clip, times, cond) for cond in heard]
    assert min((outs[0] - other).abs().max().item() for other in outs[1:]) > 1e-3


@pytest.mark.parametrize("frames", [7, 8])
def test_F1_time_grows_around_the_given_frames(frames, measured, rng):
    """Given frames come out bit for bit, with guidance and noise beside them too; the others are the network's."""
    own, low = system((1, frames, 4, 4), Scale(1, 2)), torch.randn(3, 1, 4, 4, 4, generator=rng)
    made = draw(own, Condition(), 3, Drawing(4, 2.0), low=low)
    measured("F1", "change of given frames where time grows", (made[:, :, ::2] - low).abs().max().item(), 0, "bit-equal")
    assert torch.equal(made[:, :, ::2], low)
    assert (made[:, :, 1:-1:2] - Scale(1, 2).raised(low, (1, frames, 4, 4))[:, :, 1:-1:2]).abs().min() > 1e-6
    again = draw(own, Condition(), 2, Drawing(4, 2.0), low=low[:2])
    assert_close(again, made[:2], FLOAT32_LAYER)
    with pytest.raises(ConfigError, match="enlarges what another one makes"):
        draw(own, Condition(), 3, Drawing(4, 2.0))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_F8_what_is_made_of_a_true_picture_has_its_means(guidance, measured, rng):
    """Where what is given is taken for true (level 0), so are means over squares of what is made; the rest is the network's. A stage that
    forgives is not held to them."""
    low = torch.randn(3, 1, 2, 4, 4, generator=rng)
    made = draw(system((1, 2, 8, 8), Scale(2), 0.0), Condition(), 3, Drawing(4, guidance), low=low)
    measured("F8", "change of means over squares of a true picture", (Scale(2).lowered(made) - low).abs().max().item(), FLOAT32_LAYER)
    assert_close(Scale(2).lowered(made), low, FLOAT32_LAYER)
    assert (made - low.repeat_interleave(2, -1).repeat_interleave(2, -2)).abs().mean() > 0.1
    forgiving = draw(system((1, 2, 8, 8), Scale(2), 0.2), Condition(), 3, Drawing(4, guidance), low=low)
    assert (Scale(2).lowered(forgiving) - low).abs().mean() > 0.1


def test_F8_right_means_bring_any_picture_nearer_to_the_truth(rng):
    """The squared error falls by that of the means, which is all that is known to be wrong."""
    truth, guess = torch.randn(2, 4, 3, 8, 8, generator=rng, dtype=torch.float64)
    scale = Scale(4)
    low, fitted = scale.lowered(truth), scale.fitted(guess, scale.lowered(truth))
    of_means = 16 * (scale.lowered(guess) - low).square().sum()
    assert_close((guess - truth).square().sum() - (fitted - truth).square().sum(), of_means, 1e-12)
    assert_close(scale.fitted(fitted, low), fitted, 1e-12)


def test_F1_stages_are_drawn_in_turn(rng):
    """What a stage makes is what the next is given; frames of an earlier stage stay to the end while only time grows."""
    later = {(1, 4, 4, 4): Scale(1, 2), (1, 8, 4, 4): Scale(1, 2), (1, 8, 8, 8): Scale(2)}
    systems = [system((1, 2, 4, 4), None), *(system(size, scale) for size, scale in later.items())]
    check_stages(systems, "abcd")
    made = draw_in_turn([Stage(one, Condition(), Drawing(3, 1.0, seed=4)) for one in systems], 2)
    assert [tuple(one.shape[1:]) for one in made] == [one.config.size for one in systems]
    assert torch.equal(made[2][:, :, ::4], made[0]) and torch.equal(made[2][:, :, ::2], made[1])
    assert_close(draw(systems[3], Condition(), 2, Drawing(3, 1.0, seed=4 + (3 << 32)), low=made[2]), made[3], FLOAT32_LAYER)
    with pytest.raises(ConfigError, match=r"c is given \(1, 4, 4, 4\), and the stage before it makes \(1, 2, 4, 4\)"):
        check_stages([systems[0], systems[2]], "ac")
    with pytest.raises(ConfigError, match="from noise alone"):
        check_stages(systems[1::-1], "ba")


@pytest.mark.slow
def test_F1_seven_models_share_nothing(measured, tmp_path):
    """Base, three stages of time and three of space beside one text encoder that stands still: trained alone or by turns with all others,
    each gets the same weights, bit for bit; so they may be trained at once, anywhere. Together they make a clip."""
    torch.manual_seed(0)
    text = TextTask(TextTraining(10, 1, Towers(16, 1, 2, (8, 8), 8)), Context(0, CLIPS, tmp_path))
    text.publish(text.network.state_dict(), tmp_path / "text.safetensors", card="")
    optimisation = Optimisation(learning_rate=0.01, warmup_steps=1)

    def start(n: int) -> tuple[GeneratorTask, TrainState]:
        smaller, scale = SEVEN[n]
        lower = None if scale is None else Lower(scale)
        settings = GeneratorTraining(
            network(given=lower is not None, words=True), text=str(tmp_path / "text.safetensors"), reduced=smaller, lower=lower,
            batches=Batching(2), steps=2, guidance=1.5,
        )  # fmt: skip
        torch.manual_seed(n)
        task = settings.build(Context(0, CLIPS, tmp_path))
        return task, TrainState.start(task.network, optimisation)

    def step(task: GeneratorTask, state: TrainState) -> TrainState:
        return train_step(state, [task.example(state.step)], task.loss, optimisation, generators(0, 1, first=state.step)[0])[0]

    together = [start(n) for n in range(7)]
    for _ in range(2):
        together = [(task, step(task, state)) for task, state in together]
    alone = start(3)
    for _ in range(2):
        alone = (alone[0], step(*alone))
    assert all(torch.equal(value, together[3][0].network.state_dict()[name]) for name, value in alone[0].network.state_dict().items())
    places = [{value.data_ptr() for value in task.system.state_dict().values()} for task, _ in together]
    shared = sum(len(one & other) for n, one in enumerate(places) for other in places[:n])
    measured("F1", "tensors that two of the seven models share", shared, 0)
    assert shared == 0
    systems = [task.system for task, _ in together]
    assert all(torch.equal(value, text.network.clip.state_dict()[name]) for s in systems for name, value in s.clip.state_dict().items())
    check_stages(systems, [str(n) for n in range(7)])
    captions = ["a fast digit 1 moving diagonally"]
    made = draw_in_turn([Stage(s, s.condition(captions=captions), Drawing(2, 1.5)) for s in systems], 1)
    assert [tuple(one.shape[1:]) for one in made] == [scale.smaller((1, 16, 32, 32)) for scale, _ in SEVEN]
