"""Rows F8, F9 and F10: the decoder of embeddings and its cascade, pictures between two, and text diffs, with tiny networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from structgen.generative import Endpoints
from structgen.vision.cascade import Lower, Scale
from structgen.vision.causal import CausalConfig
from structgen.vision.clip import ClipConfig
from structgen.vision.condition import Condition
from structgen.vision.draw import Drawing, draw
from structgen.vision.formulations import Trajectory
from structgen.vision.prior import PriorConfig, unit_variance
from structgen.vision.stages import Stage, draw_in_turn
from structgen.vision.steering import Steering
from structgen.vision.system import CodecChoice, NetworkChoice, System, SystemConfig, TextConfig, Vector, heard
from structgen.vision.unclip import from_noise_of, imagined, stages_between, stages_of_diff, turned
from structgen.vision.unet import UNetConfig
from structgen.vision.words import Vocabulary
from tests.tolerance import FLOAT32_LAYER, assert_close
from tests.vision.weights import drawn

REPOSITORY = Path(__file__).parents[2]
CLIP = ClipConfig(channels=3, words=9, length=5, width=12, depth=1, heads=2, widths=(8, 8), c_shared=6, groups=4)
TEXT = TextConfig(CLIP, Vocabulary(("a", "b", "c", "d", "e"), 5))
UNET = UNetConfig(c_in=3, c_out=3, widths=(8, 8), attend=(False, False), blocks=1, groups=4)
SHOWS = replace(UNET, c_tokens=12, attend=(False, True), head_width=8, steering=Steering(c_vector=6, frequencies=8))
LARGER = replace(UNET, c_image=3, steering=Steering(level=True, frequencies=8))


def decoder(size: int = 4) -> System:
    return System(SystemConfig(NetworkChoice(unet=SHOWS), (3, size, size), text=TEXT, vector=Vector.PICTURE)).eval()


def cascade() -> list[System]:
    """A decoder of 4 x 4 pixels and a stage to 8 x 8, with weights that do something."""
    first, second = decoder(), System(SystemConfig(NetworkChoice(unet=LARGER), (3, 8, 8), lower=Lower(Scale(2)))).eval()
    drawn(first.clip)
    for seed, system in enumerate((first, second)):
        drawn(system.network, seed)
    return [first, second]


class Gaussian(nn.Module):
    """The exact network for data N(mean(cond), std^2), whichever way it is read."""

    def __init__(self, system: System, mean: Callable[[Condition], Tensor], std: float) -> None:
        super().__init__()
        self.path, self.trajectory, self.mean, self.std = system.formulation.path, system.config.trajectory, mean, std

    def forward(self, x: Tensor, times: Tensor, cond: Condition) -> Tensor:
        mean, (alpha, sigma) = self.mean(cond), (c.reshape(-1, *[1] * (x.ndim - 1)) for c in self.path.alpha_sigma(times[:, 0]))
        data = mean + alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2) * (x - alpha * mean)
        if self.trajectory is Trajectory.X_COS:
            return data
        return self.path.velocity(Endpoints(data, (x - alpha * data) / sigma), times[:, 0])


def test_F8_the_picture_of_a_text_is_that_of_its_embedding(measured, rng):
    """P(x | y) = P(x | z, y) P(z | y): with exact normal laws of both, pictures have mean and covariance of z drawn by hand (the better of
    two), then x drawn by hand."""
    spread, grain, count = 0.5, 0.3, 3000
    to_z, to_x = torch.randn(6, 6, generator=rng), torch.randn(6, 12, generator=rng) / 4
    shows = drawn(decoder(2))
    network, codec = NetworkChoice(prior=PriorConfig(6, 12, 5, CausalConfig(12, 1, 2))), CodecChoice(embedding=CLIP)
    prior = System(SystemConfig(network, (3, 8, 8), Trajectory.X_COS, codec, text=TEXT, steps=20, guidance=1.0))
    prior.clip.load_state_dict(shows.clip.state_dict())
    prior.network = Gaussian(prior, lambda cond: cond.require("vector") @ to_z, spread)
    shows.network = Gaussian(shows, lambda cond: (cond.require("vector") @ to_x).reshape(-1, 3, 2, 2), grain)
    captions = ["a b"] * count
    found = draw(shows, shows.condition(captions=captions, embedding=imagined(prior, captions, 1)), count, Drawing(30, 1.0, 2)).flatten(1)
    text = heard(shows.clip, TEXT.words, captions[:1]).require("vector")
    pair = F.normalize(text @ to_z + spread * torch.randn(2, 40_000, 6, generator=rng), dim=-1)
    z = torch.where(((pair[0] - pair[1]) @ text[0])[:, None] > 0, pair[0], pair[1])
    by_hand = unit_variance(z) @ to_x + grain * torch.randn(40_000, 12, generator=rng)
    error = (found.mean(0) - by_hand.mean(0)).abs() / (by_hand.std(0) * (1 / count + 1 / 40_000) ** 0.5)
    measured("F8", "mean of pictures against prior and decoder by hand, largest, in standard errors", error.max(), 4)
    assert error.max() < 4
    of_found, of_hand = (torch.cov(x.T) for x in (found, by_hand))
    assert (of_found - of_hand).abs().max() / of_hand.diag().max() < 0.1
    without = Drawing(30, 1.0, 2)
    mean_only = draw(shows, shows.condition(captions=captions, embedding=F.normalize(z.mean(0), dim=0).expand(count, 6)), count, without)
    assert mean_only.flatten(1).var(0).sum() < 0.9 * found.var(0).sum()


def test_F9_ends_between_two_pictures_are_direct_decodings(measured, rng):
    """Bit for bit, through every stage, and all from one noise: equal embeddings are equal pictures."""
    systems, (first, second) = cascade(), torch.randn(2, 3, 8, 8, generator=rng)
    drawings = [Drawing(4, 2.0, 5), Drawing(3, 1.0, 5)]
    made = draw_in_turn(stages_between(systems, drawings, first, second, torch.linspace(0, 1, 4)), 4)
    with torch.inference_mode():
        off, ends = 0.0, systems[0].clip.pictures(torch.stack([first, second]))
    for end, embedding in ((0, ends[:1].expand(4, 6)), (3, ends[1:].expand(4, 6))):
        conds = (systems[0].condition(embedding=embedding), systems[1].condition())
        stages = [Stage(*stage) for stage in zip(systems, conds, (replace(drawing, alike=True) for drawing in drawings), strict=True)]
        direct = draw_in_turn(stages, 4)
        assert torch.equal(direct[1], direct[1][:1].expand(4, 3, 8, 8))
        off = max(off, *((one[end] - other[end]).abs().max().item() for one, other in zip(made, direct, strict=True)))
    measured("F9", "ends of an arc, decoded through two stages, against direct decoding", off, 0, "bit-equal")
    assert off == 0 and (made[1][0] - made[1][3]).abs().max() > 0.01


def test_F10_share_0_rebuilds_and_directions_are_of_texts(measured, rng):
    """Through both stages, from the picture's own noise, with an error that falls with the steps; z_theta by its formula."""
    systems, picture, errors = cascade(), torch.randn(3, 8, 8, generator=rng).clamp(-1, 1), []
    for steps in (10, 20, 40):
        drawings = [Drawing(steps, 1.0, 5)] * 2
        stages = stages_of_diff(systems, drawings, picture, "a b", "c", torch.tensor([0.0, 0.5]))
        made = draw_in_turn(stages, 2)[-1]
        errors.append((made[0] - picture).square().mean().sqrt().item())
    measured("F10", "error of a picture rebuilt through two stages, 40 steps each", errors[-1], 5e-3)
    assert errors == sorted(errors, reverse=True) and errors[-1] < 5e-3 and (made[1] - picture).abs().max() > 0.01
    clip, words = systems[0].clip, TEXT.words
    own, texts = clip.pictures(picture[None])[0], heard(clip, words, ("a b", "c")).require("vector")
    direction = (texts[1] - texts[0]) / (texts[1] - texts[0]).norm()
    angle = torch.acos(own @ direction)
    by_hand = (torch.sin(0.7 * angle) * own + torch.sin(0.3 * angle) * direction) / torch.sin(angle)
    assert_close(turned(own, texts[0], texts[1], torch.tensor([0.3]))[0], by_hand, FLOAT32_LAYER)
    assert_close(stages[0].cond.require("vector")[1], unit_variance(turned(own, *texts, torch.tensor([0.5]))[0]), FLOAT32_LAYER)


def test_F10_noise_of_a_picture_depends_on_its_embedding(rng):
    """What the embedding says need not be in the noise: told another one, the noise is another."""
    systems, picture = cascade(), torch.randn(1, 3, 8, 8, generator=rng)
    noises = []
    for embedding in F.normalize(torch.randn(2, 1, 6, generator=rng), dim=-1):
        conds = (systems[0].condition(embedding=embedding), systems[1].condition())
        noises.append(from_noise_of([Stage(*stage, Drawing(10, 1.0, 5)) for stage in zip(systems, conds, strict=True)], picture))
    assert not torch.equal(noises[0][0].require_noise(), noises[1][0].require_noise())
    assert torch.equal(noises[0][1].require_noise(), noises[1][1].require_noise())
