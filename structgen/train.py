"""One optimisation step, whatever is trained: no loop, no files, no cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import torch
from torch import nn

from structgen.errors import NumericalError
from structgen.generative import Ema, Rng
from structgen.generative.ema import Weights
from structgen.muon import Muon

Example = TypeVar("Example")
Metrics = dict[str, float]
Loss = Callable[[Example, torch.Generator], tuple[torch.Tensor, Metrics]]  # scalar to minimise, and its named parts
Average = Callable[[Sequence[torch.Tensor]], None]  # replaces every tensor by its mean over the processes that train together


def alone(tensors: Sequence[torch.Tensor]) -> None:
    """The `Average` of a process that trains by itself."""


@dataclass(frozen=True)
class Optimisation:
    """Adam or Muon with warm-up and decay, clipping and averaging (SI 5.4; AF3_ALGORITHMS 6.5)."""

    method: Literal["adam", "muon"] = "adam"
    learning_rate: float = 1.8e-3
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95  # of Muon
    eps: float = 1e-8
    warmup_steps: int = 1000
    decay: float = 0.95
    decay_steps: int = 50_000
    falls_from: int = 0  # step from which the rate falls on a line instead, to 0 at `falls_to`
    falls_to: int = 0  # 0: it does not
    clip_norm: float = 10.0
    ema: Ema = field(default_factory=lambda: Ema(0.999))

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ...: linear from 0, then a factor `decay` for every `decay_steps`, or the line of `falls_to`."""
        top = self.learning_rate * min(1.0, (step + 1) / self.warmup_steps)
        if self.falls_to:
            return top * min(1.0, max(0.0, (self.falls_to - step) / (self.falls_to - self.falls_from)))
        return top * self.decay ** (max(0, step - self.warmup_steps) / self.decay_steps)

    def start(self, trained: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of these weights before the first step."""
        if self.method == "muon":
            return Muon(trained, lr=self.rate(0), momentum=self.momentum, betas=self.betas, eps=self.eps)
        own = {"fused": True} if all(parameter.is_cuda for parameter in trained) else {"foreach": True}
        return torch.optim.Adam(trained, lr=self.rate(0), betas=self.betas, eps=self.eps, **own)


@dataclass(frozen=True)
class TrainState:
    """What a checkpoint must hold to go on exactly: weights, optimiser, average, and how many steps were made.

    The tensors are updated in place by `train_step`; only `step` is a new value.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: Weights
    step: int = 0

    @classmethod
    def start(cls, network: nn.Module, optimisation: Optimisation) -> TrainState:
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return cls(network, optimisation.start(trained), optimisation.ema.start(network))


def train_step(
    state: TrainState,
    examples: Sequence[Example],
    loss: Loss,
    optimisation: Optimisation,
    rng: Rng,
    *,
    average: Average = alone,
) -> tuple[TrainState, Metrics]:
    """One update from the mean gradient of the examples (gradient accumulation over the sequence), and over the processes of `average`.

    `rng` is one generator for all examples, or a list with one each. Raises `NumericalError`, before any weight is touched, when the loss
    or the gradient is not finite.
    """
    state.optimiser.zero_grad(set_to_none=True)
    metrics: Metrics = {}
    for example, own in zip(examples, rng if isinstance(rng, list) else [rng] * len(examples), strict=True):
        value, parts = loss(example, own)
        if not torch.isfinite(value):
            raise NumericalError(f"step {state.step}: the loss is {value.item()} (parts: {parts})")
        (value / len(examples)).backward()
        for name, part in {"loss": value.item(), **parts}.items():
            metrics[name] = metrics.get(name, 0.0) + part / len(examples)
    trained = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    metrics = _averaged(trained, metrics, average)
    norm = torch.nn.utils.clip_grad_norm_(trained, optimisation.clip_norm)
    if not torch.isfinite(norm):
        raise NumericalError(f"step {state.step}: the gradient's norm is {norm.item()}")
    for group in state.optimiser.param_groups:
        group["lr"] = optimisation.rate(state.step)
    state.optimiser.step()
    optimisation.ema.update(state.average, state.network, state.step)
    metrics["gradient_norm"] = norm.item()
    return replace(state, step=state.step + 1), metrics


def _averaged(trained: Sequence[nn.Parameter], metrics: Metrics, average: Average) -> Metrics:
    """Gradients and metrics as means over the processes; a weight that got no gradient here may have one elsewhere, and counts as 0."""
    if average is alone:
        return metrics
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    figures = torch.tensor(list(metrics.values()), dtype=torch.float64, device="cpu")
    on_device = figures.to(trained[0].device)
    average([*(parameter.grad for parameter in trained if parameter.grad is not None), on_device])
    return dict(zip(metrics, on_device.tolist(), strict=True))
