"""SI Algorithms 18 and 19 as values: the times, the solver and the `before_step` with which the generative core's `sample` is called."""

from __future__ import annotations

from dataclasses import dataclass

from structgen.alphafold3.config import Sampling
from structgen.features.conformers import rotations
from structgen.generative import Churn, Euler, Path, Rng, VarianceExploding, normal_like
from structgen.generative.times import at_noise_levels, karras
from structgen.typing import Bool, Float, Tensor

EXPLODING = VarianceExploding()


def sampling_schedule(sampling: Sampling, sigma_data: float, path: Path = EXPLODING) -> tuple[Float[Tensor, " steps_plus_1"], Churn]:
    """SI Algorithm 18: its times (float64) and its step. With `last_sigma` zero the last step ends on data.

    The SI's noise levels are times in angstrom on its own path. On another one they are the times of the same levels, and the first is the
    path's end, which is noise alone.
    """
    times = karras(sampling.steps, sampling.sigma_max * sigma_data, sampling.sigma_min * sigma_data, sampling.rho)
    if sampling.last_sigma == "zero":
        times[-1] = 0.0
    if path != EXPLODING:
        times = at_noise_levels(path, times)
        times[0] = path.end
    step = Churn(Euler(sampling.step_scale), gamma=sampling.gamma_0, above=sampling.gamma_min, noise_scale=sampling.noise_scale)
    return times, step


def first_state(path: Path, times: Float[Tensor, " steps_plus_1"], noise: Float[Tensor, "samples l 3"]) -> Float[Tensor, "samples l 3"]:
    """Where sampling starts, from standard normal noise."""
    return float(path.alpha_sigma(times[:1])[1]) * noise


@dataclass(frozen=True, eq=False)
class CentreRandomAugmentation:
    """SI Algorithm 19, as a `before_step`. The centre of every sample's atoms goes to a random place, and the sample turns about it.

    `atom_mask` is that of b examples and x has one or more samples of each, ordered by example. Atoms that do not exist are put at 0.
    """

    atom_mask: Bool[Tensor, "b l"]
    s_trans: float = 1.0  # angstrom

    def __call__(self, x: Float[Tensor, "samples l 3"], rng: Rng) -> Float[Tensor, "samples l 3"]:
        draws = normal_like(x.new_empty(len(x), 7), rng)
        mask = self.atom_mask.repeat_interleave(len(x) // len(self.atom_mask), dim=0)[..., None].to(x.dtype)
        centre = (x * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        turned = (x - centre) @ rotations(draws[:, :4]).transpose(-1, -2)
        return (turned + self.s_trans * draws[:, None, 4:]) * mask


def random_rotations(x: Float[Tensor, "b ..."], rng: Rng) -> Float[Tensor, "b 3 3"]:
    """A uniformly distributed proper rotation for each of the b examples of x, in its type and on its device."""
    return rotations(normal_like(x.new_empty(len(x), 4), rng))
