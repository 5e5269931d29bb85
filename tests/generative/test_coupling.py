"""Assignment and couplings."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from structgen.errors import ConfigError, NumericalError
from structgen.generative import Endpoints, Given, Independent, OptimalTransport, Sinkhorn, assign, generators
from structgen.generative.coupling import squared_distances

F64 = torch.float64
COSTS = {
    "uniform": lambda n, g: torch.rand(n, n, generator=g, dtype=F64),
    "ties": lambda n, g: torch.randint(0, 3, (n, n), generator=g).double(),
    "all equal": lambda n, g: torch.full((n, n), 3.5, dtype=F64),
    "large and of both signs": lambda n, g: 1e6 * torch.randn(n, n, generator=g, dtype=F64),
    "over many scales": lambda n, g: torch.rand(n, n, generator=g, dtype=F64) ** 20,
    "products": lambda n, g: torch.outer(torch.arange(n), torch.arange(n)).double(),
    "float32": lambda n, g: torch.rand(n, n, generator=g),
}


@pytest.mark.parametrize("draw", COSTS.values(), ids=COSTS)
@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 90])
def test_assignment_is_scipys_optimum(draw, n, rng):
    """A permutation whose cost is the optimum, with a gap that says so."""
    cost = draw(n, rng)
    found = assign(cost)
    rows, columns = linear_sum_assignment(cost.numpy())
    total, best = cost.double()[torch.arange(n), found.columns].sum().item(), cost.double().numpy()[rows, columns].sum()
    assert found.columns.sort().values.tolist() == list(range(n))
    assert total == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert abs(found.gap) <= 1e-9 * cost.double().abs().sum().item()


def test_costs_that_cannot_be_assigned_are_refused():
    """Not square, or not finite."""
    for cost in (torch.zeros(2, 3), torch.full((2, 2), torch.nan), torch.zeros(4)):
        with pytest.raises(ConfigError, match="square"):
            assign(cost)


def test_squared_distances_of_events_of_any_shape(rng):
    """Equal to the sum of squares over the event."""
    ends = Endpoints(*(torch.randn(5, 3, 2, generator=rng) for _ in range(2)))
    direct = (ends.data[:, None] - ends.noise[None]).square().sum((2, 3))
    torch.testing.assert_close(squared_distances(ends).float(), direct)


def test_given_pairs_keep_their_partners(rng):
    """Both ends come from the data; other shapes are refused."""
    both = torch.randn(6, 2, 3, generator=rng)
    ends = Given().pair(both, rng)
    assert torch.equal(ends.data, both[:, 0]) and torch.equal(ends.noise, both[:, 1])
    with pytest.raises(ConfigError, match="given pairs"):
        Given().pair(torch.zeros(6, 3), rng)


def test_transport_takes_any_exact_solver(rng):
    """scipy's gives the same pairs as our own."""

    def scipy(cost):
        return torch.from_numpy(linear_sum_assignment(cost.numpy())[1])

    data = torch.randn(40, 3, generator=rng)
    ours, theirs = (OptimalTransport(assign=f).pair(data, torch.Generator().manual_seed(1)) for f in (lambda c: assign(c).columns, scipy))
    assert torch.equal(ours.noise, theirs.noise)


def test_couplings_accept_a_generator_an_example():
    """The noise of each example is its own generator's, then re-paired."""
    data = torch.linspace(-1, 1, 8)[:, None]
    for coupling in (OptimalTransport(), Sinkhorn(relative=1.0)):
        ends = coupling.pair(data, generators(3, 8))
        assert set(ends.noise.flatten().tolist()) <= set(Independent().pair(data, generators(3, 8)).noise.flatten().tolist())


def test_sinkhorn_plan_has_its_marginals_and_its_form(rng):
    """Rows sum to 1 / b exactly, columns to the tolerance; log plan + cost / reg is a sum of a function of rows and one of columns."""
    cost = torch.rand(30, 30, generator=rng, dtype=F64)
    coupling = Sinkhorn(relative=0.1, tolerance=1e-6)
    plan = coupling.log_plan(cost)
    torch.testing.assert_close(plan.exp().sum(1), torch.full((30,), 1 / 30, dtype=F64))
    assert (plan.exp().sum(0) - 1 / 30).abs().sum() / 2 <= 1e-6
    rest = plan + cost / (0.1 * cost.mean())
    torch.testing.assert_close(rest - rest[:1] - rest[:, :1] + rest[0, 0], torch.zeros(30, 30, dtype=F64), atol=1e-9, rtol=0)


def test_sinkhorn_is_free_of_units(rng):
    """The plan does not change when all lengths are multiplied by 1000."""
    cost = torch.rand(20, 20, generator=rng, dtype=F64)
    torch.testing.assert_close(Sinkhorn().log_plan(cost), Sinkhorn().log_plan(1e6 * cost))


def test_sinkhorn_draws_follow_the_plan():
    """Over 500 draws with the same noise, the pairs of one data point have the plan's probabilities (within 4 standard errors)."""
    noise, data = torch.tensor([[-1.0], [0.2], [0.5], [2.0]]), torch.tensor([[0.0], [0.3], [1.0], [-1.0]])

    class Fixed:
        def pair(self, data, rng):
            return Endpoints(data, noise)

    coupling = Sinkhorn(relative=0.5, tolerance=1e-5, source=Fixed())
    rng = torch.Generator().manual_seed(0)
    drawn = torch.cat([coupling.pair(data, rng).noise[:1] for _ in range(500)])
    share = torch.stack([(drawn[:, 0] == value).double().mean() for value in noise[:, 0]])
    wanted = 4 * coupling.log_plan(squared_distances(Endpoints(data, noise)))[0].exp()
    assert ((share - wanted).abs() <= 4 * (wanted * (1 - wanted) / 500).sqrt() + 1e-9).all()


def test_sinkhorn_that_does_not_converge_says_so(rng):
    """Instead of giving another coupling."""
    with pytest.raises(NumericalError, match="relative"):
        Sinkhorn(relative=1e-4, iterations=3).log_plan(torch.rand(50, 50, generator=rng, dtype=F64))
