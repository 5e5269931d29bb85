"""Muon: steps of matrices are their gradients' average with all singular values made (about) equal.

After Jordan et al. 2024 (Muon), with the size of steps of Liu et al. 2025 (arXiv:2502.16982, equation 4), so that Adam's learning rates
serve. Matrices of one shape are worked on together: torch.optim.Muon, which it equals, makes each by itself, 15 products for every matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic whose iterates take singular values in (0, 1] to about 0.7 ... 1.2
ITERATIONS = 5
NARROWEST = 16  # matrices with fewer rows or columns are moved by Adam: heads' biases, coordinates
SIZE = 0.2  # root mean square of a step's entries, for a learning rate of 1: what Adam's steps have


def orthogonalised(x: Tensor) -> Tensor:
    """x [k, rows, columns] with singular values near 1 and its singular vectors: Newton-Schulz iterations of X (a + b X X^T + c (X X^T)^2).

    In bfloat16 on a GPU, in float32 elsewhere.
    """
    a, b, c = COEFFICIENTS
    wide = x.shape[1] > x.shape[2]
    y = (x.mT if wide else x).to(torch.bfloat16 if x.is_cuda else torch.promote_types(x.dtype, torch.float32))
    y = y / y.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return (y.mT if wide else y).to(x.dtype)


def matrices(parameters: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Those that Muon moves, and the rest."""
    chosen: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in parameters:
        chosen[parameter.ndim != 2 or min(parameter.shape) < NARROWEST].append(parameter)
    return chosen


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum for matrices, Adam for everything else. One learning rate for both.

    State: the average gradient `exp_avg` of every weight, and Adam's `exp_avg_sq` and `step` of those that it moves.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, betas: tuple[float, float], eps: float) -> None:
        muon, adam = matrices(parameters)
        groups = [{"params": muon, "matrices": True}, {"params": adam, "matrices": False}]
        super().__init__([group for group in groups if group["params"]], {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in moved:
                if not self.state[parameter]:
                    self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
                    if not group["matrices"]:
                        self.state[parameter] |= {"exp_avg_sq": torch.zeros_like(parameter), "step": torch.tensor(0.0)}
            if moved:
                (self._muon if group["matrices"] else self._adam)(moved, group)

    def _muon(self, moved: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        gradients, averages = _gradients(moved), [self.state[parameter]["exp_avg"] for parameter in moved]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
        shapes: dict[torch.Size, list[int]] = {}
        for i, parameter in enumerate(moved):
            shapes.setdefault(parameter.shape, []).append(i)
        for shape, members in shapes.items():
            steps = orthogonalised(torch.stack([ahead[i] for i in members])).unbind()
            torch._foreach_add_([moved[i] for i in members], steps, alpha=-group["lr"] * SIZE * max(shape) ** 0.5)

    def _adam(self, moved: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        (b1, b2), gradients = group["betas"], _gradients(moved)
        averages, squares = ([self.state[parameter][name] for parameter in moved] for name in ("exp_avg", "exp_avg_sq"))
        for parameter in moved:
            self.state[parameter]["step"] += 1
        steps = [self.state[parameter]["step"].item() for parameter in moved]
        torch._foreach_lerp_(averages, gradients, 1 - b1)
        torch._foreach_mul_(squares, b2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - b2)
        sizes = torch._foreach_sqrt(squares)
        torch._foreach_div_(sizes, [(1 - b2**step) ** 0.5 for step in steps])
        torch._foreach_add_(sizes, group["eps"])
        torch._foreach_addcdiv_(list(moved), averages, sizes, [-group["lr"] / (1 - b1**step) for step in steps])


def _gradients(moved: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in moved if parameter.grad is not None]
