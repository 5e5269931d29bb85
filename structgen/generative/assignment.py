"""Exact assignment: the permutation that pairs rows with columns at the least total cost, with a proof of it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

import torch
from torch import Tensor

from structgen.errors import ConfigError, NumericalError

BLUR = 0.2  # temperature of the first prices, in spreads of a row's short list
ROUNDS = 20  # of scaling for them: enough to be near, more would cost what they save
INCREMENTS = (0.02, 0.0)  # of the auctions, in spreads
SHORT = 16  # columns in a row's list at first
LEFT = 0.015  # share of the rows that all auctions but the last leave unassigned: the last few would cost most of the bids
PATIENCE = 300  # bids a row at most, against endless small raises; 5 to 10 are usual in the first auction and 2 in the others
LAST = 6  # in the last auction: searching for paths is cheaper than the tail of its bids
NO_RAISE = 1e-9  # spreads: a bid that raises a price by less leaves its row to the search for paths


@dataclass(frozen=True)
class Assignment:
    """Row i goes with column columns[i], a permutation [n]; the cost lies at most `gap` above the least possible.

    The proof is `price` [n]: whatever the permutation, its cost is at least sum_i min_j(cost_ij + price_j) - sum_j price_j.
    """

    columns: Tensor
    price: Tensor
    gap: float


def assign(cost: Tensor) -> Assignment:
    """The cheapest assignment of a square cost matrix [n, n]: first prices from the entropic problem (Cuturi 2013), auctions with falling
    increments (Bertsekas 1988), then a shortest augmenting path for each row that is left (Jonker & Volgenant 1987).

    Prices only rise, so a row that has listed its nearest columns need not look at others until the price-adjusted cost of the last of the
    list is reached: that makes the work of a bid independent of n. Computes in float64 on the CPU; n = 4096 takes seconds in 64 dimensions.
    Costs whose best columns hang together in long chains (points on a line, products) are slow: there a compiled solver is better.
    Raises `ConfigError` if the costs are not square or not finite, `NumericalError` if the gap is above 1e-9 of the total cost and of the
    range of the costs.
    """
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1] or not cost.isfinite().all():
        raise ConfigError(f"an assignment needs a square matrix of finite costs; found shape {list(cost.shape)}")
    market = _Market.opened(cost.detach().to("cpu", torch.float64))
    n = len(market.cost)
    if n > 1:
        spread = market.spread()
        for increment in INCREMENTS:
            _clear(market)
            free = _auction(market, increment * spread, NO_RAISE * spread, int(LEFT * n) if increment else 0)
        for row in free:
            _augment(market, row)
    return _proved(market)


def cheapest_columns(cost: Tensor) -> Tensor:
    """`assign(cost).columns`, on the device of the costs."""
    return assign(cost).columns.to(cost.device)


@dataclass
class _Market:
    """Working memory of one assignment: plain lists, because the work is one number at a time."""

    cost: Tensor  # [n, n]
    price: array  # of each column; only rises
    shared: Tensor  # the same memory as a tensor
    keys: list[list[float]] = field(default_factory=list)  # rising cost + price of each row's listed columns, when they were listed
    columns: list[list[int]] = field(default_factory=list)
    costs: list[list[float]] = field(default_factory=list)
    column_of: list[int] = field(default_factory=list)  # -1: unassigned
    row_of: list[int] = field(default_factory=list)

    @classmethod
    def opened(cls, cost: Tensor) -> _Market:
        """Near prices, and the lists of all rows."""
        n = len(cost)
        price = array("d", _entropic_prices(cost).tolist())
        market = cls(cost, price, torch.frombuffer(price, dtype=torch.float64))
        market.keys, market.columns, market.costs = market._nearest(cost, min(SHORT, n))
        market.column_of, market.row_of = [0] * n, [0] * n
        return market

    def _nearest(self, costs: Tensor, length: int) -> tuple[list, list, list]:
        keys, columns = (costs + self.shared).topk(length, 1, largest=False)
        return keys.tolist(), columns.tolist(), costs.gather(1, columns).tolist()

    def list_again(self, rows: list[int], length: int) -> None:
        """The nearest columns of these rows at today's prices."""
        for row, *lists in zip(rows, *self._nearest(self.cost[rows], min(length, len(self.cost))), strict=True):
            self.keys[row], self.columns[row], self.costs[row] = lists

    def spread(self) -> float:
        """How much the listed columns of a row differ: the scale of the increments."""
        spread = sum(keys[-1] - keys[0] for keys in self.keys) / len(self.keys)
        return spread or (self.cost.amax() - self.cost.amin()).item()


