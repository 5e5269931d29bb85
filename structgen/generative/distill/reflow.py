"""Rectified flow: train anew on the pairs that a flow makes, and its paths become straight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from structgen.generative.denoiser import Denoise
from structgen.generative.noise import Rng
from structgen.generative.path import Endpoints, Path, X
from structgen.generative.sample import Solver, sample


def reflow_pairs(
    path: Path, denoise: Denoise, solver: Solver[Any, Any], times: Tensor | Sequence[float], starts: Iterable[X], rng: Rng
) -> Iterator[Endpoints]:
    """For each batch of starts [b, *event] both ends of its flow: the coupling of the next round (Liu et al. 2022, Algorithm 1).

    Times that fall take standard normal noise to data; times that rise take data to its noise. The next flow is trained on them by
    `Regression(path, ..., velocity_error, Given())` with `as_given`; its own denoise gives the pairs of the round after. Between t = 1 and
    0 on `Linear` the marginals are kept and no convex cost of the pairs rises (theorem 3.5). No gradients. For a conditioned model, call
    once a condition.
    """
    first, last = (torch.as_tensor(times, dtype=torch.float64)[i].reshape(1) for i in (0, -1))
    falls = bool(first > last)
    (alpha, sigma), (alpha_end, sigma_end) = path.alpha_sigma(first), path.alpha_sigma(last)
    scale_in, scale_out = (sigma, alpha_end) if falls else (alpha, sigma_end)
    for start in starts:
        with torch.no_grad():
            end = sample(path, denoise, solver, times, scale_in.item() * start, rng) / scale_out.item()
        yield Endpoints(end, start) if falls else Endpoints(start, end)


def as_given(ends: Endpoints) -> X:
    """Both ends as the data [b, 2, *event] of the `Given` coupling."""
    return torch.stack([ends.data, ends.noise], 1)
