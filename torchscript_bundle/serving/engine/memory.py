"""Keep a worker's memory close to that of its weights."""

from __future__ import annotations

import ctypes
import gc
import os

#: Capacities of the caches of operators prepared for a shape, oneDNN's and torch's. Both are a
#: thousand by default: half a gigabyte for a BERT that has seen 200 shapes. Preparing one again
#: takes too little time to be measured beside running it.
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "32"}


def limit_caches() -> None:
    """Bound these caches by default, before the first operator of oneDNN reads the environment."""
    for name, size in CACHES.items():
        os.environ.setdefault(name, size)


def release_memory() -> None:
    """Return unused pages to the system, such as those of freed dense weights.

    After freeing a large block, glibc keeps blocks up to 32 MB on its heap (mallopt(3),
    M_MMAP_THRESHOLD), where freed weights would stay between packed ones.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        return  # another C library
