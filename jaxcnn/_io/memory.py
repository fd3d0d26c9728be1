"""Large buffers that glibc gives back after every call, and how to keep them.

A compiled program asks for one buffer for everything between its steps (54 MB for a LeNet at
batch 128, 330 for a ResNet-20), and frees it when it is done. glibc serves so large a request with
fresh pages and returns them at once, so that every call pays again for each page of 4 kB that it
touches first: a quarter of a training step.

So :func:`keep_memory` changes three settings of the whole process:

    M_MMAP_MAX = 0             no request gets pages of its own
    M_TRIM_THRESHOLD = 1 GiB   up to that, freed memory is kept for the next request
    jax_cpu_enable_async_dispatch = False
                               a program on one CPU device runs in the thread that calls it:
                               glibc would still give fresh pages to large requests of other
                               threads. JAX reads this when it first looks for devices

The commands and the experiments call it; ``train.make_step`` and ``train.fit`` change the first
two, unless ``keep_memory(False)`` was said before. GPUs and TPUs, and programs over several
devices, run as before, and so does everything with other C libraries (macOS, musl, Windows). What
was measured: jaxcnn/kernels/README.md."""

import ctypes
import functools
import sys
import warnings
from collections.abc import Callable

import jax

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
KEPT, DEFAULT_TRIM, DEFAULT_MMAPS = 2**30, 128 * 2**10, 65536

_asked = False


def keep_memory(keep: bool = True) -> bool:
    """Keep freed memory for the next call or, with False, let glibc and JAX do as they do by
    themselves. Whether the C library took the setting.

    To be called before the first array: a RuntimeWarning says where it came too late for JAX.

    >>> from jaxcnn import keep_memory
    >>> keep_memory() in (True, False)  # doctest: +SKIP
    True
    """
    global _asked
    _asked = True
    if _mallopt() is None:
        return False
    if jax.config.values["jax_cpu_enable_async_dispatch"] == keep:
        if _jax_has_begun():
            warnings.warn(
                "keep_memory: JAX has its devices already, so that its setting no longer counts;"
                " call it before the first array",
                RuntimeWarning,
                stacklevel=2,
            )
        jax.config.update("jax_cpu_enable_async_dispatch", not keep)
    return _tell_malloc(keep)


def keep_freed() -> None:
    """The C library's part of :func:`keep_memory`, unless somebody has called that."""
    if not _asked:
        _tell_malloc(True)


def keep_in_time() -> None:
    """For a command: :func:`keep_memory`, or the C library's part of it where JAX has begun."""
    if _jax_has_begun():
        keep_freed()
    else:
        keep_memory()


def _tell_malloc(keep: bool) -> bool:
    trim, mmaps = (KEPT, 0) if keep else (DEFAULT_TRIM, DEFAULT_MMAPS)
    mallopt = _mallopt()
    return bool(mallopt and mallopt(M_MMAP_MAX, mmaps) and mallopt(M_TRIM_THRESHOLD, trim))


def _jax_has_begun() -> bool:
    """False where this JAX does not say."""
    told = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    return bool(told and told())


@functools.cache
def _mallopt() -> Callable[[int, int], int] | None:
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return None
