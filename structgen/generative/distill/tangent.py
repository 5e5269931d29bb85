"""The derivative of a network along a direction of its arguments, forward and without gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from structgen.generative.denoiser import Denoiser
from structgen.generative.path import Time, X

Square: TypeAlias = Callable[[X, Any], Tensor]
"""(difference [b, *event], cond) -> its mean square [b], over what the condition does not mask."""


def mean_square(difference: X, cond: Any) -> Tensor:
    """Over the whole event."""
    return difference.square().flatten(1).mean(1)


def raw_output(denoiser: Denoiser[Any], x: X, t: Time, s: Time, cond: Any) -> X:
    """What the network says before it is read, in the precision of x."""
    return _through(denoiser, denoiser.network, x, t, s, cond)


def raw_along(denoiser: Denoiser[Any], primals: tuple[X, Time, Time], tangents: tuple[X, Time, Time], cond: Any) -> tuple[X, X]:
    """The network's output at (x, t, s), and its derivative along `tangents`, both detached.

    One forward-mode pass (torch.func.jvp), over weights that take no gradient, so that nothing is stored for a backward pass. Attention
    runs in its plain form, the only one with a forward-mode derivative. A layer without one (an autograd.Function with no `jvp`) raises
    torch's own error and is never left out. The times are copied: jvp refuses tensors that were expanded.
    """
    network = _without_gradient(denoiser.network)

    def output(x: X, t: Time, s: Time) -> X:
        return _through(denoiser, network, x, t, s, cond)

    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # enabled: kernels for inference alone have no derivative at all
        value, rate = jvp(output, tuple(v.detach().clone() for v in primals), tuple(v.detach().clone() for v in tangents))[:2]
    return value.detach(), rate.detach()


def _through(denoiser: Denoiser[Any], network: Callable[..., X], x: X, t: Time, s: Time, cond: Any) -> X:
    x_in, times = denoiser.reading.inputs(denoiser.path, x, t, s)
    return network(x_in, times, cond).to(x.dtype)


def _without_gradient(network: Any) -> Callable[..., X]:
    if not isinstance(network, nn.Module):
        return network
    weights = {name: value.detach() for name, value in network.named_parameters()}
    return lambda *arguments: functional_call(network, weights, arguments)
