"""The divergence of a vector field, exactly or by random probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from structgen.generative.noise import Rng, normal_like
from structgen.generative.path import X

Field: TypeAlias = Callable[[X], X]
"""[b, *event] -> [b, *event], each example by itself."""
Divergence: TypeAlias = Callable[[Field, X], tuple[X, Tensor]]
"""(field, x) -> field(x) and its divergence [b]; differentiable in the field's parameters if gradients are on."""


def exact(field: Field, x: X) -> tuple[X, Tensor]:
    """The trace of the Jacobian: one backward pass for each entry of an event."""

    def trace(value: X, x: X, keep: bool) -> Tensor:
        flat = value.flatten(1)
        columns = [_backward(flat[:, i].sum(), x, keep).flatten(1)[:, i] for i in range(flat.shape[1])]
        return torch.stack(columns).sum(0)

    return _differentiated(field, x, trace)


@dataclass(frozen=True, eq=False)
class Probed:
    """v^T J v for probes v [k, b, *event], averaged over k: unbiased if E v v^T = 1 (Skilling 1989; Hutchinson 1990).

    One backward pass a probe, whatever the size of the event. The probes are values, so one integration sees one field.
    """

    probes: Tensor

    def __call__(self, field: Field, x: X) -> tuple[X, Tensor]:
        def trace(value: X, x: X, keep: bool) -> Tensor:
            return torch.stack([(_backward((value * v).sum(), x, keep) * v).flatten(1).sum(1) for v in self.probes]).mean(0)

        return _differentiated(field, x, trace)


def normal_probes(x: X, count: int, rng: Rng) -> Probed:
    """Variance 2 |A|^2, A the symmetric part of the Jacobian."""
    return Probed(torch.stack([normal_like(x, rng) for _ in range(count)]))


def sign_probes(x: X, count: int, rng: Rng) -> Probed:
    """Entries of +-1: the variance is less by 2 sum A_ii^2."""
    return Probed(torch.stack([torch.where(normal_like(x, rng) < 0, -1.0, 1.0).to(x) for _ in range(count)]))


def _differentiated(field: Field, x: X, trace: Callable[[X, X, bool], Tensor]) -> tuple[X, Tensor]:
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if keep and x.requires_grad else x.detach().requires_grad_()
        value = field(x)
        divergence = trace(value, x, keep)
    return (value, divergence) if keep else (value.detach(), divergence.detach())


def _backward(scalar: Tensor, x: X, keep: bool) -> X:
    if not scalar.requires_grad:
        return torch.zeros_like(x)  # a field that does not depend on x
    (gradient,) = torch.autograd.grad(scalar, x, create_graph=keep, retain_graph=True, materialize_grads=True)
    return gradient
