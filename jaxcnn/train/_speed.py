"""How fast a step is beside what the machine can do.

    share of peak = operations of a step · steps a second / operations a second of a large product

>>> import jax.numpy as jnp, jax
>>> flops(jax.jit(jnp.dot), jnp.ones((8, 16)), jnp.ones((16, 4)))
1024.0
>>> flops(jax.jit(lambda a: jax.lax.map(lambda row: row @ row, a)), jnp.ones((3, 5)))
30.0
"""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn._core.errors import check_counts, setting_error


def flops(step: jax.stages.Wrapped, *args: Any) -> float:
    """The floating-point operations in the products (matrix products, convolutions) of a call of a
    compiled function with these arguments (arrays, or ``jax.ShapeDtypeStruct``).

    Loops of known length count as often as they run; XLA's own count takes them once. Nothing is
    compiled."""
    return float(_products(step.trace(*args).jaxpr.jaxpr))


def _products(jaxpr: Any) -> int:
    """2 · multiplications, of all equations and what is inside them."""
    total = 0
    for equation in jaxpr.eqns:
        out = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * out * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            total += 2 * out * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
        inside = sum(_products(getattr(part, "jaxpr", part)) for part in _jaxprs(equation.params))
        total += (
            inside * equation.params.get("length", 1)
            if equation.primitive.name == "scan"
            else inside
        )
    return total


def _jaxprs(params: dict[str, Any]) -> list[Any]:
    """What an equation holds of further ones; of the branches of a ``cond`` the first."""
    values = [value[0] if name == "branches" else value for name, value in params.items()]
    return [value for value in values if hasattr(getattr(value, "jaxpr", value), "eqns")]


def measure_peak(*, size: int = 2048, seconds: float = 1.0, dtype: Any = jnp.float32) -> float:
    """Operations a second of a ``size`` × ``size`` product of ``dtype``, the best of about
    ``seconds`` seconds, on the first device.

    Raises ValueError for a ``size`` that is no integer ≥ 1, or ``seconds`` that are no number > 0.
    """
    check_counts("measure_peak", size=size)
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds < math.inf
    ):
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


@contextlib.contextmanager
def compilation() -> Iterator[list[float]]:
    """The seconds that XLA takes for each program that it compiles meanwhile."""
    found: list[float] = []

    def note(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
