"""The moving average of weights."""

from __future__ import annotations

import torch

from structgen.generative import Ema
from tests.tolerance import FLOAT64_IDENTITY, assert_close


class Net(torch.nn.Module):
    """A weight, a buffer that counts and one that never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("frequencies", torch.tensor([0.1, 0.7], dtype=torch.float64))


def averaged(ema: Ema, values: list[float]) -> tuple[dict, Net]:
    net = Net()
    average = ema.start(net)
    for updates, value in enumerate(values):
        with torch.no_grad():
            net.weight.fill_(value)
            net.seen.add_(1)
        ema.update(average, net, updates)
    return average, net


def test_it_is_the_geometric_sum():
    """decay^n start + (1 - decay) sum of decay^(n - 1 - i) weights_i."""
    values = [1.0, -2.0, 0.5, 4.0, 3.0]
    average, _ = averaged(Ema(decay=0.9, ramp=1), values)
    expected = sum(0.1 * 0.9 ** (len(values) - 1 - i) * v for i, v in enumerate(values))
    assert_close(average["weight"], torch.full((3,), expected, dtype=torch.float64), FLOAT64_IDENTITY)


def test_the_ramp_averages_evenly_at_first():
    """While the decay is (1 + n) / (ramp + n) the start is forgotten: with ramp 2 the average of n weights and the start is their mean."""
    values = [1.0, -2.0, 0.5, 4.0]
    average, _ = averaged(Ema(decay=0.999, ramp=2), values)
    assert_close(average["weight"], torch.full((3,), sum(values) / 5, dtype=torch.float64), FLOAT64_IDENTITY)
    assert Ema(decay=0.999, ramp=10).decay_at(0) == 0.1 and Ema(decay=0.999, ramp=10).decay_at(10**6) == 0.999


def test_the_average_is_a_state_of_its_own():
    """It loads into a network, shares no memory with the one it follows, copies counters and keeps constants."""
    average, net = averaged(Ema(decay=0.9), [1.0, 2.0])
    with torch.no_grad():
        net.weight.fill_(100.0)
    other = Net()
    other.load_state_dict(average)
    assert other.weight.max() < 2 and other.seen == 2
    assert torch.equal(other.frequencies, net.frequencies)


def test_updates_leave_no_graph():
    """Nothing in the average requires a gradient, and the network's gradients are untouched."""
    average, net = averaged(Ema(decay=0.9), [1.0])
    assert not any(value.requires_grad for value in average.values()) and net.weight.grad is None
