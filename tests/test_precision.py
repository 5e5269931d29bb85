"""bfloat16 is chosen only where the processor multiplies it."""

from __future__ import annotations

import pytest

from structgen.precision import native_precision


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
