"""Row F11: a captioner that is learned beside a contrastive space, and generators trained on what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from structgen.pictures.archives import read_archive, write_archive
from structgen.pictures.files import read_set
from structgen.tasks.batches import Batching
from structgen.tasks.captioner import CaptionerTask, CaptionerTraining, exactness
from structgen.tasks.generator import GeneratorTask, GeneratorTraining
from structgen.tasks.recaption import Recaptioning, captions_of_part, recaptioned
from structgen.tasks.task import Context
from structgen.vision.cascade import Scale
from structgen.vision.clip import contrastive_loss
from structgen.vision.coca import Captioning, Coca, CocaConfig, coca_loss, sayable
from structgen.vision.files import load, model_file
from structgen.vision.formulations import Trajectory
from structgen.vision.steering import Steering
from structgen.vision.system import NetworkChoice
from structgen.vision.unet import UNetConfig
from structgen.vision.video_unet import VideoUNetConfig
from structgen.vision.words import BEGIN, END, PADDING, Vocabulary
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.training import trained
from tests.vision.weights import drawn

SHIPPED = Path(__file__).parents[2] / "data" / "pictures"
DIGITS, CAPTIONER = SHIPPED / "moving_digits_1500.npz", Path("digits_captioner")
SIZES = Captioning(window=2, widths=(8, 16), width=16, depth=2, heads=2, queries=3, c_shared=8, groups=4)
WORDS = Vocabulary(("a", "digit", "fast", "slow"), 6)
TOKENS = torch.tensor([[BEGIN, 4, 6, 5, END, PADDING], [BEGIN, 4, 5, END, PADDING, PADDING]])


def coca(seed: int = 0) -> Coca:
    return drawn(Coca(CocaConfig(1, WORDS, SIZES)), seed)


def test_F11_loss_is_that_of_every_word_given_those_before_it(measured, rng):
    """L_con + w L_cap by loops: each word from a run of the decoder over the words before it alone, so that no later word can be known."""
    net, clips = coca(), torch.randn(2, 1, 5, 8, 8, generator=rng)
    total, parts = coca_loss(net, clips, TOKENS, 2.0)
    seen, (_, texts) = net.sight(clips), net.texts(TOKENS)
    nats = []
    for n, length in enumerate((5, 4)):
        for k in range(1, length):
            before = TOKENS[n : n + 1, :k]
            logits = net.following(net.texts(before)[0], seen[n : n + 1], before)[0, -1]
            nats.append(-logits.log_softmax(0)[TOKENS[n, k]])
    by_loops = contrastive_loss(net.pictures(seen), texts, net.scale()) + 2 * torch.stack(nats).mean()
    measured("F11", "loss against loops over words", (total - by_loops).abs().item(), FLOAT32_LAYER)
    assert_close(total, by_loops, FLOAT32_LAYER)
    assert_close(parts["contrastive"] + 2 * parts["caption"], total, FLOAT32_LAYER)
    equal = TOKENS[[0, 0]]
    swapped = [coca_loss(net, clips[order], equal, 0.0)[0] for order in ([0, 1], [1, 0])]
    assert_close(*swapped, FLOAT32_LAYER)  # two clips with one caption are right for each other


def test_F11_one_decoder_sees_no_picture_and_no_later_word(rng):
    """Vectors of words before a change stay bit for bit; only the upper decoder hears the picture; vectors of wholes have length 1."""
    net, clips = coca(), torch.randn(2, 1, 4, 8, 8, generator=rng)
    changed = TOKENS.clone()
    changed[:, 2] = 7
    (words, whole), (other, _) = net.texts(TOKENS), net.texts(changed)
    assert_close(other[:, :2], words[:, :2], 1e-6)
    assert (other - words)[:, 2:4].abs().amin((0, 2)).min() > 1e-4
    first, second = (net.following(words, net.sight(one), TOKENS) for one in (clips, -clips))
    assert (first - second).abs().max() > 1e-3
    longer = F.pad(TOKENS[:, :5], (0, 1), value=PADDING)
    assert_close(net.texts(longer[:, :5])[1], whole, FLOAT32_LAYER)
    assert_close(net.pictures(net.sight(clips)).norm(dim=1), torch.ones(2), FLOAT32_LAYER)
    assert (net.sight(clips) - net.sight(clips.flip(2))).abs().max() > 1e-3  # the order of frames is seen
    assert net.sight(clips[:, :, :2]).shape == net.sight(clips).shape == (2, 3, 16)


def test_F11_captions_are_the_likeliest_words_one_after_the_other(rng):
    """What is said, put in, is said again: each word is the likeliest after those before it, and after its end there is nothing."""
    net, clips = coca(3), torch.randn(6, 1, 4, 8, 8, generator=rng)
    said = net.captions(clips)
    tokens = WORDS.encode(said)
    likeliest = sayable(net.following(net.texts(tokens)[0], net.sight(clips), tokens)).argmax(2)
    for caption, guess, row in zip(said, likeliest, tokens, strict=True):
        count = min(len(caption.split()), WORDS.length - 2)
        assert torch.equal(guess[:count], row[1 : 1 + count]) and "?" not in caption
    assert all(len(caption.split()) < WORDS.length for caption in said)
    assert net.captions(clips[:2]) == said[:2]
    assert exactness(["a b", "a"], ["A b", "a c"]) == {"exact": 0.5, "words": 0.75}


def test_F11_a_set_is_captioned_anew_but_what_measures(tmp_path):
    """A share of the training part gets the captioner's words, what is held out keeps its own; as a file the set is the same."""
    pictures = read_set(SHIPPED / "moving_digits_200.npz")
    drawn_net = Coca(CocaConfig(1, Vocabulary.of(pictures.captions, 10), SIZES))
    published_at = tmp_path / "captioner.safetensors"
    task = CaptionerTask(CaptionerTraining(10, sizes=SIZES, batches=Batching(4)), Context(0, SHIPPED / "moving_digits_200.npz", tmp_path))
    task.publish(drawn_net.state_dict(), published_at, card="")
    said = captions_of_part(Recaptioning(SHIPPED / "moving_digits_200.npz", published_at), 0)
    assert said == load(published_at, Coca).captions(pictures.tensor()) and len(said) == 200
    said = [f"new {n}" for n in range(200)]
    whole = recaptioned(pictures, said, 0.9, 1)
    anew = np.array([new != old for new, old in zip(whole.captions, pictures.captions, strict=True)])
    assert not anew[pictures.held_out].any() and 0.8 < anew[~pictures.held_out].mean() < 0.98
    assert all(whole.captions[n] == said[n] for n in np.flatnonzero(anew))
    write_archive(whole, tmp_path / "set.npz")
    back = read_archive(tmp_path / "set.npz")
    assert back.captions == whole.captions and back.classes == whole.classes
    for name in ("pixels", "held_out", "labels", "velocity"):
        assert np.array_equal(getattr(back, name), getattr(whole, name))


