"""Blocks that a network repeats, compiled by torch: one compilation for all copies and every shape, and fewer passes over memory.

A class says which of its methods are worth it by naming them in `COMPILED`. They are whole graphs: nothing in them may wait for the device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SHAPES = 64  # compilations of one method: loaders give few shapes, but more than torch's own limit of 8


def compile_blocks(network: nn.Module, **options: Any) -> int:
    """Replace the `COMPILED` methods of all modules by compiled ones, in place; names of weights stay. Returns how many there are.

    `options` are `torch.compile`'s. A second call changes nothing.
    """
    torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)
    count = 0
    for module in network.modules():
        for name in getattr(type(module), "COMPILED", ()):
            if name not in vars(module):
                setattr(module, name, torch.compile(getattr(module, name), fullgraph=True, dynamic=False, **options))
            count += 1
    return count
