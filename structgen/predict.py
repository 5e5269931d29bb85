"""A job's features to ranked structures: SI Algorithm 1 on one screen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

from structgen.alphafold3.config import Sampling
from structgen.alphafold3.drawing import draw_atoms
from structgen.alphafold3.holding import NOTHING_FORCED, Forced
from structgen.alphafold3.model import Model
from structgen.alphafold3.ranking import predictions
from structgen.errors import NumericalError
from structgen.features.batch import Batch
from structgen.features.conformers import pose_conformers
from structgen.features.tokens import Tokens
from structgen.generative import generators
from structgen.heap import return_large, trim
from structgen.prediction import Prediction

STAGE_VERSION = 3  # raise when the same weights and features would give other numbers


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for every use of a seed, so that one use never shifts the random numbers of another."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@torch.inference_mode()
def fold(
    tokens: Tokens,
    batch: Batch,
    model: Model,
    sampling: Sampling,
    seed: int,
    *,
    at_once: int = 0,
    forced: Forced = NOTHING_FORCED,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """The samples of one seed, in the order they were drawn. The same seed gives the same bytes.

    `batch` holds one job (b = 1), unposed reference conformers. `at_once` samples are denoised together, 0: all of them; fewer take less
    memory, and differ in the last digits as sums in another order do. `forced` templates are kept to. Raises `NumericalError` when
    coordinates are not finite.
    """
    return_large()
    network = model.network
    batch = pose_conformers(batch, generator(seed, "conformers"))
    trunk = network.trunk(batch, cycles=sampling.cycles, rng=generator(seed, "msa"))
    trim()
    condition = network.diffusion.condition(batch, trunk)
    trim()
    step = min(at_once or sampling.samples, sampling.samples)
    parts = []
    for first in range(0, sampling.samples, step):
        draws = generators(seed, min(step, sampling.samples - first), first)
        counted = _counted(on_step, first // step, -(-sampling.samples // step))
        try:
            parts.append(draw_atoms(network, batch, condition, sampling, len(draws), draws, forced=forced, on_step=counted))
        except NumericalError as error:
            raise NumericalError(f"seed {seed}: {error}") from error
    del condition
    trim()
    return predictions(tokens, batch, network, trunk, torch.cat(parts), seed, sampling.ranked_by)


def _counted(on_step: Callable[[int, int], None] | None, part: int, parts: int) -> Callable[[int, int], None] | None:
    """Steps of one part of the samples as steps of all parts."""
    if on_step is None:
        return None
    report = on_step
    return lambda done, steps: report(part * steps + done, parts * steps)
