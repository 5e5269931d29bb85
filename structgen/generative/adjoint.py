"""Gradients through a solver that keep its states and none of the network's activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from structgen.errors import ConfigError
from structgen.generative.denoiser import Denoise
from structgen.generative.noise import Rng
from structgen.generative.path import Path, X
from structgen.generative.sample import Solver, sample


@dataclass(frozen=True, eq=False)
class Recomputed:
    """`sample` with an adjoint: forward keeps one state for every `stretch` steps, backward runs each stretch again and carries
    a = d loss / d x_t through it (Chen et al. 2018, eq. 4, for the discrete flow).

    The gradient is that of backpropagation through all steps, to rounding; the adjoint ODE solved backwards would differ by the solver's
    error. Memory: `stretch` steps of activations and steps / stretch states; the square root of the steps makes the sum least. Gradients go
    to x and to `parameters`, those that `denoise` depends on. Once differentiable. A solver with memory starts anew in each stretch. Raises
    `ConfigError` if the solver draws noise: a second run would draw another.
    """

    parameters: Sequence[Tensor]
    stretch: int = 1

    def __call__(self, path: Path, denoise: Denoise, solver: Solver[Any, Any], times: Tensor, x: X, rng: Rng) -> X:
        last = len(times) - 1
        cuts = [times[i : min(i + self.stretch, last) + 1] for i in range(0, last, self.stretch)]

        def piece(i: int, x: X) -> X:
            return sample(path, denoise, solver, cuts[i], x, rng)

        before = _state(rng)
        end = _Adjoint.apply(piece, len(cuts), x, *(p for p in self.parameters if p.requires_grad))  # type: ignore[no-untyped-call]
        if any(not torch.equal(a, b) for a, b in zip(before, _state(rng), strict=True)):
            raise ConfigError(f"{solver} draws noise, which a second run would draw anew: take a solver of the probability flow")
        return end  # type: ignore[no-any-return]


def _state(rng: Rng) -> list[Tensor]:
    return [one.get_state() for one in ([rng] if isinstance(rng, Generator) else rng)]


class _Adjoint(torch.autograd.Function):
    """x through pieces 0, ..., count - 1, of which only the states between them are kept."""

    @staticmethod
    def forward(ctx: Any, piece: Callable[[int, X], X], count: int, x: X, *parameters: Tensor) -> X:
        states = [x]
        for i in range(count):
            states.append(piece(i, states[-1]))
        ctx.save_for_backward(*states[:-1])
        ctx.piece, ctx.parameters = piece, parameters
        return states[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [torch.zeros_like(p) for p in ctx.parameters]
        for i, state in reversed(list(enumerate(ctx.saved_tensors))):
            x = state.detach().requires_grad_()
            with torch.enable_grad():
                end = ctx.piece(i, x)
            adjoint, *shares = torch.autograd.grad(end, (x, *ctx.parameters), adjoint, materialize_grads=True)
            gradients = [a + b for a, b in zip(gradients, shares, strict=True)]
        return None, None, adjoint, *gradients
