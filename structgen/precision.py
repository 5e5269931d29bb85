"""In which floating-point type the trunk and the diffusion module are held."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # dot products of bfloat16 in hardware; without them bfloat16 is emulated, and slower


def native_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> Precision:
    """bfloat16 where the processor multiplies it, else float32; float32 too where the system does not say."""
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return "float32"
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return "bfloat16" if BFLOAT16_FLAGS & set(flags) else "float32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Matrix products in `precision` inside the block, whatever the type of the weights: how a network is trained in bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def in_autocast(x: torch.Tensor) -> torch.Tensor:
    """x in the type of autocast's matrix products, or as it is outside of autocast."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
