"""A job's features to ranked structures: SI Algorithm 1 on one screen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import torch

from structgen.alphafold3.config import Sampling
from structgen.alphafold3.model import Model
from structgen.alphafold3.ranking import predictions
from structgen.alphafold3.sampling import CentreRandomAugmentation, sampling_schedule
from structgen.errors import NumericalError
from structgen.features.batch import Batch
from structgen.features.conformers import pose_conformers
from structgen.features.tokens import Tokens
from structgen.generative import generators, normal_like, sample
from structgen.prediction import Prediction

STAGE_VERSION = 1  # raise when the same weights and features would give other numbers


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for every use of a seed, so that one use never shifts the random numbers of another."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@torch.inference_mode()
def fold(
    tokens: Tokens, batch: Batch, model: Model, sampling: Sampling, seed: int, *, on_step: Callable[[int, int], None] | None = None
) -> list[Prediction]:
    """The samples of one seed, in the order they were drawn. The same seed gives the same bytes.

    `batch` holds one job (b = 1), unposed reference conformers. Raises `NumericalError` when coordinates are not finite.
    """
    network = model.network
    batch = pose_conformers(batch, generator(seed, "conformers"))
    trunk = network.trunk(batch, cycles=sampling.cycles, rng=generator(seed, "msa"))
    condition = network.diffusion.condition(batch, trunk)
    times, solver = sampling_schedule(sampling, model.config.diffusion.sigma_data)
    draws = generators(seed, sampling.samples)
    noise = normal_like(torch.zeros(sampling.samples, batch.atoms, 3), draws)
    atoms = sample(
        network.denoiser.path,
        partial(network.denoiser, cond=condition),
        solver,
        times,
        float(times[0]) * noise,
        draws,
        before_step=CentreRandomAugmentation(batch.atom_mask),
        on_step=on_step,
    )
    if not torch.isfinite(atoms).all():
        raise NumericalError(f"seed {seed}: coordinates are not finite; try float32 (--set precision=float32) or fewer cycles")
    return predictions(tokens, batch, network, trunk, atoms, seed)
