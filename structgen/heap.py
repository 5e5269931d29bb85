"""The C library's heap: memory that was freed goes back to the system at known moments, so that a fold's peak follows from its sizes."""

from __future__ import annotations

import ctypes

LARGE = 16 << 20  # bytes

_LIBC = ctypes.CDLL(None)
_MMAP_THRESHOLD = -3  # mallopt's name for it (malloc.h)


def return_large() -> None:
    """From now on blocks of `LARGE` bytes and more are taken from the system one by one and go back when they are freed (glibc).

    Else malloc moves that limit with what was freed last, up to 32 MiB: tensors just below it leave holes in the heap that tensors
    just above it do not, and a longer job may take less memory than a shorter one.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_MMAP_THRESHOLD, LARGE)


def trim() -> None:
    """Give freed memory back to the system, where the C library can (glibc). A few milliseconds.

    malloc keeps what was freed for later, so that a process which has done one large thing after another holds the sum of their holes:
    a fold's peak would depend on how its phases happened to leave the heap.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
