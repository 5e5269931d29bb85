"""Hyperparameters of the equivariant head, without defaults: those are the configuration's (`alphafold3.config.Equivariant`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Widths of token features by how they turn (not at all, as vectors, as l = 2), and how far a token looks."""

    layers: int
    scalars: int
    vectors: int
    tensors: int
    c_edge: int
    radial: int
    heads: int
    nearest: int
    window: int
    c_fourier: int
