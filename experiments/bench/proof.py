"""Nobody is timed before what they compute is known to be right: the loss and all gradients, beside
those of the plain network in float64.

Of a ReLU's twenty million inputs in ResNet-20 a dozen are so close to 0 that float32 sees another
sign than float64, and each of those moves gradients by about a hundredth. So a peer may be off by
the tolerance, and by so much more as the float64 gradients themselves move when every parameter is
nudged by a millionth."""

import math
from typing import NamedTuple

import numpy as np

from experiments.bench.data import GRADIENT, Arrays

VALUE_TOLERANCE = 1e-4  # of the largest value
GRADIENT_TOLERANCE = 1e-3  # of the array's largest value
SLACK = 3.0  # how many times the move at a nudge is allowed: which inputs change sign is chance


class Truth(NamedTuple):
    """What must come out, and how far a peer may be off."""

    arrays: Arrays
    value_allowed: float = VALUE_TOLERANCE
    gradient_allowed: float = GRADIENT_TOLERANCE


class Verdict(NamedTuple):
    """The errors (None where there is nothing to compare, or nothing finite), and why the peer is
    not timed, if so."""

    value_error: float | None = None
    gradient_error: float | None = None
    refused: str = ""


def make_truth(arrays: Arrays, nudged: Arrays) -> Truth:
    """From what float64 computes, with the parameters as they are and nudged."""
    return Truth(
        arrays,
        VALUE_TOLERANCE + SLACK * (_worst(nudged, arrays, _values(arrays)) or 0.0),
        GRADIENT_TOLERANCE + SLACK * (_worst(nudged, arrays, _gradients(arrays)) or 0.0),
    )


def judge(got: Arrays, truth: Truth) -> Verdict:
    """``got`` must have all the arrays that it should, and be close."""
    wanted = truth.arrays
    if set(got) != set(wanted):
        lacks, strange = (
            "; ".join(sorted(names)) or "nothing"
            for names in (wanted.keys() - got, got.keys() - wanted)
        )
        return Verdict(
            refused=f"not timed: it lacks {lacks}, and has {strange} that was not asked for"
        )
    values, gradients = (
        _worst(got, wanted, _values(wanted)),
        _worst(got, wanted, _gradients(wanted)),
    )
    refused = ""
    for what, off, allowed in (
        ("value", values, truth.value_allowed),
        ("gradient", gradients, truth.gradient_allowed),
    ):
        if off is not None and not off <= allowed:
            refused = f"not timed: its {what} is off by {off:.1e}, more than {allowed:.0e}"
    return Verdict(_finite(values), _finite(gradients), refused)


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, as a share of the largest value; infinite where shapes differ or
    something is not finite."""
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return math.inf
    largest = float(np.abs(wanted).max(initial=0))
    return float(np.abs(got - wanted).max(initial=0)) / (largest or 1.0)


def _worst(got: Arrays, wanted: Arrays, names: list[str]) -> float | None:
    return max((error(got[name], wanted[name]) for name in names), default=None)


def _values(arrays: Arrays) -> list[str]:
    return [name for name in arrays if not name.startswith(GRADIENT)]


def _gradients(arrays: Arrays) -> list[str]:
    return [name for name in arrays if name.startswith(GRADIENT)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
