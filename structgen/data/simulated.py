"""Templates made of the native structure itself: bent, noised, shifted along the alignment, with gaps and another sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from structgen.data.backbones import TemplateRows, nothing, rows_of_backbone
from structgen.features import chemistry

_COMMON = 20  # classes that a mutation draws from


@dataclass(frozen=True)
class Simulation:
    """How far a simulated template may be from the native. Of each range a value is drawn uniformly for every template."""

    bend: tuple[float, float] = (0.0, 3.0)  # angstrom: root mean square of a displacement that changes slowly along the chain
    bend_length: tuple[int, int] = (8, 40)  # residues over which it changes
    noise: tuple[float, float] = (0.0, 0.5)  # angstrom, of every residue for itself
    identity: tuple[float, float] = (0.25, 0.95)
    gaps: tuple[float, float] = (0.0, 0.3)  # share of the residues that is missing
    gap_length: int = 12  # residues, the mean of a geometric distribution
    shifted: float = 0.2  # share of the stretches between gaps that lie one to three residues beside their place


def simulate(native: TemplateRows, settings: Simulation, rng: np.random.Generator) -> TemplateRows:
    """One template of the native rows [n]."""
    n = len(native.restype)
    moved = native.frame + _displacement(n, settings, rng)[:, None].astype(np.float32)
    rows = rows_of_backbone(native.restype, moved, native.frame_mask)
    mutated = rng.random(n) > rng.uniform(*settings.identity)
    restype = np.where(mutated & (native.restype < chemistry.GAP), rng.integers(0, _COMMON, n), native.restype).astype(np.uint8)
    lost = _gaps(n, float(rng.uniform(*settings.gaps)), settings.gap_length, rng)
    return _shift(replace(rows, restype=restype), lost, settings.shifted, rng).without(lost)


def _displacement(n: int, settings: Simulation, rng: np.random.Generator) -> np.ndarray:
    """[n, 3] angstrom: independent normals smoothed along the chain and scaled, and independent ones."""
    length = int(rng.integers(settings.bend_length[0], settings.bend_length[1] + 1))
    window = np.exp(-0.5 * (np.arange(-3 * length, 3 * length + 1) / length) ** 2)
    white = rng.normal(size=(n + 6 * length, 3))
    slow = np.stack([np.convolve(column, window, "valid") for column in white.T], 1) / np.sqrt((window**2).sum())
    return slow * rng.uniform(*settings.bend) / np.sqrt(3) + rng.normal(size=(n, 3)) * rng.uniform(*settings.noise) / np.sqrt(3)


def _gaps(n: int, share: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """[n] bool: stretches that together are about that share."""
    lost = np.zeros(n, bool)
    while lost.mean() < share:
        start = int(rng.integers(n))
        lost[start : start + int(rng.geometric(1 / length))] = True
    return lost


def _shift(rows: TemplateRows, lost: np.ndarray, share: float, rng: np.random.Generator) -> TemplateRows:
    """Some of the stretches between gaps moved along the alignment; what they leave behind is empty."""
    n = len(lost)
    source = np.arange(n)
    for stretch in np.split(np.arange(n), np.flatnonzero(np.diff(lost.astype(np.int8))) + 1):
        if not lost[stretch[0]] and rng.random() < share:
            source[stretch] += int(rng.choice([-3, -2, -1, 1, 2, 3]))
            source[stretch] = np.where(np.isin(source[stretch], stretch), source[stretch], -1)
    kept = np.flatnonzero(source >= 0)
    return rows.at(source[kept], n, kept) if len(kept) else nothing(n)
