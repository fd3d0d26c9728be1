"""Derivatives by finite differences, with an estimate of their own error, so that rounding never
decides.

A function of one real number is measured on a ladder of steps, each an eighth of the one before:
five-point central differences have an error of h⁴ from above, and of rounding / h from below. Where
two neighbouring steps agree best, the derivative is read, and how far they disagree (plus the
rounding that the values themselves must have) is its error. One-sided differences tell a kink:
there left and right slopes settle on different numbers.

>>> import numpy as np
>>> s = slope(lambda t: np.array([np.exp(t)]))
>>> bool(abs(s.value[0] - 1) <= 10 * s.error[0] < 1e-8)
True
>>> left, right = one_sided(lambda t: np.array([abs(t)]))
>>> float(left.value[0]), float(right.value[0])
(-1.0, 1.0)
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Measure = Callable[[float], np.ndarray]
LADDER = tuple(2.0**-k for k in range(4, 27, 3))
QUICK = LADDER[2], LADDER[5]  # the second one passes between the kinks of many units
EPS64 = float(np.finfo(np.float64).eps)


class Slope(NamedTuple):
    """A derivative and how far to trust it, elementwise."""

    value: np.ndarray
    error: np.ndarray


def slope(measure: Measure, *, eps: float = EPS64, floor: float | np.ndarray = 0.0) -> Slope:
    """d measure(t)/dt at t = 0 by central differences; ``eps`` is the precision that ``measure``
    computes in, ``floor`` the size of the terms it sums."""
    size = np.asarray(np.maximum(np.abs(measure(0.0)), floor))

    def at(h: float) -> np.ndarray:
        return np.asarray(
            (8 * (measure(h) - measure(-h)) - (measure(2 * h) - measure(-2 * h))) / (12 * h)
        )

    return _settle(at, size, eps)


def one_sided(
    measure: Measure, *, eps: float = EPS64, floor: float | np.ndarray = 0.0
) -> tuple[Slope, Slope]:
    """The slopes from the left and from the right."""
    middle = measure(0.0)
    size = np.asarray(np.maximum(np.abs(middle), floor))

    def at(h: float) -> np.ndarray:
        return np.asarray((4 * measure(h) - 3 * middle - measure(2 * h)) / (2 * h))

    return _settle(lambda h: at(-h), size, eps), _settle(at, size, eps)


def quick(measure: Measure, *, step: float = LADDER[2]) -> np.ndarray:
    """The central difference at one step, without an error: enough where it agrees with what is
    expected, at any of QUICK."""
    return np.asarray(
        (8 * (measure(step) - measure(-step)) - (measure(2 * step) - measure(-2 * step)))
        / (12 * step)
    )


def _settle(at: Callable[[float], np.ndarray], size: np.ndarray, eps: float) -> Slope:
    """The value where neighbouring steps agree best."""
    values = np.stack([np.asarray(at(h), np.float64) for h in LADDER])
    rounding = np.stack([4 * eps * size / h for h in LADDER])
    gaps = np.abs(np.diff(values, axis=0))
    # A step is judged by both neighbours: one chance agreement does not settle it
    apart = np.stack(
        [np.maximum(gaps[max(i - 1, 0)], gaps[min(i, len(gaps) - 1)]) for i in range(len(values))]
    )
    errors = np.where(np.isfinite(values) & np.isfinite(apart), apart + rounding, np.inf)
    best = np.expand_dims(errors.argmin(0), 0)
    return Slope(
        np.asarray(np.take_along_axis(values, best, 0)[0]),
        np.asarray(np.take_along_axis(errors, best, 0)[0]),
    )
