"""Rows F6 and F7: from a text to the embedding of a picture."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from structgen.errors import ConfigError
from structgen.generative import Denoiser, Drop, generators, sample
from structgen.tasks.code_prior import unigram
from structgen.train import Optimisation, TrainState, train_step
from structgen.vision.causal import Causal, CausalConfig
from structgen.vision.clip import ClipConfig
from structgen.vision.code_prior import CodePrior, CodePriorConfig, chosen, code_losses
from structgen.vision.codes import REACH, Codes, CodesConfig
from structgen.vision.condition import Condition, emptied
from structgen.vision.formulations import TRAJECTORIES, Trajectory
from structgen.vision.prior import Prior, PriorConfig
from structgen.vision.system import TextConfig
from structgen.vision.unclip import better
from structgen.vision.words import Vocabulary
from tests.tolerance import FLOAT32_LAYER, FLOAT64_ORACLE, assert_close
from tests.vision.weights import drawn

CLIP = ClipConfig(channels=3, words=9, length=5, width=12, depth=1, heads=2, widths=(8, 8), c_shared=6, groups=4)
TEXT = TextConfig(CLIP, Vocabulary(("a", "b", "c", "d", "e"), 5))
SMALL = CausalConfig(width=24, depth=2, heads=2)
QUICK = Optimisation(learning_rate=5e-3, warmup_steps=10, clip_norm=1.0)


def conditions(rng: torch.Generator, count: int) -> Condition:
    """Texts of different lengths."""
    lengths = torch.arange(count) % 3 + 3
    return Condition(
        tokens=torch.randn(count, 5, 12, generator=rng),
        mask=torch.arange(5)[None] < lengths[:, None],
        vector=F.normalize(torch.randn(count, 6, generator=rng), dim=1),
    )


def kinds(rng: torch.Generator, count: int, spread: float) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    """Four texts; the embedding of a picture is that of its text's kind and normal noise. Also which kind each is of."""
    which = torch.arange(count) % 4
    middles, said = torch.randn(4, 6, generator=rng), conditions(rng, 4)
    return middles[which] + spread * torch.randn(count, 6, generator=rng), which, said.rows(which)


def test_F6_codes_lose_what_closed_forms_say(measured, rng):
    """Axes are those of a singular value decomposition; the mean square lost is that of the axes left out plus a twelfth of a bucket's
    square an axis, so with all axes it falls as buckets^-2; codes of decoded embeddings are the codes."""
    mixing = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    x = torch.randn(4000, 6, generator=rng, dtype=torch.float64) @ mixing + 2
    spectrum = torch.linalg.svd(x - x.mean(0))
    variances = spectrum.S**2 / (len(x) - 1)
    lost = []
    for axes, buckets in ((6, 32), (6, 64), (6, 128), (4, 64)):
        codes = Codes(CodesConfig(6, axes, buckets)).double()
        codes.fit(x)
        assert_close((codes.axes @ spectrum.Vh[:axes].T).abs(), torch.eye(axes, dtype=torch.float64), FLOAT64_ORACLE)
        assert_close(codes.std**2, variances[:axes], FLOAT64_ORACLE)
        found = codes.encode(x)
        assert torch.equal(codes.encode(codes.decode(found)), found) and 0 <= found.min() and found.max() < buckets
        inside = (((x - codes.mean) @ codes.axes.T).abs() < REACH * codes.std).all(1)
        error = (codes.decode(found) - x)[inside]
        assert ((error @ codes.axes.T).abs() <= codes.width / 2 * (1 + 1e-9)).all()
        lost.append(error.square().sum(1).mean().item())
        expected = (codes.width**2 / 12).sum().item() + variances[axes:].sum().item()
        assert lost[-1] == pytest.approx(expected, rel=0.06)
    slope = math.log(lost[0] / lost[2]) / math.log(4)
    measured("F6", "order in which the loss of a round trip falls with the buckets", slope, 2, "within 5 %")
    assert slope == pytest.approx(2, rel=0.05)
    with pytest.raises(ConfigError, match="give more pictures or fewer axes"):
        Codes(CodesConfig(6, 4)).fit(x[:4].float())


