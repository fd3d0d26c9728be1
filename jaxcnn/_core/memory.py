"""Large buffers that glibc gives back after every call, and how to keep them.

A compiled program asks for one buffer for all that lies between its steps (54 MB for a LeNet at
batch 128, 330 for a ResNet-20), and frees it when it is done. glibc serves so large a request with
fresh pages and returns them at once, so that every call pays again for each page of 4 kB that it
touches first: a quarter of a training step.

So, when the convolutions are first imported, three settings of the whole process are changed:

    M_MMAP_MAX = 0               no request gets pages of its own
    M_TRIM_THRESHOLD = 1 GiB     so much freed memory is kept for the next request
    jax_cpu_enable_async_dispatch = False     a program on one CPU device runs in the thread that calls it: glibc would still give fresh pages to large requests of other threads.
                                 JAX reads this when it first looks for devices, so that it counts for programs that import before they compute

GPUs and TPUs, and programs over several devices, run as before. Who wants it otherwise says
``jaxcnn.keep_memory(False)`` first of all. Other C libraries (macOS, musl, Windows) are left alone.
What was measured: kernels/README.md.

>>> keep_memory() in (True, False)
True
"""

import ctypes
import functools
from collections.abc import Callable

import jax

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
KEPT, DEFAULT_TRIM, DEFAULT_MMAPS = 2**30, 128 * 2**10, 65536

_asked = False


def keep_memory(keep: bool = True) -> bool:
    """Keep freed memory for the next call or, with False, let glibc and JAX do as they do by
    themselves. Whether the C library could be told."""
    global _asked
    _asked = True
    mallopt = _mallopt()
    if mallopt is None:
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", not keep)
    trim, mmaps = (KEPT, 0) if keep else (DEFAULT_TRIM, DEFAULT_MMAPS)
    return bool(mallopt(M_MMAP_MAX, mmaps) and mallopt(M_TRIM_THRESHOLD, trim))


def keep_unless_refused() -> None:
    """:func:`keep_memory`, unless someone has called it with what they want."""
    if not _asked:
        keep_memory()


@functools.cache
def _mallopt() -> Callable[[int, int], int] | None:
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return None
