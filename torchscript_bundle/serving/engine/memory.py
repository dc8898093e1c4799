"""Keeps a worker's memory to what its weights need."""

from __future__ import annotations

import ctypes
import gc
import os

#: What oneDNN, and torch's wrapper of it, keep of operators prepared for a shape. Both keep a
#: thousand by default: half a gigabyte for a BERT that has seen 200 shapes. To prepare one again
#: takes less than can be measured beside running it.
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "32"}


def limit_caches() -> None:
    """Bounds what is kept for shapes, unless the environment says otherwise.

    To be called before the first operator of oneDNN runs, which reads the environment.
    """
    for name, size in CACHES.items():
        os.environ.setdefault(name, size)


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
