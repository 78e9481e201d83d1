"""Memory that is free, and that the process still holds."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back_memory", "map_large_blocks"]

_M_MMAP_THRESHOLD = -3  # <malloc.h>
_LARGE = 4 << 20  # bytes: a weight of a few million elements, rather than the activations of one image


def give_back_memory() -> None:
    """Have the C library give what has been freed back to the operating system; nothing where it is not glibc.

    glibc keeps freed blocks of up to 32 MB for the next request, https://man7.org/linux/man-pages/man3/mallopt.3.html
    under M_MMAP_THRESHOLD; `malloc_trim` returns them.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def map_large_blocks() -> None:
    """Have glibc map blocks of 4 MiB and more by themselves from now on, so that they are given back when freed.

    It starts so, and then lets the threshold grow to the largest block freed so far, up to 32 MB: a network's weights,
    freed by one session, then keep holes open that the next session's do not fit.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGE)
