"""What goes into the page comes out of it: texts exactly, errors of alignment to half a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structgen.report.packing import PAE_STEP, PAE_UNDEFINED, by_columns, by_rows, line_blocks, pack, quantise_pae, restore_pae, unpack


@settings(deadline=None, max_examples=80)
@given(st.lists(st.text(alphabet="ab é\t", max_size=4), max_size=12).map("\n".join))
def test_columns_are_lossless(text: str):
    """Any text, of lines of any length, with or without a last newline, comes back."""
    assert by_rows(by_columns(text), line_blocks(text)) == text


def test_columns_are_columns():
    """Three lines of one length are stored letter by letter of their places."""
    assert by_columns("ab\ncd\nef\n") == b"acebdf\n\n\n"
    assert line_blocks("ab\ncd\nlonger\n") == [(3, 2), (7, 1)]


def test_pae_is_kept_to_half_a_step():
    """0 to 31.75 angstrom within a sixteenth, more as the largest, NaN as NaN."""
    pae = np.random.default_rng(0).uniform(0, 31.75, (37, 37))
    pae[3, 5], pae[6, 7], pae[0, 0] = np.nan, 40.0, 0.0
    back = restore_pae(quantise_pae(pae))
    inside = np.isfinite(pae) & (pae < 32)
    assert np.abs(back - pae)[inside].max() <= PAE_STEP / 2
    assert np.isnan(back[3, 5]) and back[6, 7] == (PAE_UNDEFINED - 1) * PAE_STEP and back[0, 0] == 0
    assert np.isnan(back).sum() == 1


@pytest.mark.parametrize("size", [0, 1, 2])
def test_small_pae(size: int):
    """No token, one, two."""
    assert restore_pae(quantise_pae(np.full((size, size), 1.5))).tolist() == np.full((size, size), 1.5).tolist()


def test_packed_values_come_back_and_bytes_are_equal():
    """Facts and arrays round trip; what JSON has no number for is null; equal values, equal bytes."""
    arrays = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "b": np.array([1, -2], np.int32)}
    facts = {"text": "</script>é\ud800", "bad": float("nan"), "list": [float("inf"), 1.5]}
    content = pack(facts, arrays)
    back, values = unpack(content)
    assert back == {"text": "</script>é\ud800", "bad": None, "list": [None, 1.5]}
    assert all(np.array_equal(values[name], array) and values[name].dtype == array.dtype for name, array in arrays.items())
    assert content == pack(facts, arrays)
