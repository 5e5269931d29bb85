"""Rows F7 to F10 by a trained unCLIP, on pictures whose base it has not seen.

STRUCTGEN_UNCLIP names the file that puts it together, such as configs/image_unclip.yaml after its trainings.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from structgen.generative import generators
from structgen.pictures.files import read_set
from structgen.pictures.sets import PictureSet
from structgen.vision.condition import Condition, emptied
from structgen.vision.draw import Drawing
from structgen.vision.stages import draw_in_turn
from structgen.vision.system import heard
from structgen.vision.unclip import Models, imagined, stages_between, stages_of_diff
from workflows.cascades import load_models

TRAINED = os.environ.get("STRUCTGEN_UNCLIP")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TRAINED, reason="STRUCTGEN_UNCLIP names no trained model")]
UNSEEN = Path(__file__).parents[2] / "data" / "pictures" / "emoji_unseen.npz"


@pytest.fixture(scope="module")
def unseen() -> PictureSet:
    return read_set(UNSEEN).part(True)


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(Path(str(TRAINED)))


def sized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Made smaller by means, larger linearly."""
    larger = size[-1] > x.shape[-1]
    return F.interpolate(x, size=size[-2:], mode="bilinear") if larger else F.interpolate(x, size=size[-2:], mode="area")


@torch.inference_mode()
def test_F7_the_prior_is_nearer_to_pictures_than_texts_are(measured, models, unseen):
    """Mean cosine to the embedding of the captioned picture: of what the prior makes of the caption, and of the caption's own."""
    clip, words = models.stages[0].clip, models.stages[0].config.text.words
    truth, texts = clip.pictures(unseen.tensor()), heard(clip, words, unseen.captions).require("vector")
    made = imagined(models.prior, unseen.captions, 0)
    of_made, of_texts = ((one * truth).sum(1).mean().item() for one in (made, texts))
    measured("F7", "cosine to the embedding of an unseen picture", of_made, of_texts, "threshold: that of the caption's embedding")
    assert of_made > of_texts


@torch.inference_mode()
def test_F8_without_its_embedding_a_picture_is_worse(measured, models, unseen):
    """The decoder's loss on unseen pictures with the same noise: with their embeddings, without, and with those of others."""
    decoder, pixels = models.stages[0], unseen.tensor()
    x, embeddings, objective = sized(pixels, decoder.config.size), decoder.clip.pictures(pixels), decoder.formulation.objective()

    def loss(cond: Condition) -> float:
        return objective(decoder.denoiser(), x, cond, generators(0, len(x))).total.mean().item()

    told = decoder.condition(embedding=embeddings)
    with_own, with_other = loss(told), loss(decoder.condition(embedding=embeddings.roll(1, 0)))
    without = loss(emptied(told, torch.ones(len(x), dtype=torch.bool)))
    measured("F8", "loss of the decoder without the embedding over that with it", without / with_own, 1.1)
    measured("F8", "loss of the decoder with another's embedding over that with its own", with_other / with_own, 1.1)
    assert without > 1.1 * with_own and with_other > 1.1 * with_own


@torch.inference_mode()
def test_F9_the_path_goes_over_from_one_picture_to_the_other(measured, models, unseen):
    """Between unseen pictures of different classes, seen by the CLIP: how much more like the second than like the first a picture is rises
    at every step of the mean path."""
    clip, pixels, shares = models.stages[0].clip, unseen.tensor(), torch.linspace(0, 1, 5)
    drawings, truth, gaps = [Drawing(10, system.config.guidance, 0) for system in models.stages], clip.pictures(pixels), []
    for first, second in np.random.default_rng(0).permutation(len(pixels))[:24].reshape(-1, 2):
        if unseen.labels[first] != unseen.labels[second]:
            made = draw_in_turn(stages_between(models.stages, drawings, pixels[first], pixels[second], shares), 5)[-1]
            seen = clip.pictures(sized(made.clamp(-1, 1), pixels.shape[1:]))
            gaps.append((seen @ (truth[second] - truth[first])).numpy())
    mean = np.mean(gaps, 0)
    note = f"above 0; mean of {len(gaps)} paths, from {mean[0]:.2f} to {mean[-1]:.2f}"
    measured("F9", "least rise of the likeness to the second picture, a quarter of the way", np.diff(mean).min(), 0, note)
    assert (np.diff(mean) > 0).all()


@torch.inference_mode()
def test_F10_a_text_diff_goes_towards_the_text(measured, models, unseen):
    """Unseen people from no skin tone to a dark one: share 0 rebuilds the picture, and with the share the similarity to the new text and
    darkness, which no network judges, rise."""
    clip, words = models.stages[0].clip, models.stages[0].config.text.words
    people = [n for n in range(len(unseen)) if unseen.classes[unseen.labels[n]] == "People & Body" and ":" not in unseen.captions[n]][:12]
    shares, likeness, light, errors = torch.tensor([0.0, 0.15, 0.3, 0.45]), [], [], []
    drawings = [Drawing(20, 1.0, 0)] * len(models.stages)
    for n in people:
        picture, after = unseen.tensor()[n], f"{unseen.captions[n]}: dark skin tone"
        stages = stages_of_diff(models.stages, drawings, picture, unseen.captions[n], after, shares)
        made = draw_in_turn(stages, len(shares))[-1].clamp(-1, 1)
        errors.append((made[0] - sized(picture[None], made.shape[1:])[0]).square().mean().sqrt().item())
        text = heard(clip, words, (after,)).require("vector")
        likeness.append((clip.pictures(sized(made, unseen.pixels.shape[1:])) @ text[0]).numpy())
        light.append(made.mean((1, 2, 3)).numpy())
    means, brightness = np.mean(likeness, 0), np.mean(light, 0)
    note = f"above 0; from {means[0]:.2f} to {means[-1]:.2f}, brightness from {brightness[0]:.2f} to {brightness[-1]:.2f}"
    measured("F10", "error of unseen pictures rebuilt, median, 20 steps a stage", float(np.median(errors)), 0.05)
    measured("F10", "least rise of the similarity to the new text, a step of 0.15", np.diff(means).min(), 0, note)
    assert np.median(errors) < 0.05 and (np.diff(means) > 0).all() and (np.diff(brightness) < 0).all()
