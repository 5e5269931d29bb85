"""bfloat16 is chosen only where the processor multiplies it."""

from __future__ import annotations

import pytest
import torch

from structgen.nn.norms import LayerNorm
from structgen.precision import autocast, in_autocast, native_precision
from tests.tolerance import BFLOAT16, assert_close


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", "bfloat16"),
        ("flags : fpu amx_bf16 amx_tile\n", "bfloat16"),
        ("flags : fpu avx512f avx512_bf16x\n", "float32"),
        ("Features : fp asimd bf16\n", "float32"),
        ("", "float32"),
    ],
)
def test_flags_of_the_processor_decide(tmp_path, text, expected):
    """The whole flag must be there, on the line of the flags."""
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert native_precision(path) == expected


def test_a_system_without_the_file_gets_float32(tmp_path):
    """No guess where nothing is known."""
    assert native_precision(tmp_path / "none") == "float32"


def test_norms_under_autocast_are_in_the_type_of_the_products(rng):
    """bfloat16 inside, as it was outside, and near the float32 norm; gradients reach the float32 weights."""
    norm, x = LayerNorm(24), torch.randn(5, 24, generator=rng)
    exact = norm(x)
    with autocast(x.device, "bfloat16"):
        rounded = norm(x)
        assert in_autocast(x).dtype == torch.bfloat16
    assert exact.dtype == in_autocast(x).dtype == torch.float32 and rounded.dtype == torch.bfloat16
    assert_close(rounded.float(), exact, BFLOAT16)
    rounded.sum().backward()
    assert norm.weight.grad.dtype == torch.float32 and norm.weight.grad.abs().sum() > 0
