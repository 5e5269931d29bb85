"""Row E7: rectified flow and its repetition."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch

from structgen.generative import (
    MIDPOINT,
    RK4,
    Ddim,
    Denoiser,
    Endpoints,
    Euler,
    Given,
    Linear,
    ReadVelocity,
    Regression,
    RungeKutta,
    Uniform,
    as_given,
    normal_like,
    reflow_pairs,
    sample,
    velocity_error,
)
from structgen.generative.times import uniform
from structgen.generative.weights import Constant
from tests.conformance.clouds import ring, scattered, sliced_w2
from tests.conformance.students import NORMAL, Perceptron, distance, exact, normal, trained
from tests.tolerance import assert_close

F64 = torch.float64
PATH = Linear()
CLOUDS = {"2-D": ring(), "64-D": scattered()}
COSTS = {"|.|": torch.abs, "|.|^2": torch.square, "huber": lambda r: torch.where(r < 1, r**2 / 2, r - 0.5)}


def rectified(cloud, count: int) -> Endpoints:
    """The coupling of the closed flow."""
    noise = normal(count, cloud.means.shape[1], seed=7)
    (ends,) = reflow_pairs(PATH, cloud.denoiser(PATH), RungeKutta(RK4), uniform(40, 1.0, 0.0), [noise], torch.Generator())
    return ends


@pytest.mark.parametrize("name", CLOUDS)
def test_E7_marginals_are_kept_and_no_convex_cost_rises(name, measured, rng):
    """Of the pairs that the exact flow makes: the noise is the noise given, the data are as near to fresh data as fresh data are to each
    other (means over pairs of draws), and E c(Z1 - Z0) <= E c(X1 - X0) for c = |.|, |.|^2 and Huber's, at two scales."""
    cloud = CLOUDS[name]
    ends, fresh = rectified(cloud, 2000), [cloud.draw(2000, rng) for _ in range(4)]
    data = fresh[0]
    among = sum(sliced_w2(a, b) for a, b in itertools.combinations(fresh, 2)) / 6
    ratio = sum(sliced_w2(ends.data, one) for one in fresh) / 4 / among
    measured("E7", f"sliced W2 of the pairs' data to fresh data over that of fresh data, {name}", ratio, 1.3)
    assert torch.equal(ends.noise, normal(2000, data.shape[1], seed=7)) and ratio < 1.3
    before = (data - normal_like(data, rng)).norm(dim=1)
    after = (ends.data - ends.noise).norm(dim=1)
    for what, cost in COSTS.items():
        for scale in (0.1, 1.0):
            low, high = cost(scale * after).mean().item(), cost(scale * before).mean().item()
            measured("E7", f"E c(Z1 - Z0) / E c(X1 - X0), c = {what} at scale {scale}, {name}", low / high, 1.0)
            assert low < high


def test_E7_lines_of_the_second_round_do_not_cross(measured):
    """On normal data the pairs are Z0 = m + A Z1, so x_t determines them: a regression of data - noise on x_t leaves nothing, at every t;
    the second flow's velocity is constant along its paths. Of independent pairs it leaves most."""
    ends = rectified(NORMAL, 500)
    independent = Endpoints(NORMAL.draw(500, torch.Generator().manual_seed(1)), ends.noise)
    left = {}
    for pairs in (ends, independent):
        target, worst = pairs.noise - pairs.data, 0.0
        for t in (0.1, 0.5, 0.9):
            x = PATH.state(Given().pair(as_given(pairs), torch.Generator()), torch.full((500,), t, dtype=F64))
            seen = torch.cat([x, torch.ones(500, 1, dtype=F64)], 1)
            fit = seen @ torch.linalg.lstsq(seen, target).solution
            worst = max(worst, ((target - fit).square().sum() / target.square().sum()).item())
        left[pairs is ends] = worst
    measured("E7", "variance of the second round's target that x_t leaves open, normal data", left[True], 1e-9, f"first: {left[False]:.2f}")
    assert left[True] < 1e-9 and left[False] > 0.1


