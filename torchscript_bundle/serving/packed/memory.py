"""Gives freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc


def release_memory() -> None:
    """Returns pages that nothing uses any more, such as those of dense weights.

    Once a large block was freed, glibc keeps blocks up to 32 MB on its heap (mallopt(3),
    M_MMAP_THRESHOLD), where freed weights would stay between packed ones.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        return  # another C library