def shares(said: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """How often each of the three things that "a PACE digit DIGIT moving DIRECTION" says is said."""
    parts = {"digit": 3, "speed": 1, "direction": slice(5, None)}
    pairs = [(one.split(), other.split()) for one, other in zip(said, wanted, strict=True)]
    return {name: float(np.mean([len(a) > 3 and a[at] == b[at] for a, b in pairs])) for name, at in parts.items()}


@pytest.mark.slow
def test_F11_captions_of_held_out_clips_are_exact(measured):
    """The shipped captioner: digit, speed and direction of clips of digits that were never seen."""
    held_out = read_set(DIGITS).part(True)
    found = shares(load(model_file(CAPTIONER), Coca).captions(held_out.tensor()), held_out.captions)
    for name, share in found.items():
        measured("F11", f"{name} said right of 150 held-out clips", share, 0.95)
    assert min(found.values()) >= 0.95


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_F11_generators_learn_more_from_captions_written_anew(measured, tmp_path):
    """Half of the training captions are another clip's. A generator trained on what the shipped captioner says of the same clips has a
    lower loss on held-out clips with their true captions than one trained on those captions."""
    own = read_set(DIGITS)
    rng = np.random.default_rng(0)
    wrong = np.where((rng.random(len(own)) < 0.5) & ~own.held_out, rng.permutation(len(own)), np.arange(len(own)))
    noisy = replace(own, captions=tuple(own.captions[n] for n in wrong))
    said = [text for part in own.tensor().split(100) for text in load(model_file(CAPTIONER), Coca).captions(part)]
    losses = {}
    for name, pictures in (("anew", recaptioned(noisy, said, 1.0, 0)), ("half wrong", noisy)):
        write_archive(pictures, tmp_path / f"{name}.npz")
        frame = UNetConfig(1, 1, (32, 48), (False, True), 1, 16, steering=Steering(c_vector=25, frequencies=64))
        settings = GeneratorTraining(
            NetworkChoice(video_unet=VideoUNetConfig(frame)), words=12, trajectory=Trajectory.X_RF, reduced=Scale(8, 4),
            batches=Batching(24), held_out=150,
        )  # fmt: skip
        torch.manual_seed(0)
        task = GeneratorTask(settings, Context(0, tmp_path / f"{name}.npz", tmp_path))
        losses[name] = task.validate(trained(task, 250))["loss"]
        measured("F11", f"held-out loss of a generator, captions {name}", losses[name], None)
    assert losses["anew"] < losses["half wrong"]