def test_F6_steps_with_a_memory_are_teacher_forcing(measured, rng):
    """Logits of every code, all at once and one after the other with keys and values kept; a later code changes no earlier logit."""
    prior, cond = drawn(CodePrior(CodePriorConfig(TEXT, axes=4, buckets=8, transformer=SMALL))).double(), conditions(rng, 3).each(exact)
    targets = torch.randint(0, 8, (3, 5), generator=rng)
    at_once = prior(cond, targets)
    logits, there, memory = prior.begin(cond)
    steps = [logits]
    for number in range(4):
        logits, memory = prior.step(targets[:, number], number, there, memory)
        steps.append(logits)
    off = (torch.stack(steps, 1) - at_once).abs().max().item()
    measured("F6", "logits step by step against teacher forcing", off, 1e-12)
    assert off < 1e-12
    later = targets.clone()
    later[:, 2] = (later[:, 2] + 1) % 8
    changed = (prior(cond, later) - at_once).abs().amax((0, 2))
    assert changed[:3].max() == 0 and changed[3:].min() > 0


def exact(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


def test_F6_draws_have_the_law_of_the_logits(rng):
    """Even shares give the frequencies of softmax(logits); the last class is reached; upper shares give the upper half."""
    logits, shares = torch.randn(1, 5, generator=rng), (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    found = torch.bincount(chosen(logits.expand(2000, 5), shares), minlength=5) / 2000
    assert (found - logits.softmax(1)[0]).abs().max() < 1 / 1999
    assert chosen(logits, torch.ones(1, dtype=torch.float64)).item() == 4
    upper = chosen(logits.expand(2000, 5), (1 + shares) / 2)
    assert upper.min() >= chosen(logits, torch.tensor([0.5], dtype=torch.float64)).item()


def test_F6_what_was_learned_is_between_the_entropy_and_the_unigram(measured, rng):
    """Four texts with pictures around an embedding each: -log p of held-out codes falls below that of their frequencies and to the entropy
    of the codes given the text, a sum of differences of the normal distribution function. Texts are told by their words alone, so that the
    dot product says nothing."""
    spread = 0.5
    x, which, cond = kinds(rng, 1200, spread)
    cond = replace(cond, vector=torch.zeros(1200, 6))
    prior = CodePrior(CodePriorConfig(TEXT, axes=3, buckets=8, transformer=CausalConfig(width=24, depth=1, heads=2)))
    texts = cond.require("vector")
    prior.fit(x, texts)
    targets, held_out = prior.targets(x, texts), slice(800, None)

    def loss(rows: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        return code_losses(prior, cond.rows(rows), targets[rows]).mean(), {}

    state = TrainState.start(prior, QUICK)
    for _ in range(100):
        state, _ = train_step(state, [torch.randint(0, 800, (48,), generator=rng)], loss, QUICK, rng)
    with torch.no_grad():
        nll = code_losses(prior, cond.rows(held_out), targets[held_out])[:, 1:].mean().item()
    counted = unigram(targets[:800], targets[held_out], 8)
    middles = torch.stack([x[which == k].mean(0) for k in range(4)])
    edges = torch.arange(1, 8)[:, None] * prior.codes.width - 4 * prior.codes.width
    below = torch.special.ndtr((edges - ((middles - prior.codes.mean) @ prior.codes.axes.T)[:, None]) / spread)
    ends = torch.zeros(4, 1, 3)
    chances = torch.cat([ends, below, ends + 1], 1).diff(dim=1).clamp(min=1e-9)
    entropy = -(chances * chances.log()).sum(1).mean().item()
    measured("F6", "-log p of a held-out code over its entropy given the text", nll / entropy, 1.1, f"unigram: {counted / entropy:.2f}")
    assert 0.95 * entropy < nll < 1.1 * entropy < 0.9 * counted
    made = prior.draw(cond.rows(slice(0, 400)), 400, generators(0, 400), 1.0)
    own, others = (made @ F.normalize(middles, dim=1).T).sort(1, descending=True).values[:, :2].unbind(1)
    nearest = (made @ F.normalize(middles, dim=1).T).argmax(1)
    assert (nearest == which[:400]).float().mean() > 0.8 and (own > others).all()


def test_F7_the_network_predicts_data(measured, rng):
    """Its output is the embedding at every time, the loss the mean square of its difference; a new one predicts the mean."""
    own, prior = TRAJECTORIES[Trajectory.X_COS], Prior(PriorConfig(6, 12, 5, SMALL, 16))
    x, cond = torch.randn(3, 6, generator=rng), conditions(rng, 3)
    t = torch.tensor([0.1, 0.5, 0.999])
    assert torch.equal(prior(x, t[:, None], cond), torch.zeros(3, 6))
    drawn(prior)
    denoiser: Denoiser[Condition] = Denoiser(prior, own.path, own.reading)
    off = (denoiser(x, t, t, cond).data - prior(x, t[:, None], cond)).abs().max().item()
    measured("F7", "prediction of data against the output of the network", off, 0, "bit-equal")
    assert off == 0
    state, truth = torch.Generator().manual_seed(5), torch.randn(3, 6, generator=rng)
    loss = own.objective()(denoiser, truth, cond, state)
    again = torch.Generator().manual_seed(5)
    ends = own.objective().coupling.pair(truth, again)
    times = own.times.draw(truth, again)
    by_hand = (prior(own.path.state(ends, times), times[:, None], cond) - truth).square().mean(1)
    assert_close(loss.total, by_hand, FLOAT32_LAYER)


def test_F7_everything_is_heard_and_padding_is_not(rng):
    """Words, text, time and state move the output; what stands under padding does not; nothing later moves an earlier token."""
    prior, x, cond = drawn(Prior(PriorConfig(6, 12, 5, SMALL, 16))), torch.randn(3, 6, generator=rng), conditions(rng, 3)
    t = torch.full((3, 1), 0.3)
    before = prior(x, t, cond)
    words, whole, mask = cond.require("tokens"), cond.require("vector"), cond.require("mask")
    others = torch.randn(3, 5, 12, generator=rng)
    padded = replace(cond, tokens=torch.where(mask[..., None], words, others))
    assert_close(prior(x, t, padded), before, FLOAT32_LAYER)
    changes = [(x, t, replace(cond, tokens=others)), (x, t, replace(cond, vector=whole.flip(1))), (x, t + 0.2, cond), (x + 0.5, t, cond)]
    assert all((prior(*change) - before).abs().amax(1).min() > 1e-4 for change in changes)
    layers, tokens = drawn(Causal(SMALL)), torch.randn(1, 6, 24, generator=rng)
    slope = torch.autograd.functional.jacobian(lambda v: layers(v)[0], tokens)[0, :, :, 0].abs().sum((1, 3))
    assert slope.triu(1).max() == 0 and slope.tril().diagonal().min() > 0


def test_F7_the_better_of_two_is_kept(rng):
    """Of candidates [k, b, c] that with the largest product with its text, by loops; more candidates are never worse."""
    found, texts = torch.randn(2, 7, 6, generator=rng), torch.randn(7, 6, generator=rng)
    kept = better(found, texts)
    for n in range(7):
        products = [(found[k, n] @ texts[n]).item() for k in range(2)]
        assert torch.equal(kept[n], found[products.index(max(products)), n])


def test_F7_embeddings_are_nearer_to_those_of_pictures_than_texts_are(measured, rng):
    """Pictures of four texts: the cosine of what is drawn to the embedding of a held-out picture is above that of the text's own."""
    own, (x, _, cond) = TRAJECTORIES[Trajectory.X_COS], kinds(rng, 600, 0.3)
    std, mean = torch.std_mean(x[:400], 0)
    prior = Prior(PriorConfig(6, 12, 5, CausalConfig(width=24, depth=1, heads=2), 16))
    denoiser: Denoiser[Condition] = Denoiser(prior, own.path, own.reading)
    objective = Drop(own.objective(), emptied, 0.1)

    def loss(rows: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        return objective(denoiser, (x[rows] - mean) / std, cond.rows(rows), rng).total.mean(), {}

    state = TrainState.start(prior, QUICK)
    for _ in range(120):
        state, _ = train_step(state, [torch.randint(0, 400, (64,), generator=rng)], loss, QUICK, rng)
    held_out = slice(400, None)
    with torch.no_grad():
        noise, given = torch.randn(200, 6, generator=rng), cond.rows(held_out)
        made = sample(own.path, lambda x, t, s: denoiser(x, t, s, given), own.solver(), own.grid(12), noise, rng) * std + mean
    of_made, of_text = (F.cosine_similarity(one, x[held_out]).mean().item() for one in (made, given.require("vector")))
    measured("F7", "cosine to a held-out picture's embedding, above that of the text", of_made - of_text, 0.3)
    assert of_made - of_text > 0.3
