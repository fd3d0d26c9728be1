"""How fast a step is beside what the machine can do.

    share of peak = floating-point operations of a step · steps a second / operations a second of a large product

>>> import jax.numpy as jnp, jax
>>> flops(jax.jit(jnp.dot), jnp.ones((8, 16)), jnp.ones((16, 4)))
1024.0
"""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.errors import check_counts, setting_error


def flops(step: jax.stages.Wrapped, *args: Any) -> float | None:
    """The floating-point operations of a call of a compiled function, as XLA counts them in the program for these arguments (arrays, or ``jax.ShapeDtypeStruct``); None where it does not say.

    It compiles the function once more. What is in a loop counts once (a model with ``repeat``, a step with ``microbatch``), and calls into other libraries may not count at all.
    """
    counted = step.lower(*args).compile().cost_analysis() or {}
    return float(counted["flops"]) if counted.get("flops", 0) > 0 else None


def measure_peak(*, size: int = 2048, seconds: float = 1.0, dtype: Any = jnp.float32) -> float:
    """Operations a second of a ``size`` × ``size`` product of ``dtype``, the best of about ``seconds`` seconds, on the first device.

    Raises ValueError for a ``size`` that is no integer ≥ 1, or ``seconds`` that are no number > 0.
    """
    check_counts("measure_peak", size=size)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise setting_error("measure_peak", "seconds", "a number > 0", seconds)
    a = jnp.full((size, size), 1 / size, dtype)
    product = jax.jit(jnp.dot)
    last = product(a, a).block_until_ready()
    best, count, left = 0.0, 1, seconds
    while left > 0:
        start = time.perf_counter()
        for _ in range(count):
            last = product(a, a)
        last.block_until_ready()
        passed = time.perf_counter() - start
        best = max(best, count * 2 * size**3 / passed)
        left -= passed
        if passed < seconds / 8:  # so short a time is half dispatch
            count *= 2
    return best
