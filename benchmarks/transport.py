"""Optimal transport of minibatches: our exact assignment beside scipy's and POT's, in turns in one process.

    PYTHONPATH=<where POT is installed> python -m benchmarks.transport --batches 256 1024 4096 --dimensions 64

Milliseconds of processor time on one thread, the least of the repeats; the cost a pair, and how far it lies above the lower bound that our
prices prove. POT stops after 100,000 pivots by default and is then not exact; `--pot-iterations` raises that.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from structgen.generative import Endpoints, Independent, Sinkhorn
from structgen.generative.assignment import assign
from structgen.generative.coupling import squared_distances

Solver = Callable[[torch.Tensor], np.ndarray]


def ours(cost: torch.Tensor) -> np.ndarray:
    return assign(cost).columns.numpy()


def scipy(cost: torch.Tensor) -> np.ndarray:
    return linear_sum_assignment(cost.numpy())[1]


def pot(iterations: int) -> Solver:
    """POT's network simplex; its plan is a permutation over n where it has converged."""
    import ot

    def solve(cost: torch.Tensor) -> np.ndarray:
        weights = np.full(len(cost), 1 / len(cost))
        return ot.emd(weights, weights, cost.numpy(), numItermax=iterations).argmax(1)

    return solve


def modes(dimension: int, rng: torch.Generator) -> torch.Tensor:
    """Ten centres, or eight on a circle."""
    if dimension > 2:
        return 0.8 * torch.randn(10, dimension, generator=rng, dtype=torch.float64)
    angle = torch.arange(8, dtype=torch.float64) * (2 * torch.pi / 8)
    return 1.3 * torch.stack([angle.cos(), angle.sin()], 1)


def batch(dimension: int, count: int, seed: int) -> Endpoints:
    """Noise, and data from a mixture."""
    rng = torch.Generator().manual_seed(seed)
    centres = modes(dimension, rng)
    data = centres[torch.randint(len(centres), (count,), generator=rng)]
    data = data + 0.2 * torch.randn(count, dimension, generator=rng, dtype=torch.float64)
    return Independent().pair(data, rng)


def compared(solvers: dict[str, Solver], dimension: int, count: int, repeats: int) -> list[dict[str, object]]:
    """One row a solver. Every repeat is a batch of its own, given to all solvers in turn."""
    spent: dict[str, list[float]] = {name: [] for name in solvers}
    above: dict[str, float] = dict.fromkeys(solvers, 0.0)
    for seed in range(repeats):
        cost = squared_distances(batch(dimension, count, seed))
        proof = assign(cost)
        least = ((cost + proof.price).amin(1).sum() - proof.price.sum()).item() / count
        for name, solve in solvers.items():
            started = time.process_time()
            columns = solve(cost)
            spent[name].append(1e3 * (time.process_time() - started))
            found = cost[torch.arange(count), torch.from_numpy(columns)].mean().item()
            whole = len(np.unique(columns)) == count
            above[name] = max(above[name], found / least - 1 if whole else float("inf"))
    return [
        {"dimension": dimension, "batch": count, "solver": name, "ms": round(min(spent[name]), 2), "above the bound": above[name]}
        for name in solvers
    ]


def sinkhorn(dimension: int, count: int) -> dict[str, object]:
    """The default entropic plan: its cost between the exact and the independent one."""
    cost = squared_distances(batch(dimension, count, 0))
    started = time.process_time()
    plan = Sinkhorn().log_plan(cost).exp()
    spent = 1e3 * (time.process_time() - started)
    exact = cost[torch.arange(count), assign(cost).columns].mean().item()
    kept = (cost.mean().item() - (plan * cost).sum().item()) / (cost.mean().item() - exact)
    return {"dimension": dimension, "batch": count, "solver": "our sinkhorn", "ms": round(spent, 2), "share of the gain": round(kept, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[64])
    parser.add_argument("--repeats", type=int, default=5, help="for batches of up to 1024; larger ones run once")
    parser.add_argument("--pot-iterations", type=int, default=10_000_000, help="0 leaves POT out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    solvers: dict[str, Solver] = {"structgen": ours, "scipy": scipy}
    if options.pot_iterations:
        solvers["POT"] = pot(options.pot_iterations)
        solvers["POT, default pivots"] = pot(100_000)
    for dimension in options.dimensions:
        for count in options.batches:
            for row in compared(solvers, dimension, count, options.repeats if count <= 1024 else 1):
                print(json.dumps(row), flush=True)
            if count <= 1024:
                print(json.dumps(sinkhorn(dimension, count)), flush=True)


if __name__ == "__main__":
    main()
