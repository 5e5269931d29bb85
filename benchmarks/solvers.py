"""How near samples come to the exact end of the probability flow, against evaluations, on two mixtures with known scores.

    python -m benchmarks.solvers [--evaluations 8 16 32 64 128] [--out FILE.json]

In one run with the other libraries that are installed (diffusers, k-diffusion, dpm_solver, flow_matching). Every row is judged against its
own exact end point, from its own noise level: the median over 256 starts of the root mean square over coordinates.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.generative_peers import accuracy_peers
from structgen.generative import (
    MIDPOINT,
    RK4,
    DataInLogSnr,
    Ddim,
    DpmPlusPlus2M,
    DpmSingle3,
    Heun,
    Linear,
    Path,
    RungeKutta,
    Solver,
    VarianceExploding,
    VariancePreserving,
    adams,
    deis,
    dpm_multistep,
    dpm_plus_plus,
    sample,
    unipc,
)
from structgen.generative.times import at_noise_levels, eased, karras, log_snr
from tests.conformance.clouds import Cloud, median_error, ring, scattered

STRAIGHT, FIRST = Linear(), 1 - 1e-3
Grid = Callable[[int], Tensor]


def straight(steps: int) -> Tensor:
    return eased(steps, FIRST, 0.0)


def even_in_log_snr(steps: int) -> Tensor:
    return log_snr(VariancePreserving(), steps, 1.0, 1e-4)


def levels_of_karras(steps: int) -> Tensor:
    return at_noise_levels(VarianceExploding(), karras(steps, 80.0, 0.002))


METHODS: dict[str, tuple[Path, Solver, Grid, int]] = {  # path, solver, grid, evaluations a step
    "Adams 3, straight path": (STRAIGHT, adams(3), straight, 1),
    "Adams 4, straight path": (STRAIGHT, adams(4), straight, 1),
    "RK4, straight path": (STRAIGHT, RungeKutta(RK4), straight, 4),
    "midpoint, straight path": (STRAIGHT, RungeKutta(MIDPOINT), straight, 2),
    "DDIM": (VariancePreserving(), Ddim(), even_in_log_snr, 1),
    "DPM-Solver++ 2M": (VariancePreserving(), DpmPlusPlus2M(), even_in_log_snr, 1),
    "DPM-Solver++ 3M": (VariancePreserving(), dpm_plus_plus(3), even_in_log_snr, 1),
    "DPM-Solver++ 3 single": (VariancePreserving(), DpmSingle3(DataInLogSnr()), even_in_log_snr, 3),
    "DPM-Solver 3 multi": (VariancePreserving(), dpm_multistep(3), even_in_log_snr, 1),
    "DEIS 3": (VariancePreserving(), deis(3), even_in_log_snr, 1),
    "UniPC 3": (VariancePreserving(), unipc(3), even_in_log_snr, 1),
    "Heun, Karras": (VarianceExploding(), Heun(), levels_of_karras, 2),
}  # fmt: skip


def landed(cloud: Cloud, path: Path, solver: Solver, grid: Tensor, noise: Tensor) -> tuple[Tensor, float]:
    """The end of the flow at data (the last small step by the denoiser, as for the oracle), and the noise level of the start."""
    alpha, sigma = (c.item() for c in path.alpha_sigma(grid[:1]))
    x = sample(path, cloud.denoiser(path), solver, grid, noise * sigma, torch.Generator())
    if grid[-1] > 0:
        x = sample(path, cloud.denoiser(path), Ddim(), [grid[-1].item(), 0.0], x, torch.Generator())
    return x, sigma / alpha


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, nargs="*", default=[8, 16, 32, 64, 128])
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    table: dict[tuple[int, str, str], list[float]] = {}
    for cloud in (ring(), scattered()):
        dimensions, exact = cloud.means.shape[1], Exact(cloud)
        for evaluations in options.evaluations:
            for name, (path, solver, grid, cost) in METHODS.items():
                steps = max(evaluations // cost, 1)
                found = landed(cloud, path, solver, grid(steps), exact.noise)
                table.setdefault((dimensions, "structgen", name), []).append(exact.error(*found))
            for library, name, run in accuracy_peers(exact.predict, exact.noise, evaluations):
                table.setdefault((dimensions, library, name), []).append(exact.error(*run()))
    for (dimensions, library, name), errors in table.items():
        print(f"{dimensions:3}-D {library:14} {name:28} " + "  ".join(f"{error:.1e}" for error in errors), flush=True)
    if options.out:
        with open(options.out, "w") as file:
            rows = [dict(dimensions=k[0], library=k[1], method=k[2], evaluations=options.evaluations, median=e) for k, e in table.items()]
            json.dump(rows, file, indent=1)


class Exact:
    """The starts, and where the flow takes them from each noise level."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.ends = cloud, dict[float, Tensor]()
        self.noise = torch.randn(256, cloud.means.shape[1], generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def predict(self, y: Tensor, level: float) -> Tensor:
        return self.cloud.denoise(VarianceExploding(), y, y.new_full((len(y),), level)).data

    def error(self, x: Tensor, level: float) -> float:
        key = round(level, 6)
        if key not in self.ends:
            self.ends[key] = self.cloud.flow_to_data(VarianceExploding(), self.noise * level, level)
        return median_error(x, self.ends[key])


if __name__ == "__main__":
    main()
