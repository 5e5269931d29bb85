"""An exponential moving average of a network's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

Weights: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Ema:
    """average <- decay average + (1 - decay) weights.

    In the first updates the decay is (1 + updates) / (ramp + updates), if that is less: without it the random start would weigh
    decay^updates. ramp = 1 switches this off.
    """

    decay: float
    ramp: float = 10.0

    def start(self, network: nn.Module) -> Weights:
        """A copy of the network's state, which loads with `load_state_dict`."""
        return {name: value.detach().clone() for name, value in network.state_dict().items()}

    def decay_at(self, updates: int) -> float:
        """The decay of the update that follows `updates` others."""
        return min(self.decay, (1 + updates) / (self.ramp + updates))

    @torch.no_grad()
    def update(self, average: Weights, network: nn.Module, updates: int) -> None:
        """Move `average` towards the network, in place: a second copy of all weights at every step would cost more than the step of a small
        network. Tensors that are not floating point (counters) are copied."""
        state = network.state_dict()
        moving = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([average[name] for name in moving], [state[name] for name in moving], 1 - self.decay_at(updates))
        for name in state.keys() - set(moving):
            average[name].copy_(state[name])
