"""Samples of a structure: SI Algorithm 18 with its network, and what is done to samples on the way and at the end (`Sampling`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from structgen.alphafold3.config import Sampling
from structgen.alphafold3.handedness import right_handed
from structgen.alphafold3.holding import NOTHING_FORCED, Forced, holds_of
from structgen.alphafold3.model import AlphaFold3
from structgen.alphafold3.relaxation import relaxed
from structgen.alphafold3.sampling import CentreRandomAugmentation, first_state, sampling_schedule
from structgen.errors import NumericalError
from structgen.features.batch import Batch
from structgen.generative import Denoise, Rng, normal_like, projected, sample
from structgen.typing import Float, Tensor


def draw_atoms(
    network: AlphaFold3,
    batch: Batch,
    condition: Any,
    sampling: Sampling,
    samples: int,
    rng: Rng,
    *,
    forced: Forced = NOTHING_FORCED,
    on_step: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "samples l 3"]:
    """Samples of one job (b = 1) in angstrom, given what the network's `condition` made of the trunk.

    `rng` is one generator, or a list with one for every sample, which then comes out the same whatever others are there. Raises
    `NumericalError` when coordinates are not finite.
    """
    path = network.denoiser.path
    times, solver = sampling_schedule(sampling, network.config.diffusion.sigma_data, path)
    holds = holds_of(batch, sampling.held, forced) if sampling.held or forced else None
    denoise: Denoise = partial(network.denoiser, cond=condition)
    noise = normal_like(torch.zeros(samples, batch.atoms, 3, device=batch.atom_mask.device), rng)
    atoms = sample(
        path,
        denoise if holds is None else projected(path, denoise, holds),
        solver,
        times,
        first_state(path, times, noise),
        rng,
        before_step=CentreRandomAugmentation(batch.atom_mask),
        on_step=on_step,
    )
    if not torch.isfinite(atoms).all():
        raise NumericalError("coordinates are not finite; try float32 (--set precision=float32) or fewer cycles")
    if sampling.right_handed:
        atoms = right_handed(atoms, batch)
    if holds is not None:
        atoms = holds.settled(atoms)
    return relaxed(atoms, batch) if sampling.relaxed else atoms
