"""Samplers of other libraries, as the benchmarks call them. What is not installed is left out."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

DDPM = dict(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)


def installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def k_diffusion_sampling() -> Any:
    """k_diffusion.sampling alone: its package imports a training stack that sampling does not use."""
    if "k_diffusion.sampling" in sys.modules:
        return sys.modules["k_diffusion.sampling"]
    spec = importlib.util.find_spec("k_diffusion")
    assert spec is not None and spec.submodule_search_locations is not None
    package, tools = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    package.__path__ = list(spec.submodule_search_locations)
    tools.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    package.utils = tools  # type: ignore[attr-defined]
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": tools}
    return importlib.import_module("k_diffusion.sampling")


def overhead_peers(x: Tensor, steps: int) -> dict[tuple[str, str], Callable[[], object]]:
    """One run of `steps` steps each, with a model that returns the same tensor. diffusers' runs set their timesteps too, as a user must."""
    warnings.filterwarnings("ignore")
    out = 0.1 * x
    ways: dict[tuple[str, str], Callable[[], object]] = {}
    if installed("diffusers"):
        import diffusers

        for name, scheduler in (
            ("DDIM", diffusers.DDIMScheduler(**DDPM, clip_sample=False)),
            ("DDPM", diffusers.DDPMScheduler(**DDPM)),
            ("Euler", diffusers.EulerDiscreteScheduler(**DDPM)),
            ("Euler for flows", diffusers.FlowMatchEulerDiscreteScheduler()),
            ("DPM-Solver++ 2M", diffusers.DPMSolverMultistepScheduler(**DDPM, solver_order=2)),
            ("DPM-Solver++ 3M", diffusers.DPMSolverMultistepScheduler(**DDPM, solver_order=3)),
            ("DEIS 3", diffusers.DEISMultistepScheduler(**DDPM, solver_order=3)),
            ("UniPC 3", diffusers.UniPCMultistepScheduler(**DDPM, solver_order=3)),
        ):
            ways["diffusers", name] = _diffusers_run(scheduler, x, out, steps)
    if installed("k_diffusion"):
        k = k_diffusion_sampling()
        levels = k.get_sigmas_karras(steps, 0.002, 80.0)
        runs = {"Euler": k.sample_euler, "Heun": k.sample_heun, "LMS 4": k.sample_lms, "DPM-Solver++ 2M": k.sample_dpmpp_2m}
        for name, run in runs.items():
            ways["k-diffusion", name] = partial(run, lambda x, s, **_: out, x, levels, disable=True)
        ways["k-diffusion", "SDE-DPM-Solver++ 2M"] = lambda: k.sample_dpmpp_2m_sde(lambda x, s, **_: out, x, levels, disable=True)
    if installed("flow_matching"):
        from flow_matching.solver import ODESolver

        solver, grid = ODESolver(velocity_model=lambda x, t: out), torch.linspace(0, 1, steps + 1)
        for method in ("euler", "midpoint", "rk4"):
            ways["flow_matching", method] = partial(solver.sample, x_init=x, step_size=None, method=method, time_grid=grid)
    return ways


def _diffusers_run(scheduler: Any, x: Tensor, out: Tensor, steps: int) -> Callable[[], object]:
    def run() -> Tensor:
        scheduler.set_timesteps(steps)
        state = x
        for t in scheduler.timesteps:
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(state, t)
            state = scheduler.step(out, t, state, return_dict=False)[0]
        return state

    return run


Predict = Callable[[Tensor, float], Tensor]
"""Data [b, d] from y [b, d] at a noise level: y = data + level noise."""


