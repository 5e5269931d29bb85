"""What a step of each solver costs beyond the network: microseconds, with a model that returns ready tensors.

    python -m benchmarks.overhead [--steps 50] [--repeats 15] [--out FILE.json]

The least processor time of several repeats, in turns with those of the other libraries that are installed (diffusers, k-diffusion,
flow_matching), so that a busy machine is busy for all. Coefficients are computed once a run: figures without and with a share of that.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.generative_peers import overhead_peers
from structgen.generative import (
    MIDPOINT,
    RK4,
    Ancestral,
    Churn,
    Corrected,
    DataInLogSnr,
    Ddim,
    DpmPlusPlus2M,
    DpmSingle2,
    DpmSingle3,
    Endpoints,
    Euler,
    EulerMaruyama,
    Heun,
    NoiseInLogSnr,
    RungeKutta,
    Solver,
    StochasticHeun,
    VariancePreserving,
    adams,
    deis,
    dpm_multistep,
    dpm_plus_plus,
    sample,
    unipc,
)
from structgen.generative.sample import rows
from structgen.generative.times import uniform

DETERMINISTIC: dict[str, Solver] = {
    "Euler": Euler(), "DDIM": Ddim(), "Heun": Heun(), "midpoint": RungeKutta(MIDPOINT), "RK4": RungeKutta(RK4), "Adams 4": adams(4),
    "DPM-Solver 2 single": DpmSingle2(NoiseInLogSnr()), "DPM-Solver++ 3 single": DpmSingle3(DataInLogSnr()),
    "DPM-Solver 3 multi": dpm_multistep(3), "DPM-Solver++ 2M": DpmPlusPlus2M(), "DPM-Solver++ 3M": dpm_plus_plus(3), "DEIS 3": deis(3),
    "UniPC 2": unipc(2), "UniPC 3": unipc(3),
}  # fmt: skip
STOCHASTIC: dict[str, Solver] = {
    "DDIM, eta 1": Ddim(eta=1.0), "DDPM": Ancestral(1.0), "SDE-DPM-Solver++ 2M": dpm_plus_plus(2, 1.0), "Euler-Maruyama": EulerMaruyama(),
    "stochastic Heun": StochasticHeun(), "churned Heun": Churn(Heun(), 0.1, above=0.0, noise_scale=1.0),
    "predictor-corrector": Corrected(Ddim(eta=1.0)),
}  # fmt: skip
TARGETS = {"deterministic": 30.0, "stochastic": 60.0}


Name = tuple[str, str]  # library, method


def least(ways: dict[Name, Callable[[], object]], repeats: int) -> dict[Name, float]:
    """Seconds of the processor in the cheapest call of each, in turns."""
    best = {name: float("inf") for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - started)
    return best


def ours(solver: Solver, x: Tensor, steps: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Sampling, and its planning alone."""
    path, rng = VariancePreserving(), torch.Generator().manual_seed(0)
    grid, ends = uniform(steps, 0.999, 1e-3), Endpoints(0.1 * torch.randn_like(x), torch.randn_like(x))
    return lambda: sample(path, lambda x, t, s: ends, solver, grid, x, rng), lambda: rows(solver.plan(path, grid[:-1], grid[1:]))


def _lerps(x: Tensor, steps: int) -> Tensor:
    """The least that a step can be: one fused operation."""
    for _ in range(steps):
        x = torch.lerp(x, x, 0.1)
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    found = []
    for shape in ((1, 64), (16, 3, 32, 32)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        ways: dict[Name, Callable[[], object]] = {}
        plans: dict[Name, Callable[[], object]] = {}
        kinds: dict[Name, str] = {}
        for kind, solvers in (("deterministic", DETERMINISTIC), ("stochastic", STOCHASTIC)):
            for name, solver in solvers.items():
                ways["structgen", name], plans["structgen", name] = ours(solver, x, options.steps)
                kinds["structgen", name] = kind
        ways["floor", "one lerp"] = partial(_lerps, x, options.steps)
        ways |= overhead_peers(x, options.steps)
        spent, planned = least(ways, options.repeats), least(plans, options.repeats)
        for key, seconds in spent.items():
            plan, scale = planned.get(key, 0.0), 1e6 / options.steps
            row = dict(shape=shape, library=key[0], method=key[1], us_a_step=scale * (seconds - plan), us_with_plan=scale * seconds)
            row |= dict(kind=kinds.get(key, ""), target=TARGETS.get(kinds.get(key, "")))
            found.append(row)
            costs = f"{row['us_a_step']:8.1f} us a step, {row['us_with_plan']:8.1f} with its plan"
            print(f"{shape!s:18} {key[0]:14} {key[1]:26} {costs}", flush=True)
    if options.out:
        with open(options.out, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
