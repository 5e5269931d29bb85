"""Given pictures in the sampler: starting from one (SDEdit), keeping a part of one, going back to its noise, and between two."""

from __future__ import annotations

import torch
from torch import Tensor

from structgen.errors import ConfigError
from structgen.generative import Denoise, Endpoints, Path, Rng, X, normal_like, projected, sample, slerp
from structgen.vision.formulations import Formulation


def start_from(formulation: Formulation, data: X, strength: float, rng: Rng) -> X:
    """The state of data at the share `strength` of the noise's way: 0 is the data, 1 is noise (Meng et al. 2022, SDEdit)."""
    noise = normal_like(data, rng)
    return formulation.path.state(Endpoints(data, noise), data.new_full((len(data),), start_time(formulation, strength)))


def start_time(formulation: Formulation, strength: float) -> float:
    """Where the sampler starts. Raises `ConfigError` outside 0 ... 1."""
    if not 0 <= strength <= 1:
        raise ConfigError(f"the strength of a change lies between 0, none, and 1, a new picture; found {strength}")
    return strength * formulation.start


def keeping(path: Path, denoise: Denoise, known: X, mask: Tensor) -> Denoise:
    """The prediction of data is `known` where `mask` [b, 1 or c, *size] is 1: inpainting."""
    return projected(path, denoise, lambda data: torch.lerp(data, known, mask))


def inverted(formulation: Formulation, denoise: Denoise, data: X, steps: int, rng: Rng) -> X:
    """The noise from which the same number of steps leads back to about this data: the flow, run upwards (Dhariwal & Nichol 2021, appendix
    F). Its error falls with the steps as the solver's order says."""
    grid = formulation.grid(steps).flip(0)
    first = float(grid[1]) / 100 if formulation.stop == 0 else formulation.stop
    grid = torch.cat([grid.new_tensor([min(first, float(grid[1]) / 2)]), grid[1:]])
    return sample(formulation.path, denoise, formulation.solver(), grid, data, rng)


def between(first: X, second: X, shares: Tensor) -> X:
    """Noises or embeddings [n, *event] on the arc from one to another [*event]; the ends are they themselves, bit for bit."""
    count = len(shares)
    one, other = (v[None].expand(count, *v.shape) for v in (first, second))
    return slerp(one, other, shares.to(first))