def accuracy_peers(predict: Predict, noise: Tensor, evaluations: int) -> Iterator[tuple[str, str, Callable[[], tuple[Tensor, float]]]]:
    """(library, method, run), where a run gives the end point from `noise` [b, d] and the noise level it started at."""
    warnings.filterwarnings("ignore")
    if installed("flow_matching"):
        for method, cost in (("midpoint", 2), ("rk4", 4)):
            yield "flow_matching", method, partial(_flow, predict, noise, method, evaluations // cost)
    if installed("k_diffusion"):
        k = k_diffusion_sampling()
        for name, run, extra, cost in (
            ("Heun", k.sample_heun, {}, 2),
            ("LMS 4", k.sample_lms, {}, 1),
            ("DPM-Solver++ 2M", k.sample_dpmpp_2m, {}, 1),
            ("DPM-Solver++ 3M", k.sample_dpmpp_3m_sde, {"eta": 0.0}, 1),
        ):
            levels = k.get_sigmas_karras(max(evaluations // cost, 2), 0.002, 80.0).double()
            yield "k-diffusion", name, partial(_karras, run, predict, noise, levels, extra)
    if installed("dpm_solver"):
        for name, of_data, method, order in (
            ("++ 3 single", True, "singlestep", 3),
            ("2 multi", False, "multistep", 2),
            ("3 multi", False, "multistep", 3),
            ("++ 3 multi", True, "multistep", 3),
        ):
            yield "dpm-solver", name, partial(_dpm_solver, predict, noise, evaluations, of_data, method, order)
    if installed("diffusers"):
        import diffusers

        trailing = DDPM | dict(timestep_spacing="trailing")
        for name, make, options in (
            ("DDIM", diffusers.DDIMScheduler, trailing | dict(clip_sample=False, set_alpha_to_one=True)),
            ("DPM-Solver++ 3M", diffusers.DPMSolverMultistepScheduler, trailing | dict(solver_order=3)),
            ("DPM-Solver++ 3M, Karras", diffusers.DPMSolverMultistepScheduler, DDPM | dict(solver_order=3, use_karras_sigmas=True)),
            ("DEIS 3", diffusers.DEISMultistepScheduler, trailing | dict(solver_order=3)),
            ("UniPC 3, Karras", diffusers.UniPCMultistepScheduler, DDPM | dict(solver_order=3, use_karras_sigmas=True)),
        ):
            yield "diffusers", name, partial(_diffusers_accuracy, partial(make, **options), predict, noise, evaluations)


def _flow(predict: Predict, noise: Tensor, method: str, steps: int) -> tuple[Tensor, float]:
    """From t = 0.001 to 1 - 1e-5, in that library's time: data at 1."""
    from flow_matching.solver import ODESolver

    start = 1e-3
    solver = ODESolver(velocity_model=lambda x, t: (predict(x / t, float((1 - t) / t)) - x) / (1 - t))
    grid = torch.linspace(start, 1 - 1e-5, steps + 1, dtype=torch.float64)
    level = (1 - start) / start
    return solver.sample(x_init=noise * (1 - start), step_size=None, method=method, time_grid=grid), level


def _karras(run: Any, predict: Predict, noise: Tensor, levels: Tensor, extra: dict[str, float]) -> tuple[Tensor, float]:
    return run(lambda x, level, **_: predict(x, float(level[0])), noise * 80.0, levels, disable=True, **extra), 80.0


def _dpm_solver(predict: Predict, noise: Tensor, evaluations: int, predict_x0: bool, method: str, order: int) -> tuple[Tensor, float]:
    """The method's authors' own code (their single file, as `dpm_solver` on PYTHONPATH): linear betas, even in log-SNR, one evaluation more
    at the end."""
    from dpm_solver import DPM_Solver, NoiseScheduleVP

    schedule = NoiseScheduleVP("linear", continuous_beta_0=0.1, continuous_beta_1=20.0)

    def predict_noise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.marginal_alpha(t[:1]).item(), schedule.marginal_std(t[:1]).item()
        return (x - alpha * predict(x / alpha, sigma / alpha)) / sigma

    alpha, sigma = (f(torch.ones(1, dtype=torch.float64)).item() for f in (schedule.marginal_alpha, schedule.marginal_std))
    solver = DPM_Solver(predict_noise, schedule, predict_x0=predict_x0)
    ends = dict(t_start=1.0, t_end=1e-4, skip_type="logSNR", lower_order_final=False, denoise_to_zero=True)
    return solver.sample(noise * sigma, steps=evaluations, method=method, order=order, **ends), sigma / alpha


def _diffusers_accuracy(make: Callable[[], Any], predict: Predict, noise: Tensor, evaluations: int) -> tuple[Tensor, float]:
    scheduler = make()
    scheduler.set_timesteps(evaluations)
    kept = scheduler.alphas_cumprod.double()
    first = kept[int(scheduler.timesteps[0])]
    has_levels = hasattr(scheduler, "sigmas") and scheduler.sigmas is not None and len(scheduler.sigmas) == evaluations + 1
    level = float(scheduler.sigmas[0]) if has_levels else float(((1 - first) / first).sqrt())
    x = noise * level / (1 + level**2) ** 0.5
    for t in scheduler.timesteps:
        alpha, sigma = kept[int(t)].sqrt().item(), (1 - kept[int(t)]).sqrt().item()
        x = scheduler.step((x - alpha * predict(x / alpha, sigma / alpha)) / sigma, t, x).prev_sample
    return x, level
