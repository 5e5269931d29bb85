"""Polynomials through given values, and the integrals of their basis: where the coefficients of multistep methods come from."""

from __future__ import annotations

import torch
from torch import Tensor

POINTS = 24  # exact to rounding for a polynomial times an exponential, over steps in log-SNR of any practical length


def gauss_legendre(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Points and weights, both [n, q], of the integrals from low to high, both [n] (Golub & Welsch 1969)."""
    k = torch.arange(1, POINTS, dtype=low.dtype)
    beside = k / (4 * k**2 - 1).sqrt()
    roots, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    half = (high - low)[:, None] / 2
    return low[:, None] + half * (1 + roots), half * 2 * vectors[0] ** 2


def basis(nodes: Tensor, at: Tensor) -> Tensor:
    """Lagrange's polynomials [n, k, q] of nodes [n, k] at points [n, q]: 1 at their own node, 0 at the others, their sum 1 everywhere."""
    columns = []
    for j in range(nodes.shape[1]):
        others = torch.cat([nodes[:, :j], nodes[:, j + 1 :]], 1)[:, :, None]
        columns.append(((at[:, None, :] - others) / (nodes[:, j, None, None] - others)).prod(1))
    return torch.stack(columns, 1)


def vanishing(nodes: Tensor, one: Tensor, at: Tensor) -> Tensor:
    """The polynomial [n, q] that is 0 at nodes [n, k] and 1 at `one` [n], at points [n, q]."""
    return ((at[:, None, :] - nodes[:, :, None]) / (one[:, None, None] - nodes[:, :, None])).prod(1)
