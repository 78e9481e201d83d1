"""Memory that is free, and that the process still holds."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Have the C library give what has been freed back to the operating system; nothing where it is not glibc.

    glibc keeps freed blocks of up to 32 MB for the next request, https://man7.org/linux/man-pages/man3/mallopt.3.html
    under M_MMAP_THRESHOLD; `malloc_trim` returns them.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
