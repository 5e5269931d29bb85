"""Laws of paths turned round: on tables, normal, learned."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from structgen.generative import Drifted, LearnedLaw, Reversal, TableLaw, half_steps, normal_like
from structgen.generative.bridge import Affine, GaussianLaw, Normal

F64 = torch.float64


def table(rng) -> TableLaw:
    return TableLaw(torch.rand(5, generator=rng, dtype=F64).softmax(0), torch.rand(3, 5, 5, generator=rng, dtype=F64).softmax(2))


def test_a_table_turned_twice_is_itself(rng):
    """Turned to its own end and back to its own start."""
    law = table(rng)
    back = law.turned(law.marginals()[-1])
    again = back.turned(law.start)
    assert (again.steps - law.steps).abs().max() < 1e-14 and (again.marginals() - law.marginals()).abs().max() < 1e-14
    assert (back.ends() - law.ends().T).abs().max() < 1e-15


def test_turning_is_the_nearest_law_with_that_end(rng):
    """KL(other || law) over whole paths is least for the turned law among laws with the same end: any change of its steps raises it."""
    law, end = table(rng), torch.rand(5, generator=rng, dtype=F64).softmax(0)

    def paths(law: TableLaw):
        return torch.einsum("a,ab,bc,cd->abcd", law.start, *law.steps)

    def divergence(back: TableLaw) -> float:
        p = paths(back).permute(3, 2, 1, 0)
        return (p * (p / paths(law)).log()).sum().item()

    best = law.turned(end)
    for i in range(10):
        other = TableLaw(end, (best.steps.log() + 0.1 * torch.randn(3, 5, 5, generator=rng, dtype=F64)).softmax(2))
        assert divergence(other) > divergence(best), i


def test_a_normal_step_turned_is_bayes(rng):
    """The joint law of (x, y) is the same told from y."""
    a, b, c = (torch.randn(3, 3, generator=rng, dtype=F64) for _ in range(3))
    before = Normal(torch.randn(3, generator=rng, dtype=F64), b @ b.T + torch.eye(3))
    step = Affine(a, torch.randn(3, generator=rng, dtype=F64), c @ c.T + torch.eye(3))
    after = step.after(before)
    back = step.turned(before)
    told = back.after(after)
    assert (told.mean - before.mean).abs().max() < 1e-12 and (told.covariance - before.covariance).abs().max() < 1e-12
    assert (back.matrix @ after.covariance - before.covariance @ a.T).abs().max() < 1e-12
    law = GaussianLaw(before, [step, step])
    assert (law.cross_covariance() - before.covariance @ a.T @ a.T).abs().max() < 1e-12
    assert (law.turned(law.marginals()[-1]).cross_covariance() - law.cross_covariance().T).abs().max() < 1e-11


def test_half_steps_alternate_between_the_ends(rng):
    """pi^1 starts in the second end, pi^2 in the first, and so on."""
    law, ends = table(rng), (torch.full((5,), 0.2, dtype=F64), torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1], dtype=F64))
    starts = [law.start for law in itertools.islice(half_steps(law, ends), 4)]
    assert all(start is ends[(i + 1) % 2] for i, start in enumerate(starts))


class Shift(nn.Module):
    """A drift that is the condition plus a number."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(number, dtype=F64))

    def forward(self, x, times, cond):
        return (cond + self.number).expand_as(x)


def moved(number: float) -> Drifted:
    return Drifted(Shift(number), torch.ones_like)


def test_a_kernel_is_fitted_to_paths_taken_backwards(rng):
    """Brownian motion with drift 1 + 0.5 from a wide start, seen backwards, drifts by -1.5: there the objective's gradient is 0; the kernel
    that makes the paths gets none."""
    made, data = moved(0.5), 1e3 * normal_like(torch.empty(20_000, 1, dtype=F64), rng)
    back = moved(-2.5)
    loss = Reversal(made, [0.0, 0.5, 1.0])(back, data, torch.ones((), dtype=F64), rng).total.mean()
    loss.backward()
    assert abs(back.network.number.grad.item()) < 0.02 and made.network.number.grad is None


def test_a_learned_law_is_turned_by_its_fit(rng):
    """`fit` is handed the objective of the law's own paths and their start; the new law runs the other way from the new start."""

    def start(count, rng):
        return torch.zeros(count, 2, dtype=F64)

    def end(count, rng):
        return torch.ones(count, 2, dtype=F64)

    seen = []

    def fit(objective, draw):
        seen.append((objective, draw))
        return moved(-3.0)

    law = LearnedLaw(start, moved(0.0), [0.0, 0.5, 1.0], fit)
    turned = law.turned(end)
    assert seen[0][0].kernel is law.kernel and seen[0][0].times == [0.0, 0.5, 1.0] and seen[0][1] is start
    assert turned.times == [1.0, 0.5, 0.0]
    with torch.no_grad():
        paths = turned.trajectories(50_000, torch.zeros((), dtype=F64), rng)
    assert paths.shape == (3, 50_000, 2) and torch.equal(paths[0], end(50_000, rng))
    assert abs(paths[-1].mean().item() + 2) < 0.02