def test_E7_pairs_run_both_ways():
    """Times that rise take the data of pairs back to their noise; batches come one by one; nothing has a gradient."""
    ends = rectified(NORMAL, 40)
    model = NORMAL.denoiser(PATH)
    batches = ends.data[:20].requires_grad_(), ends.data[20:]
    back = list(reflow_pairs(PATH, model, RungeKutta(RK4), uniform(40, 0.0, 1.0), batches, torch.Generator()))
    assert len(back) == 2 and torch.equal(back[1].data, batches[1]) and not back[0].noise.requires_grad
    assert_close(torch.cat([pair.noise for pair in back]), ends.noise, 1e-5)


def straightness(path, denoise, noise, steps: int = 100) -> float:
    """E int |v - (x_1 - x_0)|^2 dt / E|x_1 - x_0|^2 along the flow."""
    data = sample(path, denoise, Euler(), uniform(steps, 1.0, 0.0), noise, torch.Generator())
    bend, x = 0.0, noise
    for t, s in itertools.pairwise(uniform(steps, 1.0, 0.0).tolist()):
        at = x.new_full((len(x),), t)
        velocity = path.velocity(denoise(x, at, at), at)
        bend += (velocity - (noise - data)).square().sum(1).mean().item() / steps
        x = sample(path, denoise, Ddim(), [t, s], x, torch.Generator())
    return bend / (noise - data).square().sum(1).mean().item()


def as_denoise(teacher):
    """Without a condition."""
    return lambda x, t, s: teacher(x, t, s, None)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CLOUDS)
def test_E7_reflow_straightens(name, measured, rng):
    """From the exact flow (1-rectified), two rounds of reflow: one step of 2-rectified flow is at most half as far from the data as one of
    1-rectified, straightness falls in each round until it is below 1e-3, and the squared cost of the pairs does not rise."""
    cloud, teacher = CLOUDS[name], exact(CLOUDS[name], PATH)
    d, grid, one = cloud.means.shape[1], uniform(32, 1.0, 0.0), uniform(1, 1.0, 0.0)
    width, steps = (64, 3000) if d == 2 else (128, 3000)
    fresh, solver = normal(1024, d, seed=8).float(), RungeKutta(MIDPOINT)
    bends = [straightness(PATH, as_denoise(teacher), fresh)]
    away, costs = [distance(PATH, teacher, Euler(), one, cloud)], []
    for k in (2, 3):
        noises = normal_like(torch.empty(16, 1024, d), rng)
        pairs = torch.cat([as_given(ends) for ends in reflow_pairs(PATH, as_denoise(teacher), solver, grid, noises, rng)])
        costs.append((pairs[:, 0] - pairs[:, 1]).square().sum(1).mean().item())
        model = Denoiser(Perceptron(d, 1, width), PATH, ReadVelocity())
        objective = Regression(PATH, Uniform(), Constant(), velocity_error, Given())
        teacher = trained(model, objective, Pairs(pairs), steps, rng)
        bends.append(straightness(PATH, as_denoise(teacher), fresh))
        away.append(distance(PATH, teacher, Euler(), one, cloud))
        ratio, note = away[-1] / away[0], f"{away[-1]:.3f} and {away[0]:.3f}; 1-rectified is the exact flow"
        measured("E7", f"sliced W2 at 1 step, {k}-rectified over 1-rectified, {name}", ratio, 0.5, note)
        note = f"{bends[-1]:.1e} and {bends[-2]:.1e}: below 1e-3 nothing is left but the error of the fit"
        measured("E7", f"straightness, {k}-rectified over {k - 1}-rectified, {name}", bends[-1] / bends[-2], 1.0, note)
    assert away[1] <= 0.5 * away[0] and away[2] <= 0.5 * away[0]
    assert bends[1] < 0.1 * bends[0] and (bends[2] < bends[1] or bends[2] < 1e-3)
    assert costs[1] <= 1.01 * costs[0]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs that are drawn from as a cloud is."""

    pairs: torch.Tensor

    def draw(self, count: int, rng: torch.Generator) -> torch.Tensor:
        return self.pairs[torch.randint(len(self.pairs), (count,), generator=rng)]