def _entropic_prices(cost: Tensor) -> Tensor:
    """[n] prices of the columns in the entropic problem after a few rounds of scaling: a start that leaves the auctions little to do.

    In float32 and not in the log domain, for speed: whatever they are, the prices that follow are exact. Rows and columns of the shifted
    costs have least elements 0, so no row or column of the kernel vanishes.
    """
    least = cost.amin(0)
    shifted = cost - least
    low = shifted.topk(min(SHORT, len(cost)), 1, largest=False).values
    blur = BLUR * (low[:, -1] - low[:, 0]).mean()
    if not blur > 0:
        return -least
    kernel = ((low[:, :1] - shifted) / blur).float().exp()
    v = kernel.new_ones(len(cost))
    for _ in range(ROUNDS):
        u = 1 / (kernel @ v)
        v = 1 / (u @ kernel)
    prices = -least - blur * v.double().log()
    return torch.where(prices.isfinite(), prices, -least)


def _clear(market: _Market) -> None:
    n = len(market.cost)
    market.column_of, market.row_of = [-1] * n, [-1] * n


def _auction(market: _Market, increment: float, least: float, enough: int) -> list[int]:
    """Unassigned rows bid for their best column until at most `enough` are left, which are returned.

    A bid raises the price to the point where the second-best column is as good, plus the increment. With increment 0 every assigned row
    holds a best column; then bids that raise nothing are left out.
    """
    price, column_of, row_of = market.price, market.column_of, market.row_of
    free, bids = list(range(len(row_of))), (PATIENCE if increment else LAST) * len(row_of)
    stale: list[int] = []
    left: list[int] = []
    while len(free) + len(stale) > enough and bids > 0:
        if not free:
            market.list_again(stale, SHORT)
            free, stale = stale, []
        row, best, second = free.pop(), inf, inf
        bids -= 1
        for key, column, cost in zip(market.keys[row], market.columns[row], market.costs[row], strict=False):
            if key >= second:
                break
            value = cost + price[column]
            if value < best:
                best, second, chosen = value, best, column
            elif value < second:
                second = value
        else:
            if second > key:  # a column that is not listed may be better
                stale.append(row)
                continue
        owner, rise = row_of[chosen], second - best + increment
        if owner >= 0:
            if rise <= least:
                left.append(row)
                continue
            column_of[owner] = -1
            free.append(owner)
        price[chosen] += rise
        row_of[chosen], column_of[row] = row, chosen
    return free + stale + left


def _augment(market: _Market, root: int) -> None:
    """Assign one more row along the shortest path of reduced costs to an unassigned column; prices rise so that the path is tight.

    Dijkstra's search. The queue holds columns, and as ~row those rows whose list ended before it was known to be long enough.
    """
    price, row_of = market.price, market.row_of
    reach: dict[int, float] = {}
    came_from: dict[int, int] = {}
    left_at: dict[int, tuple[float, float]] = {}  # row: its distance and the value of the column that it holds
    queue: list[tuple[float, int]] = []
    shortest, end, row, start = inf, -1, root, 0.0
    while True:
        start, held = left_at.setdefault(row, (start, _held(market, row)))
        for key, column, cost in zip(market.keys[row], market.columns[row], market.costs[row], strict=False):
            if key - held + start >= shortest:
                break
            there = start + max(cost + price[column] - held, 0.0)  # never below `start` by rounding: the path could close on itself
            if there < shortest and there < reach.get(column, inf):
                reach[column], came_from[column] = there, row
                if row_of[column] < 0:
                    shortest, end = there, column
                else:
                    heappush(queue, (there, column))
        else:
            if len(market.keys[row]) < len(price):
                heappush(queue, (start + max(key - held, 0.0), ~row))
        while queue and queue[0][0] < shortest:
            start, column = heappop(queue)
            if column < 0:
                row = ~column
                market.list_again([row], 4 * len(market.keys[row]))
                break
            if start <= reach[column]:
                row = row_of[column]
                break
        else:
            break
    for column, there in reach.items():
        if there < shortest:
            price[column] += shortest - there
    _turn(market, end, came_from)


def _held(market: _Market, row: int) -> float:
    """Cost and price of the column that a row holds, or of its best if it holds none."""
    column = market.column_of[row]
    if column >= 0:
        return market.cost[row, column].item() + market.price[column]
    return (market.cost[row] + market.shared).min().item()


def _turn(market: _Market, column: int, came_from: dict[int, int]) -> None:
    """Give every row of the path the column that it reached."""
    while column >= 0:
        row = came_from[column]
        market.row_of[column] = row
        market.column_of[row], column = column, market.column_of[row]


def _proved(market: _Market) -> Assignment:
    cost, price = market.cost, market.shared.clone()
    columns = torch.tensor(market.column_of)
    taken = cost.gather(1, columns[:, None])
    gap = (taken.sum() - (cost + price).amin(1).sum() + price.sum()).item()
    if gap > 1e-9 * max(taken.abs().sum().item(), (cost.amax() - cost.amin()).item()):
        raise NumericalError(f"rounding left the assignment up to {gap:.1e} over the least, {taken.sum().item():.6g}: rescale the costs")
    return Assignment(columns, price, gap)
