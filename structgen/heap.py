"""The C library's heap: what was freed goes back to the system when asked for, and only then for sure."""

from __future__ import annotations

import ctypes

_LIBC = ctypes.CDLL(None)


def trim() -> None:
    """Give freed memory back to the system, where the C library can (glibc). A few milliseconds.

    malloc keeps what was freed for later, so that a process which has done one large thing after another holds the sum of their holes:
    a fold's peak would depend on how its phases happened to leave the heap.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
